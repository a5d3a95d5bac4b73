"""Let nobody write more often than AFFILIATE_TRACKING_LIMITS says: not once more, and none less.

    taken = take("address", network)
    if taken.wait: ...  # for so many seconds

A period begins with the first use in it. What is left of it is counted by the database, of which
a process takes a few at once, and fewer the less is left: within these it asks no more. It never
gives out more than there are. What a process has taken and nobody has asked it for is lost with the
period: never more than a sixteenth of what was left, nor much more than it has spent before.

Where the database cannot be asked, nobody is held up, and the log says so: mostly nothing can be
written then either.
"""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple
from uuid import UUID

from django.db import DatabaseError, Error, connections, models, router
from django.utils.crypto import salted_hmac
from django.views.decorators.debug import sensitive_variables

from .. import addresses
from ..models.partners import site_keys
from ..savepoints import retried
from .conf import Rate, rate_of
from .models import Allowance

__all__ = ["Taken", "address_of", "forget", "give_back", "purge", "take", "take_of"]

logger = logging.getLogger(__name__)

#: Whoever has a network of IPv6 has all of its addresses.
PREFIXES = {4: 32, 6: 64}
SALT = "affiliations.tracking.limits.v1"
#: What is taken at once: at first, and as a part of what is left.
FIRST, PART = 16, 16
#: Of whom a process remembers what it has taken, and that nothing is left; who was here longest ago
#: goes first, so strangers' inventions cost a query at worst.
SIZE = 10_000
#: Times that others may have been faster, each of whom has taken some of what is left.
TURNS = 100
#: Seconds for which the database is not asked again after it could not be.
PAUSE = 1.0
#: Rows that are deleted at once, and milliseconds for which they are kept after their end: clocks
#: of machines differ.
BATCH, KEPT = 1000, 86_400_000

Key = tuple[str, Rate, str]


@dataclass(slots=True)
class Lease:
    """What a process has taken of a period, and not spent."""

    left: int
    #: How much was taken the last time; 0 where nothing more is to be had.
    size: int
    #: When the period ends, by `time.monotonic`.
    until: float


class Taken(NamedTuple):
    """Whether one was taken: `wait` is 0, or for how many seconds nothing is left."""

    wait: int
    #: Of which it was taken, if of any.
    lease: Lease | None = None


_leases: dict[Key, Lease] = {}
_lock = Lock()
_paused_until = 0.0


def address_of(request: Any) -> str:
    """Return whom a limit by address holds: the network of a request, "" for nobody.

    Goes by REMOTE_ADDR, which a site behind a proxy has to set itself. An address that is not of
    the public Internet is a proxy's, or the site's own: everybody behind it would be one.
    """
    return _network(request.META.get("REMOTE_ADDR", ""))


@lru_cache(maxsize=1024)
def _network(text: str) -> str:
    return addresses.public_network(text, PREFIXES)


def take(limit: str, whose: str, *, by: str = "") -> Taken:
    """Take one of what somebody may do within a limit of LIMITS; nobody is held to none.

    With `by` it is counted apart. No query where the process has some left, or knows that there is
    nothing; else one for whoever is new, and two for others.
    """
    return take_of(rate_of(limit), by or limit, whose)


def take_of(rate: Rate | None, limit: str, whose: str) -> Taken:
    """Take one as `take` does, of a rate of another app's."""
    if rate is None or not whose:
        return Taken(0)
    key = (limit, rate, whose)
    with _lock:
        lease = _leases.get(key)
        size = lease.size if lease else 0
        if lease and lease.until > time.monotonic() and (lease.left or not size):
            return _one_of(key, lease)
    if time.monotonic() < _paused_until:
        return Taken(0)
    try:
        drawn = _draw(_digest(f"{limit} {whose}"), rate, size, is_new=lease is None)
    except Error:
        _pause()
        return Taken(0)
    with _lock:
        return _one_of(key, _merged(key, drawn))


def give_back(taken: Taken) -> None:
    """Give back what was taken, if its period has not ended."""
    with _lock:
        if taken.lease is not None:
            # The next period has a lease of its own.
            taken.lease.left += 1


def forget() -> None:
    """Spend nothing more of what was taken; for tests, and for a process that was forked."""
    global _lock, _paused_until
    _lock, _paused_until = Lock(), 0.0
    _leases.clear()


def purge() -> None:
    """Delete what has ended, in batches."""
    using = router.db_for_write(Allowance)
    before = time.time() * 1000 - KEPT
    rows = Allowance.objects.using(using).filter(ends__lt=before)
    while digests := list(rows.values_list("pk", flat=True)[:BATCH]):
        # Asked again, as a period may have begun since.
        rows.filter(pk__in=digests).delete()


