"""Hand out the callbacks that wait, each to one worker at a time.

A claim is a lease: it sets the time at which the row falls due again, so whatever happens to the
process that holds it, the row is tried again, and no reaper is needed. Attempts are counted at the
claim, so a callback that kills its worker dies out too.

A host that fails is left alone for a while, and none gets more calls at once than it may. Both are
decided here, from rows, so that it holds for all workers on all machines together.

This is the hot path of a delivery, and written in SQL, the same for every database but for the
locks: to have Django put these statements together took four times as long as to run them.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from itertools import zip_longest
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import connections, router, transaction
from django.db.models import F, Model
from django.utils import timezone

from . import faults, outbox, outcomes, querysets
from .conf import settings
from .models import Callback, Partner, Subscription

#: After so many attempts, a callback whose last one ended with its process is claimed alone.
ALONE_AFTER = 3
#: As many hosts more than it needs a claim looks at, as others may be claiming from some.
SPARE = 16
#: As many as are claimed at once: each host is a part of a union, and SQLite takes 500 of them.
MOST = 256
#: Where none of these may be called right now, it looks at so many times as many.
WIDER = 8
#: Seconds for which the hosts that have waited longest are taken to be still the same.
FRESH = 0.2
#: How often a claim looks anew where others were faster, and after how many seconds at most.
TRIES = 16
PATIENCE = 0.01

# The tables and columns go by names that every database takes without quotes.

#: What is under way at a host.
LEASED = """
    SELECT COUNT(*) FROM affiliations_callback l
    WHERE l.state = 'pending' AND l.host = {host} AND l.due > %s AND l.due <= %s
        AND l.token IS NOT NULL
"""
#: A year in which nothing falls due: of what is sorted, databases put NULL at different ends.
NEVER = 9999
SCAN = """
    SELECT d.host, d.failures,
        COALESCE((
            SELECT c.due FROM affiliations_callback c
            WHERE c.state = 'pending' AND c.host = d.host AND c.due <= %s {only}
            ORDER BY c.due LIMIT 1
        ), %s) AS oldest,
        ({leased}) AS busy
    FROM affiliations_destination d
    WHERE (d.paused_until IS NULL OR d.paused_until <= %s)
    ORDER BY oldest LIMIT %s
"""
TURN = "UPDATE affiliations_destination SET turn = turn + 1 WHERE host IN ({hosts})"
LOCK = """
    SELECT d.host, d.failures, d.paused_until FROM affiliations_destination d
    WHERE d.host IN ({hosts}) AND (d.paused_until IS NULL OR d.paused_until <= %s)
        AND ({leased}) < CASE WHEN d.failures >= %s THEN 1 ELSE %s END
    LIMIT %s {how}
"""
NEXT = """
    SELECT c.id, {host} AS host, c.due, c.subscription_id, s.off_since, c.token, c.attempts,
        c.attempts_before, ({leased}) AS busy
    FROM affiliations_callback c
    LEFT JOIN affiliations_subscription s ON s.id = c.subscription_id
    WHERE c.state = 'pending' AND c.host = {host} AND c.due <= %s {only}
    ORDER BY c.due LIMIT %s
"""
# For each host. A union has more to plan than to do, but not all databases have lateral joins.
LATERAL = "SELECT n.* FROM (VALUES {hosts}) AS h (host) CROSS JOIN LATERAL ({each}) AS n"
ONE = "SELECT * FROM ({each}) AS n"
TAKE = """
    UPDATE affiliations_callback SET token = %s, due = %s, attempts = attempts + 1
    WHERE id IN ({ids}) AND state = 'pending' AND due <= %s
"""
READ = """
    SELECT {columns} FROM affiliations_callback c
    LEFT JOIN affiliations_partner p ON p.id = c.partner_id
    LEFT JOIN affiliations_subscription s ON s.id = c.subscription_id
    WHERE c.id IN ({ids}) AND c.token = %s ORDER BY c.id
