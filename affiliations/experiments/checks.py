"""Report everything that is wrong with the experiments' settings, at once, each by its id.

- E001, E003, E004: a setting breaks its rule, see conf.py
- E002: what visitors are put into buckets by is not installed
- E005: AFFILIATE_EXPERIMENTS_CONTEXT does not resolve
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error
from django.core.checks import register as register_check

from ..checks import against_rules, resolves
from .conf import settings

__all__ = ["INSTALL", "check_settings", "register"]

INSTALL = "pip install django-affiliations[experiments]"


def register() -> None:
    """Register the checks."""
    register_check(check_settings, "affiliations")


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Hold every setting against its rule, and look for what there has to be."""
    found = against_rules(settings)
    hook = settings.EXPERIMENTS_CONTEXT
    if isinstance(hook, str) and "." in hook.strip("."):
        name = "AFFILIATE_EXPERIMENTS_CONTEXT"
        found += resolves(hook, name, "affiliations_experiments.E005", callable)
    if find_spec("mmh3") is None:
        message = "affiliations.experiments is installed, and mmh3 is not."
        found.append(Error(message, hint=INSTALL, id="affiliations_experiments.E002"))
    return found
