"""Hits lie in the parts of their months, where the database has these, and are let go in time."""

import threading
import time
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, transaction
from django.utils import timezone

from affiliations.tracking import partitions, retention
from affiliations.tracking.models import Hit, HitKey
from tests.tracking.factories import drop_parts, hit, make_property

pytestmark = pytest.mark.django_db(transaction=True)

only_in_parts = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="only PostgreSQL parts the table"
)
MARCH, APRIL = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC)
LAST_OF_MARCH = APRIL - timedelta(microseconds=1)


@pytest.fixture
def shop():
    return make_property()


@pytest.fixture(autouse=True)
def as_before():
    yield
    drop_parts()


def run(command, **options):
    out = StringIO()
    call_command(command, stdout=out, **options)
    return out.getvalue()


def parts():
    """Return how many hits are in each part, by its name's end."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tableoid::regclass::text, count(*) FROM affiliations_tracking_hit GROUP BY 1"
        )
        return {name.removeprefix("affiliations_tracking_hit_"): n for name, n in cursor.fetchall()}


def names():
    prefix = "affiliations_tracking_hit_"
    return [each.name.removeprefix(prefix) for each in partitions.listed("default")]


# Parts


@only_in_parts
def test_this_month_and_the_next_ones_get_parts(shop):
    now = timezone.now()
    expected = [
        partitions.name_of(each).removeprefix("affiliations_tracking_hit_")
        for each in partitions.months(now, 4)
    ]
    out = run("hit_partitions")
    assert names() == [*expected, "rest"]
    assert all(f"{each} made." in out for each in expected)
    assert "the rest" in out
    hit(shop, "cookie:c")
    assert parts() == {expected[0]: 1}
    assert "made" not in run("hit_partitions")


@only_in_parts
def test_a_dry_run_makes_none():
    assert "would be made." in run("hit_partitions", dry_run=True)
    assert names() == ["rest"]


@only_in_parts
def test_what_had_no_part_is_moved_to_one(shop):
    for moment in (MARCH, LAST_OF_MARCH, APRIL):
        hit(shop, "cookie:c", happened_on=moment, url=f"https://x.example/{moment:%m%d}")
    before = list(Hit.objects.order_by("pk").values())
    assert parts() == {"rest": 3}
    out = run("hit_partitions", ahead=0)
    assert parts() == {"y2025m03": 2, "y2025m04": 1}
    assert "3 hits moved to where they belong." in out
    assert list(Hit.objects.order_by("pk").values()) == before
    hit(shop, "cookie:c", happened_on=MARCH)
    assert parts() == {"y2025m03": 3, "y2025m04": 1}


@only_in_parts
def test_each_part_has_the_indexes_and_the_rules_of_the_whole():
    partitions.make(MARCH, "default")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_indexes WHERE tablename = 'affiliations_tracking_hit_y2025m03'"
        )
        assert cursor.fetchone() == (3,)
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE contype = 'c' AND"
            " conrelid = 'affiliations_tracking_hit_y2025m03'::regclass"
        )
        assert cursor.fetchall() == [("affiliations_hit_value_has_currency",)]


def made_amid_hits(shop):
    """Write hits of March all the time while it gets its part; return how many, and what failed."""
    written, failed, stop = [], [], threading.Event()

    def write():
        try:
            while not stop.is_set():
                hit(shop, "cookie:c", happened_on=MARCH + timedelta(minutes=len(written)))
                written.append(1)
        except IntegrityError as error:
            failed.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=write)
    thread.start()

    def wait_for(number):
        while len(written) < number and not failed:
            time.sleep(0.01)

    try:
        wait_for(20)
        partitions.make(MARCH, "default")
        wait_for(len(written) + 20)
    finally:
        stop.set()
        thread.join()
    return len(written), failed


@only_in_parts
def test_nothing_is_lost_of_what_comes_meanwhile(shop):
    number, failed = made_amid_hits(shop)
    assert not failed
    assert parts() == {"y2025m03": number}


@only_in_parts
def test_teeth_to_lock_the_rest_alone(shop, monkeypatch):
    def hold(cursor):
        cursor.execute(f"LOCK TABLE {partitions.REST} IN ACCESS EXCLUSIVE MODE")
        # While somebody waits for it.
        cursor.execute("SELECT pg_sleep(0.3)")

    monkeypatch.setattr(partitions, "_hold", hold)
    _, failed = made_amid_hits(shop)
    assert failed


@only_in_parts
def test_nobody_waits_long_behind_it(shop, monkeypatch):
    """Somebody reads the table for long: the part waits for its turn, and others are served."""
    monkeypatch.setattr(partitions, "PAUSE", 0.2)
    reading, done = threading.Event(), threading.Event()

    def read():
        try:
            with transaction.atomic():
                hit(shop, "cookie:slow", happened_on=MARCH)
                reading.set()
                done.wait(3)
        finally:
            connections.close_all()

    def make():
        try:
            partitions.make(MARCH, "default")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=read), threading.Thread(target=make)]
    threads[0].start()
    assert reading.wait(10)
    threads[1].start()
    took = []
    while threads[0].is_alive():
        started = time.monotonic()
        hit(shop, "cookie:c", happened_on=MARCH)
        took.append(time.monotonic() - started)
        time.sleep(0.02)
    for each in threads:
        each.join()
    assert max(took) < 1
    assert parts() == {"y2025m03": len(took) + 1}


@only_in_parts
def test_months_that_no_property_keeps_are_dropped(shop):
    shop.keep_days = 400
    shop.save()
    other = make_property(keep_days=30)
    now = timezone.now()
    hit(shop, "cookie:c", happened_on=now - timedelta(days=440))
    hit(other, "cookie:c", happened_on=now - timedelta(days=440))
    hit(shop, "cookie:c", happened_on=now - timedelta(days=300))
    old = partitions.name_of(partitions.month_of(now - timedelta(days=440)))
    partitions.make(partitions.month_of(now - timedelta(days=440)), "default")
    out = run("hit_partitions", ahead=0, dry_run=True)
    assert f"{old} would be dropped" in out
    assert Hit.objects.count() == 3
    out = run("hit_partitions", ahead=0)
    assert f"{old} dropped" in out
    assert Hit.objects.count() == 1
    make_property()
    partitions.make(MARCH, "default")
    assert "dropped" not in run("hit_partitions", ahead=0)


@pytest.mark.skipif(connection.vendor == "postgresql", reason="that parts it")
def test_other_databases_have_no_parts():
    assert run("hit_partitions") == (
        "Only PostgreSQL parts the table; elsewhere purge_hits does all.\n"
    )


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(2026, 12, 31, 23, tzinfo=UTC), ["2026-12", "2027-01", "2027-02"]),
        (datetime(2028, 1, 31, tzinfo=UTC), ["2028-01", "2028-02", "2028-03"]),
        # By the clock of Chicago it is November still.
        (datetime.fromisoformat("2026-11-30T20:00-06:00"), ["2026-12", "2027-01", "2027-02"]),
    ],
)
def test_months(moment, expected):
    assert [f"{each:%Y-%m}" for each in partitions.months(moment, 3)] == expected


# What is kept


def test_each_property_keeps_its_own(shop):
    now = timezone.now()
    month, day = make_property(keep_days=30), make_property(keep_days=1)
    for prop in (shop, month, day):
        for days in (0, 2, 31):
            moment = now - timedelta(days=days)
            hit(
                prop, "cookie:c", happened_on=moment, type="transaction", transaction_id=f"R-{days}"
            )
    assert run("purge_hits", dry_run=True) == "3 hits would be deleted.\n"
    assert Hit.objects.count() == 9
    assert run("purge_hits") == "3 hits deleted.\n"
    left = {prop.pk: Hit.objects.filter(property=prop).count() for prop in (shop, month, day)}
    assert left == {shop.pk: 3, month.pk: 2, day.pk: 1}
    assert run("purge_hits") == "0 hits deleted.\n"
    # One keeps all that it has, so that none of these may come again.
    assert HitKey.objects.count() == 9
    assert not hit(day, "cookie:c", type="transaction", transaction_id="R-31")


def test_keys_go_when_nobody_keeps_what_they_are_of(shop):
    shop.keep_days = 30
    shop.save()
    for days in (0, 31):
        moment = timezone.now() - timedelta(days=days)
        hit(shop, "cookie:c", happened_on=moment, type="transaction", transaction_id=f"R-{days}")
    run("purge_hits")
    assert HitKey.objects.count() == 1
    assert not hit(shop, "cookie:c", type="transaction", transaction_id="R-0")


def test_more_than_a_batch(shop, monkeypatch):
    monkeypatch.setattr("affiliations.privacy.BATCH", 10)
    shop.keep_days = 1
    shop.save()
    seen = []
    for number in range(25):
        hit(shop, "cookie:c", happened_on=timezone.now() - timedelta(days=2, minutes=number))
    assert retention.purge_hits(progress=seen.append) == 25
    assert seen == [10, 20, 25]
