"""Report everything that is wrong with the rewards' settings, at once, each by an id of its own.

Errors E001 to E009 are those of the settings, see conf.py. The rest:

- E010: an item of AFFILIATE_FLAGS does not resolve, or to nothing that can be asked
- W011: the database lets the ledger be changed
- E012: the database's transactions do not see what they have waited for
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, Warning
from django.core.checks import register as register_check
from django.db import DatabaseError, connections

from .. import isolation
from ..checks import against_rules, resolves
from . import protection
from .conf import paths, settings

__all__ = ["check_database", "check_settings", "register"]


def register() -> None:
    """Register the checks."""
    register_check(check_settings, "affiliations")
    register_check(check_database, Tags.database)


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Hold every setting of the rewards against its rule."""
    found = against_rules(settings)
    if not paths(settings.FLAGS):
        for position, flag in enumerate(settings.FLAGS):
            where = f"AFFILIATE_FLAGS[{position}]"
            found += resolves(flag, where, "affiliations_rewards.E010", _is_flag)
    return found


def check_database(
    app_configs: Sequence[AppConfig] | None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """See that the database refuses to change the ledger, and lets nobody spend twice."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        connection = connections[alias]
        try:
            if protection.TABLES[0] not in connection.introspection.table_names():
                continue
            # A copy of a database may lack them.
            is_installed = protection.is_installed(connection)
            problem = isolation.problem_of(connection)
        except DatabaseError:
            continue
        if not is_installed:
            message = f"In the database {alias!r} lines of the ledger can be changed and deleted."
            hint = "Its triggers are missing, or old: `manage.py migrate` makes them anew."
            found.append(Warning(message, hint=hint, id="affiliations_rewards.W011"))
        if problem:
            hint = "Leave isolation_level out of its OPTIONS, or say that it is READ COMMITTED."
            found.append(Error(problem, hint=hint, id="affiliations_rewards.E012"))
    return found


def _is_flag(value: Any) -> bool:
    """Tell whether it can be called; what a coroutine function returns, nobody would await."""
    return callable(value) and not inspect.iscoroutinefunction(value)
