"""Report everything that is wrong with the rewards' settings, at once, each by an id of its own.

Errors E001 to E009 are those of the settings, see conf.py. The rest:

- E010: an item of AFFILIATE_FLAGS does not resolve, or to nothing that can be asked
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage
from django.core.checks import register as register_check

from ..checks import against_rules, resolves
from .conf import paths, settings

__all__ = ["check_settings", "register"]


def register() -> None:
    """Register the check."""
    register_check(check_settings, "affiliations")


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Hold every setting of the rewards against its rule."""
    found = against_rules(settings)
    if not paths(settings.FLAGS):
        for position, flag in enumerate(settings.FLAGS):
            where = f"AFFILIATE_FLAGS[{position}]"
            found += resolves(flag, where, "affiliations_rewards.E010", _is_flag)
    return found


def _is_flag(value: Any) -> bool:
    """Tell whether it can be called; what a coroutine function returns, nobody would await."""
    return callable(value) and not inspect.iscoroutinefunction(value)