"""


class Claimer:
    """Takes due callbacks, of `ids` only if given, for the time of a lease.

    Keeps in mind for a moment which hosts have waited longest, as there may be many to look
    through; what it takes is decided anew each time.
    """

    def __init__(self, ids: Iterable[int] | None = None) -> None:
        self.ids = None if ids is None else set(ids)
        self._hosts: list[str] = []
        self._looked = float("-inf")

    def claim(self, limit: int = 1) -> list[Callback]:
        """Take up to `limit` callbacks.

        Never call it inside a transaction: the lease has to be committed before the call is made.
        """
        using = router.db_for_write(Callback)
        limit = min(limit, MOST)
        tries = 0
        while tries < TRIES:
            now = timezone.now()
            if not self._hosts or time.monotonic() - self._looked > FRESH:
                self._looked = time.monotonic()
                # The more of them others are claiming from, the more of them are looked at.
                number = (limit + SPARE) * 2**tries
                self._hosts = _with_work(now, self.ids, number, using)
                if not self._hosts:
                    return []
                tries += 1
            found = _take(self._hosts, self.ids, limit, now, using)
            self._hosts = [host for host in self._hosts[limit:] if host not in found.hosts]
            if found.taken:
                # Others have much the same hosts in mind, and need not all go for the same ones.
                random.shuffle(self._hosts)
                # They may have more, when it is their turn again.
                self._hosts += {each.host for each in found.taken}
                if faults.POINT:
                    faults.reach("claimed")
                return found.taken
            if found.moved:
                tries = 0
            if not found.hosts:
                # Somebody else is claiming from all of these right now, or has just done so.
                self._hosts = []
                # What was only in mind may all have as many calls under way as it may.
                if tries:
                    time.sleep(random.uniform(0, PATIENCE))  # noqa: S311
        return []


class _Found(NamedTuple):
    """What came of one try."""

    #: The hosts that it looked at; at others somebody else was claiming.
    hosts: Collection[str] = ()
    taken: list[Callback] = []
    #: Whether it moved out of the way what stood before others.
    moved: bool = False


def _take(
    hosts: Sequence[str], ids: set[int] | None, limit: int, now: datetime, using: str
) -> _Found:
    token = uuid.uuid4()
    connection: Any = connections[using]
    with transaction.atomic(using=using):
        locked = _lock(hosts, limit, now, using)
        found = _next_ones(locked, ids, limit, now, using) if locked else []
        picked = [each.pk for each in found if each.off_since is None]
        off = {each.subscription for each in found if each.off_since is not None}
        parked = _park(off, now, using) if off else 0
        if picked:
            with connection.cursor() as cursor:
                cursor.execute(
                    TAKE.format(ids=_places(picked)),
                    _adapted([token, now + querysets.LEASE, *picked, now], using),
                )
    looked_at = [each.host for each in locked]
    if not picked:
        return _Found(looked_at, moved=bool(parked))
    taken = _read(picked, token, using)
    failing = {each.host for each in locked if each.failures or each.paused_until}
    hosts_of = {each.pk: each.host for each in found}
    for callback in taken:
        # As the host is known: MariaDB takes another spelling for the same.
        callback.host = hosts_of[callback.pk]
        callback.host_was_failing = callback.host in failing
        callback.alone = found[0].is_suspect
    good = [each for each in taken if each.attempts - each.attempts_before <= outcomes.MAX_ATTEMPTS]
    if len(good) < len(taken):
        mine = Callback.objects.using(using).filter(pk__in=picked, token=token)
        mine.exclude(pk__in=[each.pk for each in good]).update(
            state=Callback.State.DEAD,
            due=None,
            token=None,
            settled_on=now,
            reason="Each attempt ended with the process that made it.",
        )
    return _Found(looked_at, good, moved=True)


def _with_work(now: datetime, ids: set[int] | None, number: int, using: str) -> list[str]:
    """Return hosts that something is due for and that may be called, the longest wait first."""
    only = ids or ()
    scan = SCAN.format(only=_only(ids), leased=LEASED.format(host="d.host"))
    ends = (now, now + 2 * querysets.LEASE)
    # In its middle, as the database may be in another zone.
    never = now.replace(year=NEVER, month=7, day=1)
    while True:
        with connections[using].cursor() as cursor:
            cursor.execute(scan, _adapted([now, *only, never, *ends, now, number], using))
            rows = cursor.fetchall()
        waiting = [row for row in rows if not str(row[2]).startswith(str(NEVER))]
        hosts = [host for host, failures, _, busy in waiting if busy < _allowed(failures)]
        if hosts or len(waiting) < number:
            return hosts
        number *= WIDER


class _Host(NamedTuple):
    """What a claim has to know of a host."""

    host: str
    failures: int
    paused_until: datetime | None


def _lock(hosts: Sequence[str], number: int, now: datetime, using: str) -> list[_Host]:
    """Keep others from claiming at some of these hosts until the commit; those that nobody has.

    Only those that may be called right now. How many calls are under way there may have changed
    until it is locked, and has to be asked again.
    """
    connection: Any = connections[using]
    features = connection.features
    how = ""
    if features.has_select_for_update_skip_locked:
        no_key = features.has_select_for_no_key_update
        how = connection.ops.for_update_sql(skip_locked=True, no_key=no_key)
    leased = LEASED.format(host="d.host")
    ends = (now, now + 2 * querysets.LEASE)
    may = [now, *ends, outcomes.TROUBLE, settings.CALLBACKS_PER_HOST, number]
    order = {host: position for position, host in enumerate(hosts)}
    with connection.cursor() as cursor:
        # The others only where somebody has all of the first.
        for some in filter(None, (hosts[:number], hosts[number:])):
            if not how:
                # A write first: it waits for its turn, where a read that is to write later could
                # not.
                cursor.execute(TURN.format(hosts=_places(some)), some)
            lock = LOCK.format(hosts=_places(some), leased=leased, how=how)
            cursor.execute(lock, _adapted([*some, *may], using))
            if locked := [_Host(*row) for row in cursor.fetchall()]:
                break
    return sorted(locked, key=lambda each: order[each.host])


def _allowed(failures: int) -> int:
    """Return how many calls at once a host gets: where it fails, one that sees if it still does."""
    return 1 if failures >= outcomes.TROUBLE else settings.CALLBACKS_PER_HOST


class _Next(NamedTuple):
    """What a claim has to know of a callback."""

    pk: int
    host: str
    due: Any
    subscription: int
    off_since: datetime | None
    token: Any
    attempts: int
    attempts_before: int
    #: How many calls are under way at its host.
    busy: int

    @property
    def is_suspect(self) -> bool:
        """Tell whether whoever claims it keeps dying, perhaps of it."""
        return self.token is not None and self.attempts - self.attempts_before >= ALONE_AFTER


def _next_ones(
    locked: Collection[_Host], ids: set[int] | None, limit: int, now: datetime, using: str
) -> list[_Next]:
    """Return the callbacks that come next at each host, as many as it may be called for.

    A suspect comes alone: what is claimed together dies together.
    """
    turns: dict[str, list[_Next]] = {each.host: [] for each in locked}
    for each in sorted(_first_ones(turns, ids, limit, now, using), key=attrgetter("due")):
        turns[each.host].append(each)
    found: list[list[_Next]] = []
    for host in locked:
        waiting = turns[host.host]
        free = _allowed(host.failures) - max((each.busy for each in waiting), default=0)
        if not found and free > 0 and waiting and waiting[0].is_suspect:
            return waiting[:1]
        if mine := [each for each in waiting if not each.is_suspect][: max(free, 0)]:
            found.append(mine)
    # One of each host, then a second: what waits long at one does not fill all threads.
    return [each for turn in zip_longest(*found) for each in turn if each is not None][:limit]


def _first_ones(
    hosts: Collection[str], ids: set[int] | None, limit: int, now: datetime, using: str
) -> list[_Next]:
    """Return the first of each host's callbacks, by one statement for all."""
    connection = connections[using]
    number = min(limit, settings.CALLBACKS_PER_HOST)
    values: list[Any] = [now, now + 2 * querysets.LEASE]
    rest = [now, *(ids or ()), number]
    if connection.vendor == "postgresql":
        each = NEXT.format(host="h.host", leased=LEASED.format(host="h.host"), only=_only(ids))
        some = ", ".join(["(%s)"] * len(hosts))
        sql = LATERAL.format(hosts=some, each=each)
        values = [*hosts, *values, *rest]
    else:
        each = NEXT.format(host="%s", leased=LEASED.format(host="%s"), only=_only(ids))
        sql = " UNION ALL ".join([ONE.format(each=each)] * len(hosts))
        values = [value for host in hosts for value in (host, host, *values, host, *rest)]
    with connection.cursor() as cursor:
        cursor.execute(sql, _adapted(values, using))
        return [_Next(*row) for row in cursor.fetchall()]


