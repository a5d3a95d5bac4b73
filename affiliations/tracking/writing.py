"""Write the hits that come through Redis: many at once, and each of them once.

A message is let go when what it holds is committed. So whoever is killed in between has written
hits that another one is given again; by their ids it finds them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Event
from typing import Any

from django.db import (
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connections,
    router,
)

from .. import faults
from ..savepoints import retried
from . import erasures, hits, stream
from .exceptions import TooManyNames
from .identities import identify, introduce
from .models import Erased, Hit, Identity, Property
from .stream import Message, Reader

__all__ = ["BATCH", "CLAIM_AFTER", "Writer", "write"]

logger = logging.getLogger(__name__)

#: Messages that are written in one transaction, and after how many seconds those of somebody who
#: has not written them yet are taken over.
BATCH, CLAIM_AFTER = 5000, 60.0
#: Names that are looked up by one query, rows that are written by one where there is no COPY.
AT_ONCE = 500
#: Times that others may have written some of the same hits meanwhile.
TURNS = 5
#: Seconds to wait for messages, between two looks for those of writers that are gone, and before
#: another try where the database or Redis cannot be had: the first one, and at most.
WAIT, TEND_EVERY, FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0, 0.1, 30.0

#: Identities and their customers, by the properties, kinds and values that stand in messages.
Found = dict[str, tuple[int, int]]


def write(messages: Sequence[Message], *, again: bool) -> None:
    """Write the hits of messages into the database, each once; everything or nothing.

    `again` says that some of them may be written already. Hits of properties that are gone are left
    out, and those of somebody who was erased after they were told.
    """
    using = router.db_for_write(Hit)
    for _ in range(TURNS):
        try:
            retried(partial(_write, messages, using, again), using)
        except IntegrityError:
            # Some are there after all, or have become so since it was looked.
            again = True
        else:
            return
    retried(partial(_write, messages, using, again), using)


def _write(messages: Sequence[Message], using: str, again: bool) -> None:
    told = {each.whose for each in messages}
    there = erasures.hold({stream.property_of(each) for each in told}, using)
    whose = {each: stream.whose(each) for each in told if stream.property_of(each) in there}
    messages = _not_erased([each for each in messages if each.whose in whose], whose, using)
    owners = _identities({each.whose: whose[each.whose] for each in messages}, using)
    rows = [(each.line, owners[each.whose]) for each in messages]
    if again:
        rows = list(_new(rows, using))
    if rows:
        _put(rows, using)


def _not_erased(
    messages: list[Message], whose: dict[bytes, list[str]], using: str
) -> list[Message]:
    erased = erasures.known(using)
    if not erased:
        return messages
    until = {}
    for told, who in whose.items():
        digests = [erasures.digest_of(stream.named(each)[1]) for each in who]
        moments = [erased[each] for each in digests if each in erased]
        if moments:
            until[told] = max(moments)
    return [
        each
        for each in messages
        if each.whose not in until or stream.received(each.line) > until[each.whose]
    ]


def _identities(whose: dict[bytes, list[str]], using: str) -> dict[bytes, int]:
    """Return the identities that hits belong to, which nobody erases now, made if need be."""
    found = _locked(whose.values(), using)
    unknown = {told: who for told, who in whose.items() if not _is_one(who, found)}
    if unknown:
        _introduce(unknown, using)
        found |= _locked(unknown.values(), using)
    # They may not be one person's even now: other names of them are another user's.
    return {told: found[who[0]][0] for told, who in whose.items()}


def _is_one(who: list[str], found: Found) -> bool:
    if len(who) == 1:
        return who[0] in found
    customers = {found[each][1] if each in found else None for each in who}
    return len(customers) == 1 and None not in customers


def _introduce(unknown: dict[bytes, list[str]], using: str) -> None:
    """Say of the names of each that they are one person's."""
    singles = {}
    if connections[using].features.can_return_rows_from_bulk_insert:
        singles = {told: who for told, who in unknown.items() if len(who) == 1}
        introduce([stream.named(who[0]) for who in singles.values()], using)
    # In the same order everywhere, as far as one can.
    for told in sorted(unknown.keys() - singles.keys()):
        prop = Property(pk=stream.property_of(told))
        names = [stream.named(each)[1] for each in unknown[told]]
        try:
            identify(prop, names)
        except TooManyNames:
            identify(prop, names[:1])


def _locked(whose: Iterable[list[str]], using: str) -> Found:
    """Return the identities and customers of names, which nobody erases now."""
    values: dict[str, set[str]] = {}
    for who in whose:
        for each in who:
            property_id, _, value = each.split("\t")
            values.setdefault(property_id, set()).add(value)
    connection, found = connections[using], Found()
    with connection.cursor() as cursor:
        for property_id, theirs in values.items():
            for some in _in_parts(sorted(theirs), connection.vendor):
                cursor.execute(_lookup(connection.vendor, len(some)), [property_id, *some])
                for kind, value, identity, customer in cursor.fetchall():
                    found[f"{property_id}\t{kind}\t{value}"] = identity, customer
    return found


def _in_parts(values: list[str], vendor: str) -> Iterator[list[Any]]:
    if vendor == "postgresql":
        # As an array: for each place of its own the driver takes as long as for the row.
        yield [values]
        return
    for start in range(0, len(values), AT_ONCE):
        yield values[start : start + AT_ONCE]


def _lookup(vendor: str, number: int) -> str:
    places = "= ANY(%s)" if vendor == "postgresql" else f"IN ({', '.join(['%s'] * number)})"
    # By property: no index begins with the value.
    return (
        "SELECT i.kind, i.value, i.id, i.customer_id "  # noqa: S608 # nosec B608
        f"FROM {Identity._meta.db_table} i WHERE i.property_id = %s AND i.value {places} "
        + hits.HELD[vendor]
    )


