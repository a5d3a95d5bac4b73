"""Deliver callbacks: at least once, always the same id and bytes, never one that was rolled back.

A claim is a lease: it sets the time at which the row falls due again, so whatever happens to the
process that holds it, the row is tried again, and no reaper is needed. Attempts are counted at the
claim, so a callback that kills its worker dies out too. Completion is fenced by the claim's token:
a worker that comes back after its lease has lapsed changes nothing.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timedelta

from django.db import connections, models, router, transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from . import __version__, callbackurl, egress, signing
from .exceptions import InvalidTransition
from .models import Callback, CallbackAttempt
from .models.callbacks import MAX_REASON
from .signals import callbacks_enqueued

__all__ = [
    "SCHEDULE",
    "cancel",
    "claim",
    "deliver",
    "deliver_due",
    "deliver_in_threads",
    "enqueue",
    "send_again",
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

#: Longer than a call can take, so that a lease lapses only under a worker that is gone.
LEASE = timedelta(seconds=60)
#: Seconds in which the thread that waits for others hears of a signal at the latest.
WAKE = 0.2


def enqueue(callbacks: Sequence[Callback]) -> list[Callback]:
    """Write callbacks into the outbox, within the caller's transaction."""
    written = Callback.objects.bulk_create(callbacks)
    if written:
        callbacks_enqueued.send_robust(Callback, callbacks=written)
    return written


def claim(limit: int = 1, *, ids: Iterable[int] | None = None) -> list[Callback]:
    """Take up to `limit` due callbacks, of `ids` only if given, for the time of a lease.

    The same two statements on every database: the UPDATE asks again whether a row is still due,
    and of two workers that saw the same row only one finds it so.
    """
    now = timezone.now()
    due = Callback.objects.due(now).order_by("due", "pk")
    if ids is not None:
        due = due.filter(pk__in=list(ids))
    using = router.db_for_write(Callback)
    token = uuid.uuid4()
    with transaction.atomic(using=using):
        rows = due.using(using)
        if connections[using].features.has_select_for_update_skip_locked:
            rows = rows.select_for_update(skip_locked=True)
        seen = list(rows.values_list("pk", flat=True)[:limit])
        claimed = seen and Callback.objects.using(using).due(now).filter(pk__in=seen).update(
            token=token, due=now + LEASE, attempts=models.F("attempts") + 1
        )
    if not claimed:
        return []
    mine = Callback.objects.using(using).filter(token=token)
    taken = list(mine.select_related("partner").order_by("pk"))
    good = [each for each in taken if each.attempts - each.attempts_before <= MAX_ATTEMPTS]
    if len(good) == len(taken):
        return taken
    mine.exclude(pk__in=[each.pk for each in good]).update(
        state=Callback.State.DEAD,
        due=None,
        token=None,
        settled_on=now,
        reason="Each attempt ended with the process that made it.",
    )
    # Not none at all because of these: whoever drains the outbox would take it to be empty.
    return good or claim(limit, ids=ids)


def deliver(callback: Callback, *, timeout: float = egress.TIMEOUT) -> bool:
    """Make one attempt at a claimed callback and record it; tell whether it was delivered.

    Never call it inside a transaction: the call may take seconds.
    """
    started = timezone.now()
    clock = time.monotonic()
    answer = _attempt(callback, started, timeout)
    attempt = CallbackAttempt(
        callback=callback,
        number=callback.attempts,
        started_on=started,
        duration_ms=round((time.monotonic() - clock) * 1000),
        status=answer.status,
        error=answer.error[:MAX_REASON],
    )
    return _settle(callback, attempt)


@sensitive_variables()
def _attempt(callback: Callback, started: datetime, timeout: float) -> egress.Answer:
    secrets = callback.partner.signing_secrets(started)
    if not secrets:
        return egress.Answer(
            None,
            "The partner's signing secret was made with a key of the site "
            "that is gone. Issue a new one.",
        )
    body = callback.body.encode()
    timestamp = int(started.timestamp())
    payload = signing.payload(callback.method, callbackurl.request_target(callback.url), body)
    headers = {
        "User-Agent": f"django-affiliations/{__version__}",
        "webhook-id": callback.webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.signature_header(
            secrets, callback.webhook_id, timestamp, payload
        ),
    }
    if body:
        headers["Content-Type"] = "application/json"
    return egress.send(callback.method, callback.url, headers=headers, body=body, timeout=timeout)


