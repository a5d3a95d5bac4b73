"""Make the calls that the outbox hands out: one after the other, or many at once.

No thread that makes calls touches the database, and whoever touches the database makes no call, so
no transaction is open while a partner takes its time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from django.db import Error, InterfaceError, OperationalError, connections, router
from django.db.models import F
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from . import __version__, callbackurl, claims, egress, outbox, outcomes, querysets, signing, wakeup
from .conf import settings
from .models import Callback, CallbackAttempt
from .models.callbacks import MAX_REASON
from .outcomes import Result
from .requestbody import FORM, JSON

__all__ = ["Courier", "Tally", "deliver_due"]

logger = logging.getLogger(__name__)

#: As many calls one after the other as a lease has time for, if they all take their whole time.
CALLS_IN_A_LEASE = 6
#: Seconds that a call should be given, or it had better be made by somebody else.
ENOUGH = 1.0
#: Seconds between two looks into an outbox that had nothing due: the first, and the longest.
FIRST_LOOK, LAST_LOOK = 0.05, 1.0
#: Seconds between two looks for callbacks that no claim would find, and for answers that are old.
TEND_EVERY = 60.0
#: Seconds within which what is claimed ahead of the threads should be begun.
AHEAD = 0.2
#: Seconds to wait for a database that is gone, and at most.
RECONNECT, MAX_RECONNECT = 0.2, 5.0
#: Seconds to wait for it in all, where it is time to end.
PATIENCE = 10.0
#: Why a call was not made, and what to do about it.
UNSIGNABLE = (
    "The partner's signing secret was made with a key of the site that is gone. Issue a new one."
)
TOKENLESS = "AFFILIATE_CALLBACK_TOKENS has no token for this host."
#: What is recorded in the place of words that the database does not take.
UNSTORABLE = "(words that cannot be stored)"


@sensitive_variables()
def attempt(callback: Callback, *, timeout: float = egress.TIMEOUT) -> Result:
    """Make one call for a claimed callback, and return what came of it, recorded nowhere yet."""
    started = timezone.now()
    clock = time.monotonic()
    answer = _answer(callback, started, timeout)
    said = outcomes.kept_of(answer.body)
    made = CallbackAttempt(
        callback=callback,
        number=callback.attempts,
        started_on=started,
        duration_ms=round((time.monotonic() - clock) * 1000),
        status=answer.status,
        error=answer.error[:MAX_REASON],
        answer=said,
        answer_until=started + outcomes.ANSWERS_KEPT if said else None,
    )
    return Result(callback, made, answer)


@sensitive_variables()
def _answer(callback: Callback, started: datetime, timeout: float) -> egress.Answer:
    body = callback.body.encode()
    timestamp = int(started.timestamp())
    headers = {
        "User-Agent": f"django-affiliations/{__version__}",
        "webhook-id": callback.webhook_id,
        "webhook-timestamp": str(timestamp),
    }
    if body:
        # A form has its braces escaped.
        headers["Content-Type"] = JSON if callback.body.startswith("{") else FORM
    try:
        url = callbackurl.with_token(callback.url, settings.CALLBACK_TOKENS)
    except LookupError:
        return egress.Answer(None, TOKENLESS, ours=True)
    # A call on nobody's behalf has nobody who could verify it.
    if callback.partner is not None:
        secrets = callback.partner.signing_secrets(started)
        if not secrets:
            return egress.Answer(None, UNSIGNABLE, ours=True)
        payload = signing.payload(callback.method, callbackurl.request_target(url), body)
        headers["webhook-signature"] = signing.signature_header(
            secrets, callback.webhook_id, timestamp, payload
        )
    return egress.send(callback.method, url, headers=headers, body=body, timeout=timeout)


def deliver(callback: Callback, *, timeout: float = egress.TIMEOUT) -> bool:
    """Make one attempt at a claimed callback and record it; tell whether it was delivered.

    Never call it inside a transaction: the call may take seconds, up to `timeout`.
    """
    return _settle_alone(attempt(callback, timeout=timeout))


def _settle_alone(result: Result) -> bool:
    """Record what came of one attempt, if need be without the partner's words.

    Tell whether the callback was delivered by it. Where the database takes it in no form, that is
    logged, and the callback falls due again when its lease is over. Raises an error of the
    database only where that takes nothing else either.
    """
    problem = ""
    # Twice as it is: two workers may only have been in each other's way.
    for with_words in (True, True, False):
        if not with_words and result.attempt.answer:
            result.attempt.answer = UNSTORABLE
        try:
            return outcomes.settle([result])[0]
        except Error as error:
            _see_that_it_can_be_written(result.callback)
            # Its kind only: what it says may show what was to be stored.
            problem = type(error).__name__
    logger.error(
        "Callback %s was attempted, and the database does not take what came of it: %s",
        result.callback,
        problem,
    )
    return False


def _see_that_it_can_be_written(callback: Callback) -> None:
    """Raise an error of the database where that does not even take what changes nothing."""
    using = router.db_for_write(Callback)
    outcomes.hang_up_if_broken(using)
    Callback.objects.using(using).filter(pk=callback.pk).update(attempts=F("attempts"))


class Tally(NamedTuple):
    """How many attempts were made, and how many of these delivered their callback."""

    attempted: int
    delivered: int


def deliver_due(
    *,
    limit: int | None = None,
    ids: Iterable[int] | None = None,
    within: float | None = None,
) -> Tally:
    """Make an attempt at each callback that is due, one after the other.

    At most `limit`, of `ids` only if given, and none that would last longer than `within` seconds
    from now, or be begun with less than one of them left. Claims one at a time: a lease that
    covers many calls lapses under the last of them.
    """
    attempted = delivered = 0
    claimer = claims.Claimer(ids)
    end = float("inf") if within is None else time.monotonic() + within
    while limit is None or attempted < limit:
        timeout = min(egress.TIMEOUT, end - time.monotonic())
        if timeout < ENOUGH:
            break
        claimed = claimer.claim()
        if not claimed:
            break
        attempted += 1
        delivered += deliver(claimed[0], timeout=timeout)
        if claimer.ids is not None:
            claimer.ids.discard(claimed[0].pk)
    return Tally(attempted, delivered)


class Courier:
    """Delivers with up to `threads` calls under way at once, `batch` claims at a time.

    `report` is called now and then with the tally so far. `stop` may be called from a signal
    handler: what is under way is finished, and what was only claimed is given back.
    """

    def __init__(
        self,
        threads: int = 1,
        *,
        batch: int | None = None,
        timeout: float = egress.TIMEOUT,
        report: Callable[[Tally], None] = lambda tally: None,
    ) -> None:
        self.threads = threads
        # Nearly as many again may wait for a thread, so that none waits for the database. A lease
        # is as long as six calls may take; these two leave time for both ends.
        self.batch = batch or threads * 2
        self.timeout = timeout
        self.report = report
        self.attempted = self.delivered = 0
        self._stopping = False
        self._claimer = claims.Claimer()
        #: Seconds that a call takes, lately.
        self._pace = 0.0
        self._tended = float("-inf")
        self._under_way: dict[int, Callback] = {}
        self._suspect: Callback | None = None
        self._unbegun: list[Callback] = []
        self._unsettled: list[Result] = []
        self._todo: SimpleQueue[Callback | None] = SimpleQueue()
        # What the database's thread waits for: a result, or None where there is something to do.
        self._events: SimpleQueue[Result | None] = SimpleQueue()

    @property
    def tally(self) -> Tally:
        """What was done so far."""
        return Tally(self.attempted, self.delivered)

    @property
    def room(self) -> int:
        """How many callbacks may be claimed at once: fewer ahead where calls are slow.

        Who is claimed behind a call that hangs could have been called by another process.
        """
        # None with one thread: an answer is then recorded before the next call is made, and at most
        # one call comes twice when the process is killed.
        ahead = self.threads - 1
        if self._pace > AHEAD:
            ahead = round(ahead * AHEAD / self._pace)
        return self.threads + ahead

    def stop(self) -> None:
        """End with the calls that are under way."""
        self._stopping = True
        self._events.put(None)

    def run(self, *, loop: bool = False) -> Tally:
        """Deliver what is due, or with `loop` go on until `stop`; return what was done.

        Raises an error of the database where that is gone. With `loop` it is waited for, and after
        `stop` for 10 seconds. Without, no more calls are begun, and what comes of those under way
        is recorded first, if that can be done within 10 seconds.
        """
        using = router.db_for_write(Callback)
        workers = [
            threading.Thread(target=self._work, name=f"affiliations-{number}", daemon=True)
            for number in range(self.threads)
        ]
        for worker in workers:
            worker.start()
        listener = wakeup.Listener(using, lambda: self._events.put(None)) if loop else None
        try:
            self._deliver(using, listener, loop=loop)
        finally:
            if listener is not None:
                listener.close()
            # Where the database is gone, what nobody has begun falls due by itself.
            list(_drained(self._todo))
            for _ in workers:
                self._todo.put(None)
            for worker in workers:
                worker.join()
        return self.tally

    def _work(self) -> None:
        while (callback := self._todo.get()) is not None:
            due: Any = callback.due
            if due - timezone.now() < querysets.LEASE / CALLS_IN_A_LEASE:
                # The process slept, or waited for the database: another may have it by now.
                self._under_way.pop(callback.pk, None)
                self._events.put(None)
                continue
            try:
                result = attempt(callback, timeout=self.timeout)
            except Exception:
                # A defect of ours. The row falls due again when its lease is over, and dies out.
                logger.exception("Callback %s could not be attempted", callback)
                self._under_way.pop(callback.pk, None)
                self._events.put(None)
            else:
                self._events.put(result)

    def _deliver(self, using: str, listener: wakeup.Listener | None, *, loop: bool) -> None:
        look, reconnect, give_up = FIRST_LOOK, RECONNECT, float("inf")
        failure: Error | None = None
        while True:
            try:
                busy = self._go_round()
            except (InterfaceError, OperationalError) as error:
                if connections[using].in_atomic_block or not (loop or self._under_way):
                    raise
                if not loop:
                    # Whoever called is told, but when what is under way has been recorded.
                    self._stopping = True
                    failure = failure or error
                if self._stopping:
                    give_up = min(give_up, time.monotonic() + PATIENCE)
                if time.monotonic() >= give_up:
                    self._own_up()
                    raise
                # Whatever was claimed falls due again by itself; what has an answer keeps it.
                logger.warning("The database is gone, trying again: %s", error)
                connections[using].close()
                time.sleep(min(reconnect, max(give_up - time.monotonic(), 0)))
                reconnect = min(reconnect * 2, MAX_RECONNECT)
                continue
            reconnect, give_up = RECONNECT, float("inf")
            self.report(self.tally)
            if busy:
                look = FIRST_LOOK
                continue
            if not self._under_way and (self._stopping or not loop):
                break
            self._wait(look if not (listener and listener.listening) else LAST_LOOK)
            look = FIRST_LOOK if self._under_way else min(look * 2, LAST_LOOK)
        if failure is not None:
            raise failure

    def _go_round(self) -> bool:
        """Do what there is to do at the database; tell whether there may be more at once."""
        if self._stopping:
            self._give_back()
        self._settle()
        if time.monotonic() - self._tended >= TEND_EVERY:
            self._tended = time.monotonic()
            outbox.adopt()
            outcomes.expunge()
        return self._claim()

    def _own_up(self) -> None:
        """Log of which calls nobody will know that they were made."""
        self._take_all()
        if self._unsettled:
            logger.error(
                "The database is gone for too long. Attempted, and not recorded: %s",
                ", ".join(str(each.callback) for each in self._unsettled),
            )

    def _claim(self) -> bool:
        """Hand out what is due; tell whether there may be more that could be handed out at once."""
        if self._suspect is not None:
            # So that nothing else dies with it, nor is taken to have died of itself.
            if len(self._under_way) == 1 and not self._stopping:
                self._todo.put(self._suspect)
                self._suspect = None
            return False
        free = self.room - len(self._under_way)
        if any(each.alone for each in list(self._under_way.values())):
            return False
        if self._stopping or free <= 0 or (free < self.threads // 4 and not self._todo.empty()):
            return False
        claimed = self._claimer.claim(min(free, self.batch))
        for callback in claimed:
            self._under_way[callback.pk] = callback
            if callback.alone:
                self._suspect = callback
            else:
                self._todo.put(callback)
        return bool(claimed)

    def _settle(self) -> None:
        self._take_all()
        if not self._unsettled:
            return
        try:
            self._let_go(outcomes.settle(self._unsettled))
        except Error:
            _see_that_it_can_be_written(self._unsettled[0].callback)
            # One that the database does not take must not keep the others from it.
            while self._unsettled:
                self._let_go([_settle_alone(self._unsettled[0])])

    def _let_go(self, done: list[bool]) -> None:
        """Count the first of the results, which are settled, and have them in hand no more."""
        for each in self._unsettled[: len(done)]:
            self._under_way.pop(each.callback.pk, None)
        del self._unsettled[: len(done)]
        self.attempted += len(done)
        self.delivered += sum(done)

    def _take_all(self) -> None:
        for event in _drained(self._events):
            self._take(event)

    def _take(self, event: Result | None) -> None:
        if event is not None:
            self._unsettled.append(event)
            self._pace += (event.attempt.duration_ms / 1000 - self._pace) / self.threads

    def _wait(self, seconds: float) -> None:
        with suppress(Empty):
            self._take(self._events.get(timeout=seconds))

    def _give_back(self) -> None:
        if self._suspect is not None:
            self._unbegun.append(self._suspect)
            self._suspect = None
        self._unbegun += _drained(self._todo)
        if self._unbegun:
            claims.release(self._unbegun)
            for callback in self._unbegun:
                self._under_way.pop(callback.pk, None)
            self._unbegun = []


def _drained(queue: SimpleQueue[Any]) -> Iterator[Any]:
    """Yield what is in a queue, without waiting for more."""
    with suppress(Empty):
        while True:
            yield queue.get_nowait()