def _park(subscriptions: Collection[int], now: datetime, using: str) -> int:
    # Kept as they are until the commit: whoever switches one on finds all that was parked for it.
    off = Subscription.objects.using(using).filter(pk__in=subscriptions).exclude(off_since=None)
    still_off = list(off.lock_free().values_list("pk", flat=True))
    due = Callback.objects.using(using).due(now).filter(subscription__in=still_off)
    some = list(due.order_by().values_list("pk", flat=True)[: outbox.BATCH])
    return due.filter(pk__in=some).update(state=Callback.State.PARKED, due=None, token=None)


def _read(picked: Sequence[int], token: uuid.UUID, using: str) -> list[Callback]:
    """Return the callbacks that are ours now, each with its partner and subscription."""
    models = (("c", Callback), ("p", Partner), ("s", Subscription))
    columns = [f"{name}.{field.column}" for name, model in models for field in _fields(model)]
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(
            READ.format(columns=", ".join(columns), ids=_places(picked)),
            _adapted([*picked, token], using),
        )
        rows = cursor.fetchall()
    converted = {model: _converters(model, using) for _, model in models}
    found = []
    for row in rows:
        rest = list(row)
        for name, model in models:
            fields = _fields(model)
            values, rest = rest[: len(fields)], rest[len(fields) :]
            for position, column, converters in converted[model]:
                for converter in converters:
                    values[position] = converter(values[position], column, connection)
            if values[0] is None:
                continue
            made: Any = model.from_db(using, [field.attname for field in fields], values)
            if name == "c":
                found.append(made)
            else:
                setattr(found[-1], model._meta.model_name or "", made)
    return found