def _new(rows: list[tuple[bytes, int]], using: str) -> Iterator[tuple[bytes, int]]:
    """Yield the hits that are not written yet, with another id where a different hit has theirs."""
    numbers = sorted({_number(line) for line, _ in rows})
    taken: dict[int, Any] = {}
    for start in range(0, len(numbers), AT_ONCE):
        some = Hit.objects.using(using).filter(pk__in=numbers[start : start + AT_ONCE])
        for number, *same in some.values_list("pk", "received_on", "identity"):
            taken[number] = same
    for line, identity in rows:
        number, same = _number(line), [stream.received(line), identity]
        if taken.setdefault(number, None) is None:
            taken[number] = same
            yield line, identity
        elif taken[number] != same:
            number = stream.next_number()
            taken[number] = same
            yield stream.numbered(line, number), identity


def _number(line: bytes) -> int:
    return int(line.partition(b"\t")[0])


def _put(rows: list[tuple[bytes, int]], using: str) -> None:
    connection = connections[using]
    with connection.cursor() as cursor:
        # Of the newer of the two that Django can speak with PostgreSQL by.
        if connection.vendor == "postgresql" and hasattr(cursor.cursor, "copy"):
            columns = ", ".join((*stream.COLUMNS, "identity_id"))
            data = b"".join([b"%b\t%d\n" % row for row in rows])
            with (
                connection.wrap_database_errors,
                cursor.copy(f"COPY {Hit._meta.db_table} ({columns}) FROM STDIN") as copy,
            ):
                copy.write(data)
            return
    made = [Hit(**stream.columns_of(line), identity_id=identity) for line, identity in rows]
    Hit.objects.using(using).bulk_create(made, batch_size=AT_ONCE)


class Writer:
    """Takes messages from the stream, and writes them, until it is stopped."""

    def __init__(
        self,
        *,
        batch: int = BATCH,
        claim_after: float = CLAIM_AFTER,
        report: Callable[[int], Any] = lambda written: None,
    ) -> None:
        self.batch, self.claim_after, self.report = batch, claim_after, report
        self.written = self.failed = 0
        self._stopped = Event()
        self._tended = -math.inf

    def stop(self) -> None:
        """End once what was taken is written."""
        self._stopped.set()

    def run(self, *, loop: bool) -> None:
        """Write what there is, and with `loop` what comes until `stop`.

        With it, a database or a Redis that cannot be had is waited for; without it, the error is
        raised, and nothing is lost.
        """
        using, pause, reader = router.db_for_write(Hit), FIRST_PAUSE, None
        gone: tuple[type[Exception], ...] = (OperationalError, InterfaceError, *stream.errors())
        while not self._stopped.is_set():
            before = self.written
            try:
                reader = reader or Reader(self.claim_after)
                self._run(reader, loop)
                reader.close()
                return
            except gone as error:
                if not loop:
                    raise
                logger.error("Hits cannot be written, and wait: %s", error)
            connections[using].close()
            pause = pause if self.written == before else FIRST_PAUSE
            self._stopped.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _run(self, reader: Reader, loop: bool) -> None:
        reader.join()
        # What it had when something went wrong.
        while messages := reader.own(self.batch):
            reader.done(self._write(messages, reader, again=True))
        ahead: Future[list[Message]] | None = None
        written: list[Message] = []
        # One that speaks with Redis while this one waits for the database.
        with ThreadPoolExecutor(1, "affiliations-redis") as pool:
            while ahead or not self._stopped.is_set():
                if not ahead and self._is_time_to_tend():
                    reader.done(written)
                    written = []
                    self._take_over(reader)
                if ahead:
                    messages = ahead.result()
                else:
                    messages, written = reader.next(self.batch, written, WAIT * loop), []
                ahead = None
                if messages and not (self._stopped.is_set() or self._is_time_to_tend()):
                    ahead, written = pool.submit(reader.next, self.batch, written), []
                if messages:
                    written += self._write(messages, reader, again=False)
                elif not loop:
                    break
        reader.done(written)

    def _is_time_to_tend(self) -> bool:
        return time.monotonic() - self._tended >= min(TEND_EVERY, self.claim_after)

    def _take_over(self, reader: Reader) -> None:
        """Write what those have not written who are gone, and forget them."""
        while messages := reader.claim(self.batch):
            reader.done(self._write(messages, reader, again=True))
        self._tended = time.monotonic()
        self._tend(reader.tend())

    def _tend(self, oldest: float | None) -> None:
        """Forget erasures that are older than any message."""
        before = hits.happened(min(oldest or time.time(), time.time()) - erasures.KEPT)
        using = router.db_for_write(Erased)
        Erased.objects.using(using).filter(erased_on__lt=before).delete()

    def _write(self, messages: list[Message], reader: Reader, *, again: bool) -> list[Message]:
        """Write messages, and return those to let go, as all but what is put aside."""
        try:
            write(messages, again=again)
        except (DataError, IntegrityError, ValueError):
            messages = self._one_by_one(messages, reader)
        if faults.POINT:
            faults.reach("hits-committed")
        self.written += len(messages)
        self.report(self.written)
        return messages

    def _one_by_one(self, messages: list[Message], reader: Reader) -> list[Message]:
        """Write what can be written of some messages, and put the others aside."""
        written = []
        for each in messages:
            try:
                write([each], again=True)
            except (DataError, IntegrityError, ValueError):
                logger.exception("A hit cannot be written, and is put aside")
                reader.give_up(each)
                self.failed += 1
            else:
                written.append(each)
        return written
