"""Keep the callbacks that wait, and hand them out: none is lost, and none is sent that was undone.

A claim is a lease: it sets the time at which the row falls due again, so whatever happens to the
process that holds it, the row is tried again, and no reaper is needed. Attempts are counted at the
claim, so a callback that kills its worker dies out too. Completion is fenced by the claim's token:
a worker that comes back after its lease has lapsed changes nothing.

A host that fails is left alone for a while, and none gets more calls at once than it may. Both are
decided at the claim, from rows, so that it holds for all workers on all machines together.
"""

from __future__ import annotations

import json
import logging
import math
import random
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby, zip_longest
from typing import Any, NamedTuple

from django.db import connections, models, router, transaction
from django.db.models import Case, Count, F, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.http import parse_http_date_safe

from . import callbackurl, egress, faults
from .conf import settings
from .exceptions import InvalidCallbackURL, InvalidTransition
from .models import Callback, CallbackAttempt, Destination, Subscription
from .models.callbacks import MAX_ANSWER, MAX_REASON
from .querysets import LEASE
from .signals import callbacks_enqueued
from .signing import TEST_PREFIX, new_webhook_id

__all__ = [
    "ANSWERS_KEPT",
    "SCHEDULE",
    "cancel",
    "enqueue",
    "enqueue_test",
    "send_again",
    "send_all_again",
    "switch_off",
    "switch_on",
]

logger = logging.getLogger(__name__)

#: After each failed attempt, how long until the next: 10 attempts over 75 h 35 m, the example of
#: Standard Webhooks 1.0.0.
SCHEDULE = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
JITTER = 0.2
MAX_ATTEMPTS = len(SCHEDULE) + 1
#: After so many attempts, a callback whose last one ended with its process is claimed alone.
ALONE_AFTER = 3
#: As long as a partner's Retry-After may put a repetition off.
MAX_RETRY_AFTER = timedelta(days=1)

#: Failures in a row after which a host is left alone for a while; a slow one weighs more, because
#: it is what others wait for.
TROUBLE = 10
SLOW_WEIGHT = 5
SLOW = timedelta(seconds=5)
MIN_PAUSE = timedelta(seconds=30)
MAX_PAUSE = timedelta(minutes=5)

#: A subscription is switched off when all its attempts have failed for this long, and so many.
OFF_AFTER = timedelta(days=5)
OFF_FAILURES = 20
REFUSED = "The partner took the call, and refused it."
#: How long staff can read what a partner answered.
ANSWERS_KEPT = timedelta(days=30)
#: Rows that are parked, sent again, or emptied of answers, in one transaction.
BATCH = 1000
#: Sent again lately, a callback is not sent again with others: the order was given twice.
AGAIN_AFTER = timedelta(hours=1)

#: Stands for the host of an address that has none, and for one that nothing is ever called like.
NO_HOST, NOWHERE = "-", " "

#: As many hosts more than it needs a claim looks at, as others may be claiming from some.
SPARE = 16
#: How often a claim tries anew where others were claiming from the same hosts, and after how many
#: seconds at most.
CONTENDED = 20
PATIENCE = 0.01


def know(hosts: Iterable[str], using: str) -> None:
    """Let claims look for what waits for these hosts."""
    rows = [Destination(host=host) for host in sorted(set(hosts)) if host]
    if rows:
        Destination.objects.using(using).bulk_create(rows, ignore_conflicts=True)


def adopt() -> int:
    """Find hosts that callbacks wait for and no claim looks at, and return how many there were.

    There are none, unless subscriptions or callbacks were written past the models.
    """
    using = router.db_for_write(Callback)
    waiting = Callback.objects.using(using).due().order_by()
    for callback in waiting.filter(host="")[:BATCH]:
        rows = Callback.objects.using(using).filter(pk=callback.pk)
        # What has no host cannot be called, and is told so by the attempt.
        rows.update(host=callbackurl.host(callback.url) or NO_HOST)
    strays = waiting.exclude(host__in=Destination.objects.using(using).values("host"))
    hosts = list(strays.values_list("host", flat=True).distinct())
    know(hosts, using)
    return len(hosts)


