"""Refuse databases in which whoever has waited for a lock does not see what it was held for.

Two transactions that spend from one account wait for each other, and each then counts what is left.
Under REPEATABLE READ the second one would count what was there before it had to wait. It is the
same with two that make one person of several customers.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

__all__ = ["hold_to", "problem_of"]

#: By the database's vendor, the levels in which a lock is in vain. Under SERIALIZABLE the database
#: itself ends one of the two.
BLIND = {
    "postgresql": frozenset({"repeatable read"}),
    "mysql": frozenset({"repeatable read", "read uncommitted"}),
}
#: How to ask for the level of a transaction.
ASK = {
    "postgresql": "SHOW transaction_isolation",
    # Which of the two there is depends on the version.
    "mysql": "SHOW VARIABLES WHERE Variable_name IN ('transaction_isolation', 'tx_isolation')",
}


def hold_to(connection: Any) -> None:
    """Raise ImproperlyConfigured where a connection was opened with a level that is of no use."""
    if connection.vendor not in BLIND:
        return
    level = connection.isolation_level
    # MariaDB's and MySQL's own, where Django is told to leave it at that.
    level = str(getattr(level, "name", level or "repeatable read")).replace("_", " ").lower()
    if level in BLIND[connection.vendor]:
        raise ImproperlyConfigured(_problem(connection, level))


def problem_of(connection: Any) -> str:
    """Return what is wrong with the level that a database's transactions have, "" if nothing."""
    if connection.vendor not in ASK:
        return ""
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(ASK[connection.vendor])
        level = cursor.fetchone()[-1].replace("-", " ").lower()
    return _problem(connection, level) if level in BLIND[connection.vendor] else ""


def _problem(connection: Any, level: str) -> str:
    return (
        f"The transactions of the database {connection.alias!r} are {level.upper()}, in which a "
        "lock is in vain: credits could be spent twice, and one person be two customers."
    )