def _one_of(key: Key, lease: Lease) -> Taken:
    """Take one of a lease, which is the one that was used last now."""
    _leases.pop(key, None)
    _leases[key] = lease
    if len(_leases) > SIZE:
        del _leases[next(iter(_leases))]
    if lease.left:
        lease.left -= 1
        return Taken(0, lease)
    return Taken(max(1, math.ceil(lease.until - time.monotonic())))


def _merged(key: Key, drawn: Lease) -> Lease:
    """Return what a process has now that it has taken more: another thread may have, too."""
    known, now = _leases.get(key), time.monotonic()
    if known is None or known.until <= now:
        return drawn
    # Both are of one period where none has ended. Of one that has, nothing is left.
    if drawn.until > now:
        known.left += drawn.left
        known.size = known.size and drawn.size
        known.until = min(known.until, drawn.until)
    return known


def _pause() -> None:
    global _paused_until  # noqa: PLW0603
    _paused_until = time.monotonic() + PAUSE
    logger.exception("It cannot be told who writes too often: nobody is held up")


def _draw(digest: UUID, rate: Rate, size: int, *, is_new: bool) -> Lease:
    """Take some of what is left by the database: twice as many as the last time, if there are."""
    using = router.db_for_write(Allowance)
    rows = Allowance.objects.using(using).filter(pk=digest)
    period = rate.seconds * 1000
    clock = models.Func(
        template=_NOW[connections[using].vendor], output_field=models.BigIntegerField()
    )
    for _ in range(TURNS):
        # From before the database's moment, which is cut to milliseconds: no lease outlives its
        # period.
        asked = time.monotonic() - 0.001
        whole = _part(rate.number, size)
        if is_new and _add(digest, whole, period, using):
            return Lease(whole, whole, asked + rate.seconds)
        found = rows.annotate(now=clock).values_list("used", "ends", "now").first()
        is_new = found is None
        if found is None:
            continue
        used, ends, now = found
        # One that would end later is none: the clock was put back, or the period made shorter.
        if now < ends <= now + period:
            left = rate.number - used
            if left <= 0:
                return Lease(0, 0, asked + (ends - now) / 1000)
            taken = _part(left, size)
            same = rows.filter(ends=ends, used__lte=rate.number - taken)
            is_mine = _changed(same, using, used=models.F("used") + taken)
        else:
            taken, ends, same = whole, now + period, rows.filter(ends=ends)
            is_mine = _changed(same, using, used=taken, ends=ends)
        if is_mine:
            return Lease(taken, taken, asked + (ends - now) / 1000)
    raise DatabaseError("others have been faster each time")


def _part(left: int, size: int) -> int:
    return max(1, min(left // PART, 2 * size or FIRST))


def _changed(rows: models.QuerySet[Allowance], using: str, **fields: Any) -> bool:
    return bool(retried(lambda: rows.update(**fields), using))


def _add(digest: UUID, taken: int, period: int, using: str) -> bool:
    """Begin somebody's first period; return whether nobody else has."""
    connection = connections[using]
    field: Any = Allowance._meta.pk
    params = [field.get_db_prep_save(digest, connection), taken, period]

    def add() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(_ADD[connection.vendor], params)
            return bool(cursor.rowcount)

    return retried(add, using)


@sensitive_variables()
def _digest(text: str) -> UUID:
    told = salted_hmac(SALT, text, secret=site_keys()[0], algorithm="sha256").digest()
    # With a version: MariaDB takes others for no UUID at all.
    return UUID(bytes=told[:16], version=5)


#: Milliseconds since 1970, at the statement's moment or after it.
_NOW = {
    "postgresql": "CAST(FLOOR(EXTRACT(EPOCH FROM CLOCK_TIMESTAMP()) * 1000) AS bigint)",
    "sqlite": "CAST((JULIANDAY('now') - 2440587.5) * 86400000 AS integer)",
    "mysql": "CAST(UNIX_TIMESTAMP() * 1000 + FLOOR(MICROSECOND(NOW(6)) / 1000) AS signed)",
}
# In the statements stand names of ours alone.
_INTO = f"INTO {Allowance._meta.db_table} (digest, used, ends) VALUES"
_ADD = {
    vendor: f"INSERT {_INTO} (%s, %s, {_NOW[vendor]} + %s) ON CONFLICT (digest) DO NOTHING"
    for vendor in ("postgresql", "sqlite")
}
_ADD["mysql"] = f"INSERT IGNORE {_INTO} (%s, %s, {_NOW['mysql']} + %s)"


if hasattr(os, "register_at_fork"):
    # What a process has taken, two processes would spend.
    os.register_at_fork(after_in_child=forget)
