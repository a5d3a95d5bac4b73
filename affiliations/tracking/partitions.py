"""The months that the table of hits is parted by, where the database is PostgreSQL.

A month has a part of its own; what belongs to none that there is lies in the rest. Nothing depends
on it but how fast one finds and lets go.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar

from django.db import OperationalError, connections, transaction
from django.utils import timezone

from .models import Hit

__all__ = ["Part", "are_there", "drop_before", "listed", "make", "months"]

T = TypeVar("T")

#: Milliseconds to wait for a table: so long nobody else gets at it. Then others have their turn.
LONGEST = 500
TRIES, PAUSE = 20, 1.0
#: SQLSTATE of a lock that was not had in time, and of a deadlock.
BUSY = frozenset({"55P03", "40P01"})
TABLE = Hit._meta.db_table
REST = f"{TABLE}_rest"
_NAME = re.compile(rf"{TABLE}_y(?P<year>[0-9]{{4}})m(?P<month>[0-9]{{2}})")


class Part(NamedTuple):
    """A part of the table: a month's, or the rest, which has no month."""

    name: str
    month: datetime | None
    #: As the database estimates them, and what they take of its disk, with their indexes.
    hits: int
    bytes: int


def are_there(using: str) -> bool:
    """Tell whether a database parts the table."""
    if connections[using].vendor != "postgresql":
        return False
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_partitioned_table WHERE partrelid = %s::regclass", [TABLE])
        return cursor.fetchone() is not None


def month_of(moment: datetime) -> datetime:
    """Return the beginning of a moment's month, in UTC."""
    return _aware(moment).astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _aware(moment: datetime) -> datetime:
    # By the site's clock, which the database's connection has too.
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


def following(month: datetime) -> datetime:
    """Return the month after one."""
    year, before = divmod(month.year * 12 + month.month, 12)
    return month.replace(year=year, month=before + 1)


def months(since: datetime, number: int) -> list[datetime]:
    """Return so many months, the first of them that of a moment."""
    found = [month_of(since)]
    while len(found) < number:
        found.append(following(found[-1]))
    return found


def name_of(month: datetime) -> str:
    """Return what a month's part is called."""
    return f"{TABLE}_y{month:%Y}m{month:%m}"


def listed(using: str) -> list[Part]:
    """Return the parts that there are, the oldest first and the rest last."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, GREATEST(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid)"
            " FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = %s::regclass",
            [TABLE],
        )
        rows = cursor.fetchall()
    parts = [Part(name, _month(name), hits, size) for name, hits, size in rows]
    last = datetime.max.replace(tzinfo=UTC)
    return sorted(parts, key=lambda each: (each.month or last, each.name))


def _month(name: str) -> datetime | None:
    match = _NAME.fullmatch(name)
    return datetime(int(match["year"]), int(match["month"]), 1, tzinfo=UTC) if match else None


def missing(wanted: list[datetime], using: str) -> list[datetime]:
    """Return those of some months, and of the hits that lie in the rest, that have no part."""
    there = {each.month for each in listed(using)}
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT date_trunc('month', happened_on, 'UTC') FROM {REST}"  # noqa: S608 # nosec B608
        )
        lying = [month_of(each) for (each,) in cursor.fetchall()]
    return sorted({*wanted, *lying} - there)


def make(month: datetime, using: str) -> int:
    """Make a month's part, and move there what lies in the rest; return how many hits that were.

    New hits wait meanwhile: for a moment, where none lie there yet. Everything happens or nothing.
    """
    name, until = name_of(month), following(month)
    return _in_turn(lambda: _make(name, month, until, using), using)


def _make(name: str, month: datetime, until: datetime, using: str) -> int:
    columns = ", ".join(f'"{each.column}"' for each in Hit._meta.concrete_fields)
    bounds = [month, until]
    with connections[using].cursor() as cursor:
        _hold(cursor)
        cursor.execute(
            f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
        )
        cursor.execute(
            f"WITH moved AS (DELETE FROM {REST} WHERE happened_on >= %s AND happened_on < %s"  # noqa: S608 # nosec B608
            f" RETURNING {columns}) INSERT INTO {name} ({columns}) SELECT {columns} FROM moved",
            bounds,
        )
        moved = cursor.rowcount
        # Its indexes are made by that, like those of the whole.
        cursor.execute(
            f"ALTER TABLE {TABLE} ATTACH PARTITION {name} FOR VALUES"
            f" FROM ('{month.isoformat()}') TO ('{until.isoformat()}')"
        )
    return int(moved)


def _hold(cursor: Any) -> None:
    # Whoever writes has to wait before it has chosen the part: one that has chosen the rest, and
    # waits for that, would be told that the hit does not belong there any more.
    cursor.execute(f"LOCK TABLE ONLY {TABLE} IN SHARE ROW EXCLUSIVE MODE")
    cursor.execute(f"LOCK TABLE {REST} IN ACCESS EXCLUSIVE MODE")


def drop_before(moment: datetime, using: str, *, dry_run: bool = False) -> list[Part]:
    """Drop the parts of which all is older than a moment; return them."""
    old = [
        each
        for each in listed(using)
        if each.month is not None and following(each.month) <= _aware(moment)
    ]
    for each in [] if dry_run else old:
        _in_turn(partial(_drop, each.name, using), using)
    return old


def _drop(name: str, using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(f"DROP TABLE {name}")


def _in_turn(action: Callable[[], T], using: str) -> T:
    """Do something that needs a table for itself, and let nobody wait long behind it for that."""
    for left in range(TRIES - 1, -1, -1):
        try:
            with transaction.atomic(using=using):
                with connections[using].cursor() as cursor:
                    cursor.execute(f"SET LOCAL lock_timeout = {LONGEST}")
                return action()
        except OperationalError as error:
            if not left or getattr(error.__cause__, "sqlstate", "") not in BUSY:
                raise
        time.sleep(PAUSE)
    raise AssertionError("the last try returns or raises")
