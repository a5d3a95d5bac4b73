"""Row P2 of the promises for hits: those that nobody keeps go, and nobody waits for it."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management.color import no_style
from django.db import OperationalError, connection, connections, transaction
from django.utils import timezone

from affiliations import savepoints
from affiliations.privacy import forget_user
from affiliations.tracking import hits, partitions, retention
from affiliations.tracking.identities import Kind, Name
from affiliations.tracking.models import Customer, Hit, HitKey, Identity, Property
from affiliations.tracking.properties import Known
from benchmarks import links_at_scale as rows
from tests.tracking.factories import drop_parts, known, make_property

pytestmark = pytest.mark.django_db(transaction=True)

only_in_parts = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="only PostgreSQL parts the table"
)
User = get_user_model()
#: Hits of each person, all of them old.
EACH = 10
KEPT, OLD = 100, 500
row_locks = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="says of no wait whether it was for a lock, or for a turn"
)
#: So that the database itself ends a wait of a second: what the machine is busy with otherwise
#: counts for nothing.
LIMIT = {
    "postgresql": "SET lock_timeout = '1s'",
    "mysql": "SET innodb_lock_wait_timeout = 1",
}


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    # A wait that the database ends on MariaDB is told, and not waited out by another try.
    monkeypatch.setattr(savepoints, "CONFLICTS", savepoints.CONFLICTS - {1205})
    yield
    drop_parts()


@dataclass
class Writer:
    """What goes on at a site: people do something, tell of it again, and want to be erased."""

    prop: Known
    people: int
    writes: int = 0
    #: Hits that were written, and those that people who were erased had.
    written: int = 0
    erased: int = 0
    #: Waits for a lock that the database ended after a second.
    refused: int = 0
    longest: float = 0.0
    errors: list[BaseException] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        choice = random.Random(20171123)
        try:
            if connection.vendor in LIMIT:
                with connection.cursor() as cursor:
                    cursor.execute(LIMIT[connection.vendor])
            while not stop.is_set():
                started = time.monotonic()
                try:
                    self._write(choice)
                except OperationalError:
                    self.refused += 1
                self.writes += 1
                self.longest = max(self.longest, time.monotonic() - started)
        except Exception as error:  # noqa: BLE001 - the test asks for it, in its own thread
            self.errors.append(error)
        finally:
            connections.close_all()

    def _write(self, choice: random.Random) -> None:
        person = choice.randint(1, self.people)
        if choice.random() < 0.02:
            self.erased += forget_user(User(pk=person))["hits"]
            return
        # As if nobody kept note of what is long done.
        again = f"R-{choice.randint(1, EACH * self.people)}" if choice.random() < 0.5 else ""
        hit = hits.new_hit(self.prop, type="transaction", transaction_id=again)
        with transaction.atomic():
            self.written += hits.record(self.prop, [Name(Kind.USER, str(person))], hit)


@contextmanager
def writing(prop: Property, people: int) -> Iterator[Writer]:
    writer, stop = Writer(known(prop), people), threading.Event()
    thread = threading.Thread(target=writer.run, args=[stop])
    thread.start()
    try:
        yield writer
    finally:
        stop.set()
        thread.join()
    if writer.errors:
        raise writer.errors[0]


def fill(prop: Property, number: int, **columns: str) -> None:
    """Let people have done so much long ago, each of them ten things, and each thing of a key.

    `columns` are SQL of a hit's number, `n`.
    """
    old = timezone.now() - timedelta(days=OLD)
    order, text = "'R-' || n", "text"
    if connection.vendor == "mysql":
        order, text = "CONCAT('R-', n)", "char"
    people = number // EACH
    of = {"id": "n", "property_id": f"{prop.pk}"}
    now = "CURRENT_TIMESTAMP"
    rows.fill(Customer, people, {**of, "created_on": now})
    value = f"CAST(n AS {text})"
    named = {"customer_id": "n", "kind": f"'{Kind.USER}'", "value": value, "created_on": now}
    rows.fill(Identity, people, of | named)
    empty = "url referrer title channel source medium campaign term content link currency"
    told = {
        **of,
        "identity_id": f"1 + n % {people}",
        "type": f"'{Hit.Type.TRANSACTION}'",
        **dict.fromkeys(("happened_on", "received_on"), f"'{old:%Y-%m-%d %H:%M:%S}'"),
        "transaction_id": order,
        "is_informational": "FALSE",
        **dict.fromkeys(("click_ids", "meta"), "'{}'"),
        **dict.fromkeys(empty.split(), "''"),
    }
    rows.fill(Hit, number, told | columns)
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), [Customer, Identity, Hit]):
            cursor.execute(statement)
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE")
    hit = hits.new_hit(known(prop), type="transaction")
    HitKey.objects.bulk_create(
        (
            HitKey(
                digest=hits._key(prop.pk, hit._replace(transaction_id=f"R-{n}")),
                happened_on=old + timedelta(seconds=n),
            )
            for n in range(1, number + 1)
        ),
        batch_size=2000,
    )


def let_go_beside_a_writer(number: int, let_go: Callable[[], Any]) -> tuple[Writer, float]:
    prop = make_property(keep_days=KEPT)
    fill(prop, number)
    if partitions.are_there("default"):
        for month in partitions.missing([], "default"):
            partitions.make(month, "default")
    with writing(prop, number // EACH) as writer:
        started = time.monotonic()
        let_go()
        took = time.monotonic() - started
        # Also one who has waited for it to the end.
        seen = writer.writes + 2
        while writer.writes < seen and not writer.errors:
            time.sleep(0.01)
    # What somebody was at just then waits for the next time.
    retention.purge_hits()
    old = timezone.now() - timedelta(days=KEPT)
    assert not Hit.objects.filter(happened_on__lt=old).exists()
    assert not HitKey.objects.filter(happened_on__lt=old).exists()
    return writer, took


def tell(capsys: Any, what: str, writer: Writer, took: float) -> None:
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{connection.vendor}: 1,000,000 hits {what} in {took:.1f} s, beside "
            f"{writer.writes:,} writes, the longest of {writer.longest * 1000:.0f} ms, "
            f"{writer.refused} that waited for a second"
        )


# By purge_hits


def purge_beside_a_writer(number: int) -> tuple[Writer, float]:
    purged: list[int] = []
    writer, took = let_go_beside_a_writer(number, lambda: purged.append(retention.purge_hits()))
    # The rest has gone with those who were erased.
    assert number * 0.9 - writer.erased <= purged[0] <= number
    return writer, took


def test_others_write_while_hits_are_purged():
    writer, _ = purge_beside_a_writer(5_000)
    assert writer.writes
    assert writer.refused == 0


@row_locks
@pytest.mark.long
def test_a_million_are_purged_and_nobody_waits_for_a_second(capsys):
    writer, took = purge_beside_a_writer(1_000_000)
    tell(capsys, "purged", writer, took)
    assert writer.refused == 0


@row_locks
def test_teeth_one_transaction_for_all_of_them():
    def in_one_transaction() -> None:
        with transaction.atomic():
            retention.purge_hits()
            time.sleep(3)  # stands for the rest of a million

    writer, _ = let_go_beside_a_writer(5_000, in_one_transaction)
    assert writer.refused


# By hit_partitions


def drop() -> None:
    """Drop the months that nobody keeps."""
    since = retention.kept_since("default")
    assert since is not None
    assert partitions.drop_before(since, "default")


@only_in_parts
def test_others_write_while_months_are_dropped():
    writer, _ = let_go_beside_a_writer(5_000, drop)
    assert writer.writes
    assert writer.refused == 0


@only_in_parts
@pytest.mark.long
def test_a_million_are_dropped_and_nobody_waits_for_a_second(capsys):
    writer, took = let_go_beside_a_writer(1_000_000, drop)
    tell(capsys, "dropped", writer, took)
    assert writer.refused == 0


@only_in_parts
def test_teeth_to_drop_months_in_a_transaction_with_all_else():
    def in_one_transaction() -> None:
        with transaction.atomic():
            drop()
            time.sleep(3)  # stands for all else

    writer, _ = let_go_beside_a_writer(5_000, in_one_transaction)
    assert writer.refused