def _settle(callback: Callback, attempt: CallbackAttempt) -> bool:
    now = timezone.now()
    made = callback.attempts - callback.attempts_before
    delivered = attempt.status is not None and 200 <= attempt.status < 300
    reason = "" if delivered else attempt.error or f"The partner answered {attempt.status}."
    changes: dict[str, object] = {"token": None, "reason": reason[:MAX_REASON]}
    if delivered:
        changes |= {"state": Callback.State.DELIVERED, "due": None, "settled_on": now}
    elif made >= MAX_ATTEMPTS:
        changes |= {"state": Callback.State.DEAD, "due": None, "settled_on": now}
    else:
        pause = SCHEDULE[made - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
        changes["due"] = now + pause
    using = router.db_for_write(Callback)
    with transaction.atomic(using=using):
        mine = Callback.objects.using(using).filter(
            pk=callback.pk, token=callback.token, state=Callback.State.PENDING
        )
        if not mine.update(**changes):
            logger.warning("Callback %s was claimed anew before its attempt ended", callback)
            return False
        attempt.save(using=using)
    for name, value in changes.items():
        setattr(callback, name, value)
    return delivered


def deliver_due(
    *,
    limit: int | None = None,
    ids: Iterable[int] | None = None,
    timeout: float = egress.TIMEOUT,
    stop: threading.Event | None = None,
) -> tuple[int, int]:
    """Make an attempt at each callback that is due, one after the other, until `stop` is set.

    Returns how many were attempted, and how many of these were delivered. Claims one at a time: a
    lease that covers many calls lapses under the last of them.
    """
    attempted = delivered = 0
    wanted = None if ids is None else set(ids)
    while (limit is None or attempted < limit) and not (stop and stop.is_set()):
        claimed = claim(1, ids=wanted)
        if not claimed:
            break
        attempted += 1
        delivered += deliver(claimed[0], timeout=timeout)
        if wanted is not None:
            wanted.discard(claimed[0].pk)
    return attempted, delivered


def deliver_in_threads(threads: int, *, stop: threading.Event | None = None) -> tuple[int, int]:
    """Do what `deliver_due` does with several calls under way at once."""
    with ThreadPoolExecutor(threads, thread_name_prefix="affiliations") as pool:
        working = [pool.submit(_drain, stop) for _ in range(threads)]
        # Now and then, because a signal may come just before a wait, and would only be
        # seen after.
        while wait(working, timeout=WAKE).not_done:
            pass
        done = [future.result() for future in working]
    return sum(attempted for attempted, _ in done), sum(delivered for _, delivered in done)


def _drain(stop: threading.Event | None) -> tuple[int, int]:
    try:
        return deliver_due(stop=stop)
    finally:
        connections.close_all()


def send_again(callback: Callback) -> None:
    """Let a callback fall due now, whatever became of it; its id and bytes stay the same."""
    changed = Callback.objects.filter(pk=callback.pk).update(
        state=Callback.State.PENDING,
        due=timezone.now(),
        attempts_before=models.F("attempts"),
        token=None,
        reason="",
        settled_on=None,
    )
    if changed:
        callbacks_enqueued.send_robust(Callback, callbacks=[callback])


def cancel(callback: Callback, *, reason: str) -> None:
    """Give up a callback that waits; raises InvalidTransition where it does not wait any more."""
    waiting = Callback.objects.filter(pk=callback.pk, state=Callback.State.PENDING)
    if not waiting.update(
        state=Callback.State.CANCELED,
        due=None,
        token=None,
        reason=reason[:MAX_REASON],
        settled_on=timezone.now(),
    ):
        raise InvalidTransition(f"state: callback {callback} does not wait, it cannot be canceled")
