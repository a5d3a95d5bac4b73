"""Report everything that is wrong with the attribution's settings, at once, each by its id.

- E001 to E005: a setting breaks its rule, see conf.py
- E006: Ibis, or DuckDB, is not installed
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error
from django.core.checks import register as register_check

from ..checks import against_rules
from .conf import settings

__all__ = ["INSTALL", "check_settings", "missing", "register"]

NEEDED = ("ibis", "duckdb")
INSTALL = "pip install django-affiliations[attribution]"


def register() -> None:
    """Register the checks."""
    register_check(check_settings, "affiliations")


def missing() -> list[str]:
    """Return what reports are made with and is not installed."""
    return [each for each in NEEDED if find_spec(each) is None]


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Hold every setting against its rule, and look for what reports are made with."""
    found = against_rules(settings)
    for each in missing():
        message = f"affiliations.attribution is installed, and {each} is not."
        found.append(Error(message, hint=INSTALL, id="affiliations_attribution.E006"))
    return found
