"""Hand out the callbacks that wait, each to one worker at a time.

A claim is a lease: it sets the time at which the row falls due again, so whatever happens to the
process that holds it, the row is tried again, and no reaper is needed. Attempts are counted at the
claim, so a callback that kills its worker dies out too.

A host that fails is left alone for a while, and none gets more calls at once than it may. Both are
decided here, from rows, so that it holds for all workers on all machines together.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from itertools import zip_longest
from typing import Any, NamedTuple

from django.db import connections, models, router, transaction
from django.db.models import Case, Count, F, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from . import faults, outbox, outcomes, querysets
from .conf import settings
from .models import Callback, Destination, Subscription

#: After so many attempts, a callback whose last one ended with its process is claimed alone.
ALONE_AFTER = 3
#: As many hosts more than it needs a claim looks at, as others may be claiming from some.
SPARE = 16
#: How often a claim tries anew where others were claiming from the same hosts, and after how many
#: seconds at most.
CONTENDED = 20
PATIENCE = 0.01
#: What no host is called.
NOWHERE = " "


def claim(limit: int = 1, *, ids: Iterable[int] | None = None) -> list[Callback]:
    """Take up to `limit` due callbacks, of `ids` only if given, for the time of a lease.

    The same statements on every database. Never call it inside a transaction: the lease has to be
    committed before the call is made.
    """
    wanted = None if ids is None else list(ids)
    for _ in range(CONTENDED):
        taken = _claim(limit, wanted)
        if taken is None:
            time.sleep(random.uniform(0, PATIENCE))  # noqa: S311
            continue
        if taken and faults.POINT:
            faults.reach("claimed")
        return taken
    return []


def _claim(limit: int, ids: list[int] | None) -> list[Callback] | None:
    """Make one try; None where it came to nothing and there may be something all the same."""
    now = timezone.now()
    using = router.db_for_write(Callback)
    due = Callback.objects.using(using).due(now)
    hosts = Destination.objects.using(using).filter(Q(paused_until=None) | Q(paused_until__lte=now))
    if ids is not None:
        due = due.filter(pk__in=ids)
        hosts = hosts.filter(host__in=due.order_by().values("host"))
    token = uuid.uuid4()
    candidates = list(_with_work(hosts, due, now, using)[: limit + SPARE])
    if not candidates:
        return []
    with transaction.atomic(using=using):
        locked = _lock(candidates, limit, now, using)
        busy = _busy([each.host for each in locked], now, using)
        found = _next_ones(due, locked, busy, limit, using)
        picked = [each.pk for each in found if each.off_since is None]
        off = {each.subscription for each in found if each.off_since is not None}
        if off:
            _park(off, now, using)
        if picked:
            due.filter(pk__in=picked).update(
                token=token, due=now + querysets.LEASE, attempts=F("attempts") + 1
            )
    if not picked:
        # Parked rows stood before others, or somebody else is claiming from these hosts right now.
        return None
    mine = Callback.objects.using(using).filter(pk__in=picked, token=token)
    taken = list(mine.select_related("partner", "subscription").order_by("pk"))
    failing = {each.host for each in locked if each.failures or each.paused_until}
    for callback in taken:
        callback.host_was_failing = callback.host in failing
        callback.alone = found[0].is_suspect
    good = [each for each in taken if each.attempts - each.attempts_before <= outcomes.MAX_ATTEMPTS]
    if len(good) < len(taken):
        mine.exclude(pk__in=[each.pk for each in good]).update(
            state=Callback.State.DEAD,
            due=None,
            token=None,
            settled_on=now,
            reason="Each attempt ended with the process that made it.",
        )
    # Not none at all because of these: whoever drains the outbox would take it to be empty.
    return good or None


def _with_work(hosts: Any, due: Any, now: datetime, using: str) -> Any:
    """Keep the hosts that something is due for and that may be called, the longest wait first."""
    at_host = Callback.objects.using(using).filter(host=OuterRef("host"))
    leased = at_host.leased(now).order_by().values("host").annotate(n=Count("pk")).values("n")
    allowed = Case(
        When(failures__gte=outcomes.TROUBLE, then=Value(1)),
        default=Value(settings.CALLBACKS_PER_HOST),
    )
    return (
        hosts.alias(busy=Coalesce(Subquery(leased, output_field=models.IntegerField()), 0))
        .annotate(
            oldest=Subquery(due.filter(host=OuterRef("host")).order_by("due").values("due")[:1])
        )
        .filter(oldest__isnull=False, busy__lt=allowed)
        .order_by("oldest")
    )


class _Next(NamedTuple):
    """What a claim has to know of a callback."""

    pk: int
    host: str
    subscription: int
    off_since: datetime | None
    token: Any
    attempts: int
    attempts_before: int

    @property
    def is_suspect(self) -> bool:
        """Tell whether whoever claims it keeps dying, perhaps of it."""
        return self.token is not None and self.attempts - self.attempts_before >= ALONE_AFTER


def _next_ones(
    due: Any, locked: list[Any], busy: dict[str, int], limit: int, using: str
) -> list[_Next]:
    """Return the callbacks that come next at each host, as many as it may be called for.

    A suspect comes alone: what is claimed together dies together.
    """
    free = {each.host: min(_allowed(each) - busy.get(each.host, 0), limit) for each in locked}
    hosts = [host for host, number in free.items() if number > 0]
    if not hosts:
        return []
    most = max(free.values())
    turns: dict[str, list[_Next]] = {}
    for each in map(_Next._make, _first_ones(due, hosts, most, using)):
        if each.is_suspect:
            if not turns:
                return [each]
        elif len(turns.setdefault(each.host, [])) < free[each.host]:
            turns[each.host].append(each)
    # One of each host, then a second: what waits long at one does not fill all threads.
    found = [each for turn in zip_longest(*turns.values()) for each in turn if each is not None]
    return found[:limit]


def _first_ones(due: Any, hosts: list[str], number: int, using: str) -> Iterator[Any]:
    """Yield the fields of `_Next` of the first of each host's callbacks."""
    columns = ["subscription__off_since" if each == "off_since" else each for each in _Next._fields]
    connection: Any = connections[using]

    def of(host: str) -> Any:
        return due.filter(host=host).order_by("due").values_list(*columns)[:number]

    if len(hosts) == 1 or not connection.features.supports_slicing_ordering_in_compound:
        for host in hosts:
            yield from of(host)
        return
    # One journey to the database instead of one for each host. What the queryset of one host
    # compiles to is repeated as it is: to have Django compile a union of all of them takes longer
    # than all else that a claim does.
    sql, parameters = of(NOWHERE).query.get_compiler(using=using).as_sql()
    at = parameters.index(NOWHERE)
    with connection.cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join([f"({sql})"] * len(hosts)),
            [each for host in hosts for each in (*parameters[:at], host, *parameters[at + 1 :])],
        )
        yield from cursor.fetchall()


