"""Record what came of attempts: for the callback, its host, and its subscription.

Completion is fenced by the claim's token: a worker that comes back after its lease has lapsed
changes nothing.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import Error, connections, router, transaction
from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.http import parse_http_date_safe

from . import egress, faults, outbox
from .models import Callback, CallbackAttempt, Destination, Subscription
from .models.callbacks import MAX_ANSWER, MAX_REASON

__all__ = ["ANSWERS_KEPT", "SCHEDULE"]

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
#: The status that says that nobody will ever answer at an address again.
GONE = 410
REFUSED = "The partner took the call, and refused it."
#: How long staff can read what a partner answered.
ANSWERS_KEPT = timedelta(days=30)


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
    try:
        kept = _record(results, changes, now, using)
    except _NotAllOurs:
        # One by one it can be told which are.
        kept = [
            _record([each], [change], now, using)[0]
            for each, change in zip(results, changes, strict=True)
        ]
    if faults.POINT:
        faults.reach("committed")
    ours = [each for each, it_is in zip(results, kept, strict=True) if it_is]
    try:
        _watch_subscriptions(ours, now, using)
    except Error as error:
        # What matters is recorded: whoever tried again would find the callbacks not theirs.
        logger.warning("Failures of subscriptions were not counted: %s", type(error).__name__)
        hang_up_if_broken(using)
    done = []
    for result, change, it_is in zip(results, changes, kept, strict=True):
        if it_is:
            for name, value in change.items():
                setattr(result.callback, name, value)
        else:
            logger.warning("Callback %s was claimed anew before its attempt ended", result.callback)
        done.append(it_is and change["state"] == Callback.State.DELIVERED)
    return done


def hang_up_if_broken(using: str) -> None:
    """Close a connection that an error has left of no use, unless it is in a transaction.

    One that broke off while it left a transaction would take the next one for a part of that.
    """
    connection = connections[using]
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


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
    if answer.refused or attempt.status == GONE:
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


def _record(
    results: Sequence[Result], changes: list[dict[str, Any]], now: datetime, using: str
) -> list[bool]:
    """Write the outcomes and the attempts, each only where its claim still holds; tell where."""
    rows = Callback.objects.using(using).filter(state=Callback.State.PENDING)
    both = list(zip(results, changes, strict=True))
    delivered = [each for each in both if each[1]["state"] == Callback.State.DELIVERED]
    together = {each.callback.pk for each, _ in delivered} if len(delivered) > 1 else set()
    with transaction.atomic(using=using):
        # First, as whoever claims locks a host before its callbacks.
        _watch_hosts(results, now, using)
        if together:
            theirs = rows.claimed(each.callback for each, _ in delivered)
            if theirs.update(**delivered[0][1]) < len(together):
                raise _NotAllOurs
        kept = [
            each.callback.pk in together or bool(rows.claimed([each.callback]).update(**change))
            for each, change in both
        ]
        ours = [each for each, it_is in zip(results, kept, strict=True) if it_is]
        CallbackAttempt.objects.using(using).bulk_create(each.attempt for each in ours)
        for callback, attempt, _ in ours:
            # Here, as nobody would find out later that it should have been. Where somebody holds
            # it, what is called next at that address is answered likewise.
            if attempt.status == GONE and callback.subscription:
                here = Subscription.objects.using(using).filter(pk=callback.subscription.pk)
                if list(here.lock_free().values_list("pk")):
                    reason = "The partner answered 410: this address is gone."
                    outbox.switch_off(callback.subscription, reason=reason)
        if faults.POINT:
            faults.reach("recorded")
    return kept


def _watch_hosts(results: Iterable[Result], now: datetime, using: str) -> None:
    """Count a host's failures in a row, and leave it alone for a while when they are many."""
    by_host: dict[str, list[Result]] = {}
    for each in results:
        if not (each.answer.refused or each.answer.ours):
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
    """Count each subscription's failures in a row, and switch off those that fail for too long."""
    told: dict[int, list[bool]] = {}
    for callback, attempt, answer in results:
        subscription = callback.subscription
        # What was delivered changes nothing where none had failed; 410 is settled with its outcome.
        if subscription and not (answer.refused or answer.ours) and attempt.status != GONE:
            succeeded = attempt.status is not None and 200 <= attempt.status < 300
            if not succeeded or subscription.failures:
                told.setdefault(subscription.pk, []).append(succeeded)
    if not told:
        return
    rows = Subscription.objects.using(using).filter(pk__in=told)
    with transaction.atomic(using=using):
        # One failure more or less is of no consequence.
        for subscription in rows.lock_free().order_by("pk"):
            failures, since = subscription.failures, subscription.failing_since
            for succeeded in told[subscription.pk]:
                failures, since = (0, None) if succeeded else (failures + 1, since or now)
            changes: dict[str, Any] = {"failures": failures, "failing_since": since}
            for_long = since is not None and now - since >= OFF_AFTER
            if for_long and failures >= OFF_FAILURES and subscription.off_since is None:
                reason = f"Every attempt has failed for {OFF_AFTER.days} days."
                changes |= {"off_since": now, "off_reason": reason}
            rows.filter(pk=subscription.pk).update(**changes)


def expunge(now: datetime | None = None) -> int:
    """Empty the answers that have been kept long enough, some of them; return how many."""
    using = router.db_for_write(CallbackAttempt)
    attempts = CallbackAttempt.objects.using(using)
    old = attempts.filter(answer_until__lt=now or timezone.now()).order_by("answer_until")
    some = list(old.values_list("pk", flat=True)[: outbox.BATCH])
    if not some:
        return 0
    # A refusal's reason was told in the partner's words.
    Callback.objects.using(using).filter(attempt_log__in=some, state=Callback.State.REFUSED).update(
        reason=REFUSED
    )
    return attempts.filter(pk__in=some).update(answer="", answer_until=None)


def kept_of(body: bytes) -> str:
    """Return as much of a partner's answer as is kept, as text that every database takes."""
    text = body[:MAX_ANSWER].decode(errors="replace")
    return "".join(each if each.isprintable() or each in "\n\t" else " " for each in text).strip()
