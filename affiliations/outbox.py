"""Keep the callbacks that wait: none is lost, and none is sent that was undone.

Each is a row, written in the transaction that caused it. claims.py hands them out, delivery.py
makes the calls, and outcomes.py records what came of them; what staff decide of them is here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from django.db import router, transaction
from django.db.models import F, Q
from django.utils import timezone

from . import callbackurl, faults
from .exceptions import InvalidCallbackURL, InvalidTransition
from .models import Callback, Destination, Subscription
from .models.callbacks import MAX_REASON
from .signals import callbacks_enqueued
from .signing import TEST_PREFIX, new_webhook_id

__all__ = [
    "cancel",
    "enqueue",
    "enqueue_test",
    "send_again",
    "send_all_again",
    "switch_off",
    "switch_on",
    "withdraw",
]

#: Rows that are sent again, or otherwise changed, in one transaction.
BATCH = 1000
#: Sent again lately, a callback is not sent again with others: the order was given twice.
AGAIN_AFTER = timedelta(hours=1)
#: Stands for the host of an address that has none.
NO_HOST = "-"


def know(hosts: Iterable[str], using: str) -> None:
    """Let claims look for what waits for these hosts."""
    wanted = {host for host in hosts if host}
    if not wanted:
        return
    known = Destination.objects.using(using)
    # Looked for first: on MariaDB an insert that is ignored locks the row to the caller's commit,
    # and nobody could claim from the host for as long.
    there = set(known.filter(host__in=wanted).values_list("host", flat=True))
    rows = [Destination(host=host) for host in sorted(wanted - there)]
    if rows:
        known.bulk_create(rows, ignore_conflicts=True)


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


def address(
    callback: Callback,
    template: str,
    values: Mapping[str, str],
    *,
    kind: str = "conversion",
    placeholders: Sequence[str] = callbackurl.PLACEHOLDERS,
) -> None:
    """Fill in where a callback goes and what it says: the template and the rest as `render` has it.

    A POST says it all as JSON, in the form that Standard Webhooks recommends: type, timestamp and
    data. Written once and never again, so that each attempt sends the same bytes.
    """
    if not aim(callback, template, values, placeholders):
        return
    if callback.method == Callback.Method.POST:
        data = {name: values.get(name, "") for name in callbackurl.PLACEHOLDERS}
        moment = datetime.fromtimestamp(int(data.pop("timestamp")), tz=UTC)
        message = {"type": kind, "timestamp": moment.isoformat(), "data": data}
        callback.body = json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def aim(
    callback: Callback, template: str, values: Mapping[str, str], placeholders: Sequence[str]
) -> bool:
    """Fill in where a callback goes; where it can go nowhere, give it up and tell so."""
    try:
        callback.url = callbackurl.render(template, values, placeholders)
    except InvalidCallbackURL as error:
        # Rows from before the rules may hold such a URL: what happened counts all the same, and
        # staff see why nobody could be told.
        callback.url = template
        callback.state = Callback.State.DEAD
        callback.due = None
        callback.settled_on = callback.created_on
        callback.reason = str(error)
        return False
    callback.host = callbackurl.host(callback.url)
    return True


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
    """Let a callback fall due now, whatever became of it; its id and bytes stay the same.

    Raises InvalidTransition where it was withdrawn.
    """
    rows = Callback.objects.filter(pk=callback.pk)
    if rows.filter(withdrawn=False).update(**_anew(timezone.now())):
        callbacks_enqueued.send_robust(Callback, callbacks=[callback])
    elif rows.exists():
        raise InvalidTransition(f"state: callback {callback} was withdrawn, it is not sent again")


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
    """Keep what `send_all_again` would send: neither waiting, withdrawn nor sent again lately."""
    lately = timezone.now() - AGAIN_AFTER
    settled = callbacks.exclude(state=Callback.State.PENDING).filter(withdrawn=False)
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


def withdraw(callbacks: Any, *, reason: str) -> None:
    """See that callbacks are not sent any more: those that wait are given up, none is sent again.

    For what is no longer so: a purchase that was refunded, a person who was erased.
    """
    # One statement for those that wait, or a worker may be faster.
    cancel_all(callbacks.waiting(), reason=reason)
    callbacks.exclude(state=Callback.State.PENDING).update(withdrawn=True)
