"""Report everything that is wrong with the referrals' settings, at once, each by an id of its own.

Errors E001 to E009 are those of the settings, see conf.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage
from django.core.checks import register as register_check

from ..checks import against_rules
from .conf import settings

__all__ = ["check_settings", "register"]


def register() -> None:
    """Register the check."""
    register_check(check_settings, "affiliations")


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Hold every setting of the referrals against its rule."""
    return against_rules(settings)
