"""Report everything that is wrong with the rewards' settings, at once, each by an id of its own.

Errors E001 to E009 are those of the settings, see conf.py. The rest:

- E010: an item of AFFILIATE_FLAGS does not resolve, or to nothing that can be asked
- W011: the database lets the ledger be changed
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Tags, Warning
from django.core.checks import register as register_check
from django.db import DatabaseError, connections

from ..checks import against_rules, resolves
from . import protection
from .conf import paths, settings

__all__ = ["check_protection", "check_settings", "register"]


def register() -> None:
    """Register the checks."""
    register_check(check_settings, "affiliations")
    register_check(check_protection, Tags.database)


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Hold every setting of the rewards against its rule."""
    found = against_rules(settings)
    if not paths(settings.FLAGS):
        for position, flag in enumerate(settings.FLAGS):
            where = f"AFFILIATE_FLAGS[{position}]"
            found += resolves(flag, where, "affiliations_rewards.E010", _is_flag)
    return found


def check_protection(
    app_configs: Sequence[AppConfig] | None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """See that the database refuses to change the ledger: a copy of one may lack its triggers."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        connection = connections[alias]
        try:
            tables = connection.introspection.table_names()
            if protection.TABLES[0] not in tables or protection.is_installed(connection):
                continue
        except DatabaseError:
            continue
        message = f"In the database {alias!r} lines of the ledger can be changed and deleted."
        hint = "Its triggers are missing: `manage.py migrate` makes them anew."
        found.append(Warning(message, hint=hint, id="affiliations_rewards.W011"))
    return found


def _is_flag(value: Any) -> bool:
    """Tell whether it can be called; what a coroutine function returns, nobody would await."""
    return callable(value) and not inspect.iscoroutinefunction(value)