def _lock(candidates: list[Any], number: int, now: datetime, using: str) -> list[Any]:
    """Keep others from claiming at some of these hosts until the commit; those that nobody has."""
    features: Any = connections[using].features
    rows = Destination.objects.using(using)
    order = {each.pk: position for position, each in enumerate(candidates)}
    first, others = list(order)[:number], list(order)[number:]
    if features.has_select_for_update_skip_locked:
        free = rows.select_for_update(
            skip_locked=True, no_key=features.has_select_for_no_key_update
        )
        locked = list(free.filter(pk__in=first))
        if others and not locked:
            locked = list(free.filter(pk__in=others)[:number])
    else:
        # A write first: it waits for its turn, where a read that is to write later could not.
        rows.filter(pk__in=first).update(turn=F("turn") + 1)
        locked = list(rows.filter(pk__in=first))
    return [
        each
        for each in sorted(locked, key=lambda each: order[each.pk])
        if each.paused_until is None or each.paused_until <= now
    ]


def _busy(hosts: Collection[str], now: datetime, using: str) -> dict[str, int]:
    leased = Callback.objects.using(using).leased(now).filter(host__in=hosts).order_by()
    return dict(leased.values_list("host").annotate(n=Count("pk")))


def _allowed(destination: Destination) -> int:
    """Return how many calls at once a host gets: where it fails, one that sees if it still does."""
    return 1 if destination.failures >= outcomes.TROUBLE else settings.CALLBACKS_PER_HOST


def _park(subscriptions: Collection[int], now: datetime, using: str) -> None:
    # Kept as they are until the commit: whoever switches one on finds all that was parked for it.
    off = Subscription.objects.using(using).filter(pk__in=subscriptions).exclude(off_since=None)
    still_off = list(off.select_for_update().values_list("pk", flat=True))
    due = Callback.objects.using(using).due(now).filter(subscription__in=still_off)
    some = list(due.order_by().values_list("pk", flat=True)[: outbox.BATCH])
    due.filter(pk__in=some).update(state=Callback.State.PARKED, due=None, token=None)


def release(callbacks: Collection[Callback]) -> None:
    """Give back claims of which no call was begun, as if they had never been made."""
    rows = Callback.objects.using(router.db_for_write(Callback))
    # A suspect keeps its token, by which it stays one; once it is due, nobody has it for that.
    for kept, group in (({}, True), ({"token": None}, False)):
        some = [each for each in callbacks if each.alone is group]
        rows.claimed(some).update(**kept, due=timezone.now(), attempts=F("attempts") - 1)
