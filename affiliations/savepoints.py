"""Keep what goes wrong in here from harming the transaction of the site's that it happens in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import Error, connections, transaction

__all__ = ["guarded", "is_lost", "lazy"]

logger = logging.getLogger(__name__)


def guarded(action: Callable[[], Any], complaint: str, using: str) -> Any:
    """Do something in a savepoint on the database `using`; log a failure, and answer None.

    The failure is raised after all where the database has taken it as a reason to undo everything.
    """
    try:
        with transaction.atomic(using=using):
            return action()
    except Exception:
        if is_lost(using):
            raise
        logger.exception(complaint)
        return None


def is_lost(using: str) -> bool:
    """Tell whether the database has ended the caller's transaction, as MariaDB does in a deadlock.

    What the caller wrote before is undone then. It must hear of it, and not go on to tell a
    customer that the order is placed.
    """
    connection = connections[using]
    return bool(connection.in_atomic_block and connection.needs_rollback)


@contextmanager
def lazy(using: str) -> Iterator[None]:
    """Guard the caller's transaction by a savepoint that is made at the first query, if any.

    Most signals concern nobody's partner: they must not cost the two queries of a savepoint.
    """
    connection = connections[using]
    if not connection.in_atomic_block:
        yield
        return
    sid = None

    def at_first_query(execute: Any, *args: Any) -> Any:
        nonlocal sid
        if sid is None:
            sid = ""  # so that the savepoint's own query passes
            sid = connection.savepoint()
        return execute(*args)

    try:
        with connection.execute_wrapper(at_first_query):
            yield
    except Exception:
        if sid:
            # A failed query has marked the transaction as broken; up to the savepoint it is not.
            connection.set_rollback(False)
            try:
                connection.savepoint_rollback(sid)
            except Error:
                # There is no savepoint any more, because there is no transaction.
                connection.set_rollback(True)
        raise
    if sid:
        connection.savepoint_commit(sid)
