"""Report everything that is wrong with the links' settings, at once, each by an id of its own.

Errors E001 to E009, and E012, are those of the settings, see conf.py. The rest:

- E010: AFFILIATE_LINKS_PURCHASED does not resolve
- E013: AFFILIATE_LINKS_LANDING_PAGE does not resolve
- W011: the gate goes by the Referer alone, and there is none that it would open for
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Warning
from django.core.checks import register as register_check

from ..checks import against_rules, resolves
from .conf import settings

__all__ = ["check_settings", "register"]


def register() -> None:
    """Register the check."""
    register_check(check_settings, "affiliations")


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Hold every setting of the links against its rule."""
    found = against_rules(settings)
    for hook, name, check_id in (
        (settings.LINKS_PURCHASED, "AFFILIATE_LINKS_PURCHASED", "affiliations_links.E010"),
        (settings.LINKS_LANDING_PAGE, "AFFILIATE_LINKS_LANDING_PAGE", "affiliations_links.E013"),
    ):
        if isinstance(hook, str) and "." in hook.strip("."):
            found += resolves(hook, name, check_id, callable)
    if settings.LINKS_GATE == "referer" and not settings.LINKS_REFERERS:
        message = "AFFILIATE_LINKS_GATE is 'referer', and AFFILIATE_LINKS_REFERERS is empty."
        hint = "No click is ever recorded. Name the hosts that the network's links lead from."
        found.append(Warning(message, hint=hint, id="affiliations_links.W011"))
    return found
