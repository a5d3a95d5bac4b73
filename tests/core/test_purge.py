"""Old visitors that came to nothing are let go, and nobody waits for it (row P2)."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections, transaction
from django.utils import timezone

from affiliations import privacy
from affiliations.models import Callback, Conversion, Partner, Share, Visitor
from affiliations.privacy import purge_visitors
from affiliations.services import record_conversion
from tests.core.factories import make_partner, make_user, make_visitor

OLD = timedelta(days=500)


def ago(**passed: float) -> Any:
    return timezone.now() - timedelta(**passed)


def clicked(when: Any, **fields: Any) -> Visitor:
    visitor = make_visitor(clicked_on=when, **fields)
    Visitor.objects.filter(pk=visitor.pk).update(referred_on=when)
    return visitor


def purge(*arguments: str) -> str:
    out = StringIO()
    call_command("purge_visitors", *arguments, stdout=out)
    return out.getvalue()


# What goes and what stays


@pytest.mark.django_db
def test_what_came_to_nothing_goes_and_what_is_needed_stays():
    partner = make_partner({"Order placed": "https://partner.example/?v={visitor_id}"})
    user = make_user()
    for _ in range(3):
        clicked(ago(days=401), partner=partner)
    stays = {
        "clicked lately": clicked(ago(days=399), partner=partner),
        "came back": clicked(ago(days=399), partner=partner),
        "successful": clicked(ago(days=900), partner=partner, successful_on=ago(days=890)),
        "converted": clicked(ago(days=1), partner=partner, user=user),
    }
    Visitor.objects.filter(pk=stays["came back"].pk).update(referred_on=ago(days=800))
    conversion = record_conversion(trigger="Order placed", reference="A-1", user=user)
    assert conversion is not None
    # As a policy of the site's own would: a second one has a part in it, and no success.
    stays["has a share"] = clicked(ago(days=600), partner=partner)
    Share.objects.filter(conversion=conversion).update(weight="0.5")
    Share.objects.create(conversion=conversion, visitor=stays["has a share"], weight="0.5")
    Visitor.objects.filter(pk=conversion.visitor_id).update(
        clicked_on=ago(days=600), successful_on=None
    )

    assert purge("--older-than", "400d") == "3 visitors deleted.\n"
    assert set(Visitor.objects.values_list("pk", flat=True)) == {
        visitor.pk for visitor in stays.values()
    }
    assert Conversion.objects.count() == Callback.objects.count() == 1
    assert purge("--older-than", "400d") == "0 visitors deleted.\n"


@pytest.mark.django_db
def test_a_dry_run_tells_the_same_and_deletes_nothing(monkeypatch):
    monkeypatch.setattr(privacy, "BATCH", 2)
    partner = make_partner()
    for _ in range(5):
        clicked(ago(days=401), partner=partner)
    clicked(ago(days=399), partner=partner)
    assert purge("--older-than", "400d", "--dry-run") == "5 visitors would be deleted.\n"
    assert Visitor.objects.count() == 6
    assert purge("--older-than", "400") == "5 visitors deleted.\n"
    assert Visitor.objects.count() == 1


@pytest.mark.django_db
def test_it_works_in_batches_and_says_how_far_it_is(monkeypatch):
    monkeypatch.setattr(privacy, "BATCH", 2)
    partner = make_partner()
    for _ in range(5):
        clicked(ago(days=401), partner=partner)
    done: list[int] = []
    assert purge_visitors(ago(days=400), progress=done.append) == 5
    assert done == [2, 4, 5]


@pytest.mark.django_db
def test_one_that_converts_in_between_stays(monkeypatch):
    """After a batch was chosen, before it is deleted."""
    partner = make_partner()
    visitors = [clicked(ago(days=401), partner=partner) for _ in range(3)]
    batches = privacy._batches

    def then_one_succeeds(*args: Any) -> Iterator[list[int]]:
        for ids in batches(*args):
            visitors[1].succeed()
            yield ids

    monkeypatch.setattr(privacy, "_batches", then_one_succeeds)
    assert purge_visitors(ago(days=400)) == 2
    assert Visitor.objects.get() == visitors[1]


@pytest.mark.parametrize(
    "text", ["", "0", "0d", "-5", "-5d", "400x", "4h", "1e3", "1.5", "d", "40000d", "٤٠٠", "999999"]
)
def test_an_age_that_is_none_is_refused(text):
    with pytest.raises(CommandError, match="is no number of days, such as 400d"):
        call_command("purge_visitors", f"--older-than={text}")


def test_the_age_has_to_be_said():
    with pytest.raises(CommandError, match="--older-than"):
        call_command("purge_visitors")


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.django_db
def test_visitors_that_may_still_convert_are_not_purged(settings, dry_run):
    settings.AFFILIATE_WINDOW = timedelta(days=60)
    clicked(ago(days=59))
    arguments = ["--older-than", "58d", *(["--dry-run"] if dry_run else [])]
    with pytest.raises(CommandError, match="AFFILIATE_WINDOW"):
        purge(*arguments)
    with pytest.raises(ValueError, match=r"^before: "):
        purge_visitors(ago(days=58), dry_run=dry_run)
    assert purge("--older-than", "60d") == "0 visitors deleted.\n"
    assert Visitor.objects.count() == 1


# That nobody waits for it


@dataclass
class Writer:
    """Somebody who writes to rows that are being purged, and adds others, all the while."""

    partner: Partner
    highest: int
    writes: int = 0
    #: Waits for a lock that the database ended after a second.
    refused: int = 0
    longest: float = 0.0
    errors: list[BaseException] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        # The database measures: what the machine is busy with otherwise counts for nothing.
        limit = {
            "postgresql": "SET lock_timeout = '1s'",
            "mysql": "SET innodb_lock_wait_timeout = 1",
        }
        choice = random.Random(20171123)
        try:
            if connection.vendor in limit:
                with connection.cursor() as cursor:
                    cursor.execute(limit[connection.vendor])
            while not stop.is_set():
                started = time.monotonic()
                try:
                    self._write(choice.randint(1, self.highest))
                except OperationalError:
                    self.refused += 1
                self.writes += 1
                self.longest = max(self.longest, time.monotonic() - started)
        except Exception as error:  # noqa: BLE001 - the test asks for it, in its own thread
            self.errors.append(error)
        finally:
            connections.close_all()

    def _write(self, pk: int) -> None:
        Visitor.objects.filter(pk=pk).update(referrer_host="touched.example")
        make_visitor(self.partner)


@contextmanager
def writing(partner: Partner, highest: int) -> Iterator[Writer]:
    writer, stop = Writer(partner, highest), threading.Event()
    thread = threading.Thread(target=writer.run, args=[stop])
    thread.start()
    try:
        yield writer
    finally:
        stop.set()
        thread.join()
    assert not writer.errors


def fill(partner: Partner, number: int) -> None:
    """Write old visitors; each hundredth was successful, and each of these has a conversion."""
    series = {
        "postgresql": f"SELECT n FROM generate_series(1, {number}) AS series (n)",
        "mysql": f"SELECT seq AS n FROM seq_1_to_{number}",
        "sqlite": (
            "WITH RECURSIVE series (n) AS "
            f"(SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {number}) SELECT n FROM series"
        ),
    }[connection.vendor]
    old = connection.ops.adapt_datetimefield_value(timezone.now() - OLD)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO affiliations_visitor (id, partner_id, ident, referred_on, clicked_on,"
            " entry_point, click_id, sub_ids, referrer_host, successful_on)"
            " SELECT n, %s, '', %s, %s, 'https://shop.example/', '', '{}', '',"
            f" CASE WHEN n %% 100 = 0 THEN %s END FROM ({series}) AS numbers",
            [partner.pk, old, old, old],
        )
        if connection.vendor == "postgresql":
            cursor.execute(f"SELECT setval('affiliations_visitor_id_seq', {number})")
            cursor.execute("ANALYZE affiliations_visitor")
    Conversion.objects.bulk_create(
        (
            Conversion(visitor_id=pk, trigger="Order placed", reference=str(pk), key=f"{pk:064}")
            for pk in range(100, number + 1, 100)
        ),
        batch_size=2000,
    )


def purge_beside_a_writer(number: int, purge: Callable[[], int]) -> tuple[Writer, float]:
    partner = make_partner()
    fill(partner, number)
    with writing(partner, number) as writer:
        started = time.monotonic()
        purged = purge()
        took = time.monotonic() - started
    needed = set(range(100, number + 1, 100))
    old = set(Visitor.objects.filter(pk__lte=number).values_list("pk", flat=True))
    # A row that was being written to just then waits for the next run.
    assert needed <= old
    assert len(old) == number - purged
    assert purged >= (number - len(needed)) * 0.99
    assert Visitor.objects.filter(pk__gt=number).count() >= writer.writes - writer.refused - 1
    assert Conversion.objects.count() == len(needed)
    return writer, took


@pytest.mark.django_db(transaction=True)
def test_others_write_meanwhile():
    writer, _ = purge_beside_a_writer(5_000, lambda: purge_visitors(ago(days=400)))
    assert writer.writes
    assert writer.refused == 0


def row_locks() -> None:
    if not connection.features.has_select_for_update_skip_locked:
        pytest.skip("a database that locks single rows, and says how long one waited")


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_a_million_are_purged_and_nobody_waits_for_a_second(capsys):
    row_locks()
    writer, took = purge_beside_a_writer(1_000_000, lambda: purge_visitors(ago(days=400)))
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{connection.vendor}: 1,000,000 visitors purged in {took:.0f} s, beside "
            f"{writer.writes:,} writes, the longest of {writer.longest * 1000:.0f} ms, "
            f"{writer.refused} that waited for a second"
        )
    assert writer.refused == 0


@pytest.mark.django_db(transaction=True)
def test_one_transaction_for_all_is_caught():
    row_locks()

    def in_one_transaction() -> int:
        with transaction.atomic():
            purged = purge_visitors(ago(days=400))
            time.sleep(3)  # stands for the rest of a million
            return purged

    writer, _ = purge_beside_a_writer(5_000, in_one_transaction)
    assert writer.refused
