"""Keep what goes wrong in here from harming the transaction of the site's that it happens in."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

from django.db import Error, OperationalError, connections, transaction

__all__ = ["guarded", "is_lost", "lazy", "retried"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Times that a transaction is tried which others were in the way of, and the longest pause. Sixteen
#: processes that want the same few rows are in each other's way six times in a row, now and then.
TRIES, PAUSE = 20, 0.05
#: SQLSTATE of a failed serialization and of a deadlock; MariaDB's numbers of a changed row, of a
#: lock that was not had in time, of a deadlock, and of one about the numbers of new rows.
CONFLICTS = frozenset({"40001", "40P01", 1020, 1205, 1213, 1467})


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


def retried(action: Callable[[], T], using: str, *, atomic: bool = True) -> T:
    """Do something in a transaction on `using`, again where another one was in its way.

    Within a transaction of the caller's it is done once: what came before could not be repeated.
    What may as well be done twice in part is asked for without `atomic`, and has no transaction.
    """
    guard = partial(transaction.atomic, using=using) if atomic else nullcontext
    if connections[using].in_atomic_block:
        with guard():
            return action()
    for left in range(TRIES - 1, -1, -1):
        try:
            with guard():
                return action()
        except OperationalError as error:
            if not left or not _is_conflict(error):
                raise
        time.sleep(random.uniform(0, PAUSE))  # noqa: S311
    raise AssertionError("the last try returns or raises")


def _is_conflict(error: OperationalError) -> bool:
    cause = error.__cause__
    codes = {getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None), *error.args[:1]}
    return bool(codes & CONFLICTS) or "database is locked" in str(error)


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