def expunge(now: datetime | None = None) -> int:
    """Empty the answers that have been kept long enough, some of them; return how many."""
    using = router.db_for_write(CallbackAttempt)
    attempts = CallbackAttempt.objects.using(using)
    old = attempts.filter(answer_until__lt=now or timezone.now()).order_by("answer_until")
    some = list(old.values_list("pk", flat=True)[:BATCH])
    if not some:
        return 0
    # A refusal's reason was told in the partner's words.
    Callback.objects.using(using).filter(attempt_log__in=some, state=Callback.State.REFUSED).update(
        reason=REFUSED
    )
    return attempts.filter(pk__in=some).update(answer="", answer_until=None)


def address(
    callback: Callback, template: str, values: Mapping[str, str], *, kind: str = "conversion"
) -> None:
    """Fill in where a callback goes and what it says: `template` and `values` as `render` has them.

    A POST says it all as JSON, in the form that Standard Webhooks recommends: type, timestamp and
    data. Written once and never again, so that each attempt sends the same bytes.
    """
    try:
        callback.url = callbackurl.render(template, values)
    except InvalidCallbackURL as error:
        # Rows from before the rules may hold such a URL: what happened counts all the same, and
        # staff see why nobody could be told.
        callback.url = template
        callback.state = Callback.State.DEAD
        callback.due = None
        callback.settled_on = callback.created_on
        callback.reason = str(error)
        return
    callback.host = callbackurl.host(callback.url)
    if callback.method == Callback.Method.POST:
        data = {name: values.get(name, "") for name in callbackurl.PLACEHOLDERS}
        moment = datetime.fromtimestamp(int(data.pop("timestamp")), tz=UTC)
        message = {"type": kind, "timestamp": moment.isoformat(), "data": data}
        callback.body = json.dumps(message, ensure_ascii=False, separators=(",", ":"))


#: What a test call tells; the visitor's id is that of nobody.
SAMPLE = {
    "visitor_id": "0",
    "reference": "test",
    "amount": "12.50",
    "currency": "EUR",
    "click_id": "test",
    "sub1": "test",
}


def enqueue_test(subscription: Subscription) -> Callback:
    """Write a call that tries a subscription's address, signed as any, and return it.

    Its id begins with `test_` and its visitor is 0; both are signed. What is posted has the type
    `test` as well. Nobody is credited for it, and it goes out also while the subscription is
    switched off, of which it changes nothing.
    """
    now = timezone.now()
    callback = Callback(
        webhook_id=new_webhook_id(TEST_PREFIX),
        partner=subscription.partner,
        method=subscription.method,
        expects=subscription.expects,
        created_on=now,
    )
    values = {
        **SAMPLE,
        "partner_uid": subscription.partner.uid,
        "trigger": subscription.trigger,
        "timestamp": str(int(now.timestamp())),
    }
    address(callback, subscription.callback_url, values, kind="test")
    return enqueue([callback])[0]


def enqueue(callbacks: Sequence[Callback]) -> list[Callback]:
    """Write callbacks into the outbox, within the caller's transaction."""
    using = router.db_for_write(Callback)
    for callback in callbacks:
        if not callback.host and callback.state == Callback.State.PENDING:
            callback.host = callbackurl.host(callback.url)
    # A subscription's host was made known when the subscription was saved.
    know((each.host for each in callbacks if each.subscription_id is None), using)
    written = Callback.objects.using(using).bulk_create(callbacks)
    if written:
        callbacks_enqueued.send_robust(Callback, callbacks=written)
    return written


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
                token=token, due=now + LEASE, attempts=F("attempts") + 1
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
    good = [each for each in taken if each.attempts - each.attempts_before <= MAX_ATTEMPTS]
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
        When(failures__gte=TROUBLE, then=Value(1)), default=Value(settings.CALLBACKS_PER_HOST)
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
    return 1 if destination.failures >= TROUBLE else settings.CALLBACKS_PER_HOST


def _park(subscriptions: Collection[int], now: datetime, using: str) -> None:
    # Kept as they are until the commit: whoever switches one on finds all that was parked for it.
    off = Subscription.objects.using(using).filter(pk__in=subscriptions).exclude(off_since=None)
    still_off = list(off.select_for_update().values_list("pk", flat=True))
    due = Callback.objects.using(using).due(now).filter(subscription__in=still_off)
    some = list(due.order_by().values_list("pk", flat=True)[:BATCH])
    due.filter(pk__in=some).update(state=Callback.State.PARKED, due=None, token=None)