def _fields(model: type[Model]) -> Sequence[Any]:
    return model._meta.concrete_fields


def _converters(model: type[Model], using: str) -> list[tuple[int, Any, list[Any]]]:
    """Return what makes Python's values of a database's, by the position of a model's field."""
    # Not kept from another connection, whose time zone may be another.
    connection = connections[using]
    found = []
    for position, field in enumerate(_fields(model)):
        column = field.cached_col
        converters = connection.ops.get_db_converters(column) + column.get_db_converters(connection)
        if converters:
            found.append((position, column, converters))
    return found


def _adapted(values: Iterable[Any], using: str) -> list[Any]:
    """Return values as a database's driver takes them."""
    connection = connections[using]
    times = connection.ops.adapt_datetimefield_value
    uuids = Callback._meta.get_field("token").get_db_prep_value
    return [
        times(each)
        if isinstance(each, datetime)
        else uuids(each, connection)
        if isinstance(each, uuid.UUID)
        else each
        for each in values
    ]


def _only(ids: set[int] | None) -> str:
    return "" if ids is None else f"AND c.id IN ({_places(ids)})"


def _places(values: Collection[Any]) -> str:
    # IN () is no SQL.
    return ", ".join(["%s"] * len(values)) or "NULL"


def release(callbacks: Collection[Callback]) -> None:
    """Give back claims of which no call was begun, as if they had never been made."""
    rows = Callback.objects.using(router.db_for_write(Callback))
    # A suspect keeps its token, by which it stays one; once it is due, nobody has it for that.
    for kept, group in (({}, True), ({"token": None}, False)):
        some = [each for each in callbacks if each.alone is group]
        rows.claimed(some).filter(state=Callback.State.PENDING).update(
            **kept, due=timezone.now(), attempts=F("attempts") - 1
        )
