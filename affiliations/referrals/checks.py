"""Report everything that is wrong with the referrals' settings, at once, each by an id of its own.

Errors E001 to E009 are those of the settings, see conf.py. The rest:

- E010: AFFILIATE_REFERRALS_USER_HASH does not resolve
- E011: AFFILIATE_REFERRALS_KEY is the partners' key
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error
from django.core.checks import register as register_check

from ..checks import against_rules, resolves
from ..conf import settings as core
from .conf import settings

__all__ = ["check_settings", "register"]


def register() -> None:
    """Register the check."""
    register_check(check_settings, "affiliations")


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Hold every setting of the referrals against its rule."""
    found = against_rules(settings)
    path = settings.REFERRALS_USER_HASH
    if isinstance(path, str) and "." in path.strip("."):
        name = "AFFILIATE_REFERRALS_USER_HASH"
        found += resolves(path, name, "affiliations_referrals.E010", callable)
    if settings.REFERRALS_KEY == core.QUERY_STRING_KEY:
        message = (
            f"AFFILIATE_REFERRALS_KEY is AFFILIATE_QUERY_STRING_KEY, {core.QUERY_STRING_KEY!r}."
        )
        hint = "A code of a member's would be taken for a partner: give one of them another name."
        found.append(Error(message, hint=hint, id="affiliations_referrals.E011"))
    return found