def release(callbacks: Collection[Callback]) -> None:
    """Give back claims of which no call was begun, as if they had never been made."""
    rows = Callback.objects.using(router.db_for_write(Callback))
    # A suspect keeps its token, by which it stays one; once it is due, nobody has it for that.
    for kept, group in (({}, True), ({"token": None}, False)):
        some = [each for each in callbacks if each.alone is group]
        rows.filter(_claimed(some), state=Callback.State.PENDING).update(
            **kept, due=timezone.now(), attempts=F("attempts") - 1
        )


def _claimed(callbacks: Iterable[Callback]) -> Q:
    """Return what keeps these callbacks as long as nobody else has claimed them."""
    by_token: dict[Any, list[int]] = {}
    for each in callbacks:
        by_token.setdefault(each.token, []).append(each.pk)
    claimed = Q(pk__in=[])
    for token, pks in by_token.items():
        claimed |= Q(token=token, pk__in=pks)
    return claimed


class Result(NamedTuple):
    """What came of one attempt: its row, not saved yet, and the answer."""

    callback: Callback
    attempt: CallbackAttempt
    answer: egress.Answer

    @property
    def delivered(self) -> bool:
        """Tell whether the partner took the call, whatever it then made of it."""
        return self.attempt.status is not None and 200 <= self.attempt.status < 300


def settle(results: Sequence[Result]) -> list[bool]:
    """Record what came of attempts; tell for each whether the callback was delivered by it.

    One whose lease has lapsed in between, or that was canceled, stays as it is.
    """
    using = router.db_for_write(Callback)
    now = timezone.now()
    changes = [_outcome(each, now) for each in results]
    if faults.POINT:
        _reach_settling(changes)
    # Apart, as whoever claims locks a host first, and its callbacks then. Before, as the end of an
    # attempt makes room for another at the host.
    _watch_hosts(results, now, using)
    try:
        kept = _record(results, changes, using)
    except _NotAllOurs:
        # One by one it can be told which are.
        kept = [
            _record([each], [change], using)[0]
            for each, change in zip(results, changes, strict=True)
        ]
    if faults.POINT:
        faults.reach("committed")
    ours = [each for each, it_is in zip(results, kept, strict=True) if it_is]
    _watch_subscriptions(ours, now, using)
    done = []
    for result, change, it_is in zip(results, changes, kept, strict=True):
        if it_is:
            for name, value in change.items():
                setattr(result.callback, name, value)
        else:
            logger.warning("Callback %s was claimed anew before its attempt ended", result.callback)
        done.append(it_is and change["state"] == Callback.State.DELIVERED)
    return done


def _reach_settling(changes: Iterable[dict[str, Any]]) -> None:
    faults.reach("answered")
    states = {each["state"] for each in changes}
    if Callback.State.PENDING in states:
        faults.reach("failed")
    if Callback.State.DEAD in states:
        faults.reach("dying")


def _outcome(result: Result, now: datetime) -> dict[str, Any]:
    """Return what an attempt changes in its callback's row."""
    callback, attempt, answer = result
    settled = {"token": None, "due": None, "settled_on": now}
    if result.delivered:
        if callback.expects and callback.expects.encode() not in answer.body:
            if not answer.whole:
                return _again(callback, "The partner's answer was cut.", settled, timedelta(0), now)
            reason = f"{REFUSED} It said: {attempt.answer or 'nothing'}"
            return settled | {"state": Callback.State.REFUSED, "reason": reason[:MAX_REASON]}
        return settled | {"state": Callback.State.DELIVERED, "reason": ""}
    reason = attempt.error or f"The partner answered {attempt.status}."
    if answer.refused or attempt.status == 410:
        return settled | {"state": Callback.State.DEAD, "reason": reason[:MAX_REASON]}
    least = timedelta(0)
    if attempt.status is not None:
        least = min(retry_after(answer.retry_after, now), MAX_RETRY_AFTER)
    return _again(callback, reason, settled, least, now)


def _again(
    callback: Callback, reason: str, settled: dict[str, Any], least: timedelta, now: datetime
) -> dict[str, Any]:
    """Return what makes a callback fall due again, or gives it up after the last attempt."""
    made = callback.attempts - callback.attempts_before
    if made >= MAX_ATTEMPTS:
        return settled | {"state": Callback.State.DEAD, "reason": reason[:MAX_REASON]}
    pause = SCHEDULE[made - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
    return {
        "state": Callback.State.PENDING,
        "token": None,
        "due": now + max(pause, least),
        "settled_on": None,
        "reason": reason[:MAX_REASON],
    }


def retry_after(header: str, now: datetime) -> timedelta:
    """Return how long a Retry-After header asks to wait; nothing where it cannot be read.

    Seconds or a date. Source: RFC 9110, section 10.2.3.
    """
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return timedelta(seconds=min(int(text[:10]), 10**9))
    seconds = parse_http_date_safe(text)
    if seconds is None:
        return timedelta(0)
    return max(timedelta(seconds=seconds - now.timestamp()), timedelta(0))


class _NotAllOurs(Exception):
    """Some of several callbacks were claimed anew, or canceled."""


def _record(results: Sequence[Result], changes: list[dict[str, Any]], using: str) -> list[bool]:
    """Write the outcomes and the attempts, each only where its claim still holds; tell where."""
    rows = Callback.objects.using(using).filter(state=Callback.State.PENDING)
    both = list(zip(results, changes, strict=True))
    delivered = [each for each in both if each[1]["state"] == Callback.State.DELIVERED]
    together = {each.callback.pk for each, _ in delivered} if len(delivered) > 1 else set()
    with transaction.atomic(using=using):
        if together:
            ours = rows.filter(_claimed(each.callback for each, _ in delivered))
            if ours.update(**delivered[0][1]) < len(together):
                raise _NotAllOurs
        kept = [
            each.callback.pk in together
            or bool(rows.filter(_claimed([each.callback])).update(**change))
            for each, change in both
        ]
        CallbackAttempt.objects.using(using).bulk_create(
            each.attempt for each, ours in zip(results, kept, strict=True) if ours
        )
        if faults.POINT:
            faults.reach("recorded")
    return kept


def _watch_hosts(results: Iterable[Result], now: datetime, using: str) -> None:
    """Count a host's failures in a row, and leave it alone for a while when they are many."""
    by_host: dict[str, list[Result]] = {}
    for each in results:
        if not each.answer.refused:
            by_host.setdefault(each.callback.host, []).append(each)
    rows = Destination.objects.using(using)
    for host in sorted(by_host):
        weight = 0
        pause = timedelta(0)
        answered = False
        for _, attempt, answer in by_host[host]:
            if attempt.status is not None and attempt.status < 500 and attempt.status != 429:
                answered, weight = True, 0
            else:
                slow = attempt.duration_ms >= SLOW / timedelta(milliseconds=1)
                weight += SLOW_WEIGHT if slow else 1
                if attempt.status in (429, 503):
                    pause = max(pause, min(retry_after(answer.retry_after, now), MAX_PAUSE))
        here = rows.filter(pk=host)
        if answered and any(each.callback.host_was_failing for each in by_host[host]):
            here.update(failures=0, failing_since=None, paused_until=None)
        if not weight:
            continue
        here.update(failures=F("failures") + weight, failing_since=Coalesce("failing_since", now))
        known = here.first()
        if known is not None and known.failures >= TROUBLE:
            since = now - (known.failing_since or now)
            pause = max(pause, min(max(since / 2, MIN_PAUSE), MAX_PAUSE))
        if pause:
            jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
            here.update(paused_until=now + pause * jitter)
            if faults.POINT:
                faults.reach("paused")


def _watch_subscriptions(results: Iterable[Result], now: datetime, using: str) -> None:
    """Count a subscription's failures in a row, and switch it off where it has no use any more."""
    for callback, attempt, answer in results:
        subscription = callback.subscription
        if subscription is None or answer.refused:
            continue
        here = Subscription.objects.using(using).filter(pk=subscription.pk)
        if attempt.status is not None and 200 <= attempt.status < 300:
            if subscription.failures:
                here.update(failures=0, failing_since=None)
        elif attempt.status == 410:
            switch_off(subscription, reason="The partner answered 410: this address is gone.")
        else:
            here.update(failures=F("failures") + 1, failing_since=Coalesce("failing_since", now))
            first = subscription.failing_since
            if first is not None and now - first >= OFF_AFTER:
                for_long = here.filter(failures__gte=OFF_FAILURES, off_since=None)
                for_long.update(
                    off_since=now,
                    off_reason=f"Every attempt has failed for {OFF_AFTER.days} days.",
                )


def switch_off(subscription: Subscription, *, reason: str) -> None:
    """Call a subscription's address no more; what waits is parked when it falls due, not failed."""
    rows = Subscription.objects.using(router.db_for_write(Subscription))
    rows.filter(pk=subscription.pk, off_since=None).update(
        off_since=timezone.now(), off_reason=reason[:200]
    )


def switch_on(subscription: Subscription) -> int:
    """Call a subscription's address again; return how many callbacks had been parked.

    They are not let loose at once: one in the first second, and twice as many each minute.
    """
    using = router.db_for_write(Callback)
    now = timezone.now()
    with transaction.atomic(using=using):
        Subscription.objects.using(using).filter(pk=subscription.pk).update(
            off_since=None, off_reason="", failures=0, failing_since=None
        )
        parked = Callback.objects.using(using).filter(
            subscription=subscription.pk, state=Callback.State.PARKED
        )
        pks = list(parked.order_by("pk").values_list("pk", flat=True))
        number = 0
        for second, group in groupby(enumerate(pks), key=lambda each: ramp(each[0])):
            # Still parked: others may have been canceled or sent again meanwhile.
            number += parked.filter(pk__in=[pk for _, pk in group]).update(
                state=Callback.State.PENDING, due=now + timedelta(seconds=second)
            )
    return number


def ramp(position: int) -> int:
    """Return in which second a callback is let go, at a rate that doubles each minute.

    The rate r(t) = 2^(t/60) per second, summed over time and solved for t.
    """
    return int(60 * math.log2(1 + position * math.log(2) / 60))


def send_again(callback: Callback) -> None:
    """Let a callback fall due now, whatever became of it; its id and bytes stay the same."""
    now = timezone.now()
    changed = Callback.objects.filter(pk=callback.pk).update(**_anew(now))
    if changed:
        callbacks_enqueued.send_robust(Callback, callbacks=[callback])


def _anew(now: datetime) -> dict[str, Any]:
    return {
        "state": Callback.State.PENDING,
        "due": now,
        "attempts_before": F("attempts"),
        "token": None,
        "reason": "",
        "settled_on": None,
        "resent_on": now,
    }


def resendable(callbacks: Any) -> Any:
    """Keep what `send_all_again` would send: callbacks neither waiting nor sent again lately."""
    lately = timezone.now() - AGAIN_AFTER
    settled = callbacks.exclude(state=Callback.State.PENDING)
    return settled.filter(Q(resent_on=None) | Q(resent_on__lt=lately))


def send_all_again(callbacks: Any, *, batch: int = BATCH) -> Iterator[int]:
    """Send again all of a queryset that wait no more; yields how many were, batch by batch.

    No row is added. Each batch is a transaction of its own, and what was sent again within the last
    hour is left out: when it was interrupted, it can be run again.
    """
    using = router.db_for_write(Callback)
    settled = resendable(callbacks.using(using)).order_by("pk")
    last = 0
    while pks := list(settled.filter(pk__gt=last).values_list("pk", flat=True)[:batch]):
        last = pks[-1]
        rows = Callback.objects.using(using).filter(pk__in=pks)
        number = rows.exclude(state=Callback.State.PENDING).update(**_anew(timezone.now()))
        if faults.POINT:
            faults.reach("replayed")
        yield number


def cancel(callback: Callback, *, reason: str) -> None:
    """Give up a callback that waits; raises InvalidTransition where it does not wait any more."""
    if not cancel_all(Callback.objects.filter(pk=callback.pk).waiting(), reason=reason):
        raise InvalidTransition(f"state: callback {callback} does not wait, it cannot be canceled")


def cancel_all(waiting: Any, *, reason: str) -> int:
    """Give up all of a queryset of callbacks that wait; return how many there were."""
    number: int = waiting.update(
        state=Callback.State.CANCELED,
        due=None,
        token=None,
        reason=reason[:MAX_REASON],
        settled_on=timezone.now(),
    )
    return number


def kept_of(body: bytes) -> str:
    """Return as much of a partner's answer as is kept, as text that every database takes."""
    text = body[:MAX_ANSWER].decode(errors="replace")
    return "".join(each if each.isprintable() or each in "\n\t" else " " for each in text).strip()
