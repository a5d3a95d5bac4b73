"""A hit that goes through Redis is the hit that is written at once, and is written once."""

import logging
import random
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
import redis
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from affiliations.management import progress
from affiliations.money import Money
from affiliations.privacy import forget_user
from affiliations.tracking import erasures, hits, identities, stream, writing
from affiliations.tracking.identities import Name, name
from affiliations.tracking.models import Customer, Erased, Hit, HitKey, Identity, Property
from tests.core.factories import make_user
from tests.tracking.factories import hit, known, make_event_type, make_property, names, people, say
from tests.tracking.streams import URL, write_all

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shop(redis_sink):
    return make_property()


def columns(row):
    """Return what there is in a row of a hit, but for its id."""
    return {
        field.attname: getattr(row, field.attname)
        for field in Hit._meta.fields
        if field.name != "id"
    }


# What is kept

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
VALUES = st.builds(Money, st.integers(-(2**53), 2**53), st.sampled_from(["EUR", "JPY"]))
HITS = st.fixed_dictionaries(
    {"type": st.sampled_from(["pageview", "screen", "transaction"])},
    optional={
        "url": TEXT,
        "referrer": TEXT,
        "title": TEXT,
        "link": TEXT,
        "value": VALUES,
        "is_informational": st.booleans(),
        "meta": st.dictionaries(TEXT, st.one_of(TEXT, st.none(), st.integers(-9, 9)), max_size=3),
        "partner_id": st.integers(1, 2**62),
        "visitor_id": st.integers(1, 2**62),
        "happened_on": st.datetimes(
            datetime(2001, 1, 1),  # noqa: DTZ001 - as hypothesis wants it
            datetime(2026, 1, 1),  # noqa: DTZ001
            timezones=st.just(UTC),
        ),
    },
)


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=HITS)
def test_it_is_the_hit_that_would_be_written_at_once(shop, settings, told):
    Hit.objects.all().delete()
    found = known(shop)
    told = hits.new_hit(found, **told)
    through = settings.AFFILIATE_TRACKING_SINK
    settings.AFFILIATE_TRACKING_SINK = "database"
    hits.record(found, names("cookie:a"), told)
    at_once = Hit.objects.get()
    settings.AFFILIATE_TRACKING_SINK = through
    hits.record(found, names("cookie:a"), told)
    assert write_all() == 1
    written = Hit.objects.exclude(pk=at_once.pk).get()
    assert columns(written) == columns(at_once)


@pytest.mark.parametrize(
    "text",
    ["\\", "\\N", "\\t", "\\\\t", "a\tb", "a\nb", "a\r\nb", "\\\n", "\t\\\t", "\\.", "Zoë 🦊"],
)
def test_what_means_something_to_a_database(shop, text):
    hit(shop, "cookie:a", url=text, title=text, meta={"said": text})
    write_all()
    kept = Hit.objects.get()
    assert (kept.url, kept.title, kept.meta) == (text, text, {"said": text})


def test_the_longest_names(shop):
    long, unseen = "ü" * 500, "\\N \\t"
    found = known(shop)
    who = [name("cookie", long), name("client", unseen)]
    hits.record(found, who, hits.new_hit(found, type="pageview"))
    write_all()
    assert Hit.objects.get().identity.value == long
    assert set(Identity.objects.values_list("value", flat=True)) == {long, unseen}


def test_nothing_is_asked_of_the_database(shop, django_assert_num_queries, redis_sink, settings):
    found = known(shop)
    with django_assert_num_queries(0):
        assert hit(shop, "cookie:a") is True
        assert hits.record(found, names("cookie:b"), hits.new_hit(found, type="screen")) is True
    assert redis_sink.xlen(settings.AFFILIATE_TRACKING_STREAM) == 2
    assert write_all() == 2
    assert redis_sink.xlen(settings.AFFILIATE_TRACKING_STREAM) == 0
    assert people(shop) == ["cookie:a", "cookie:b"]


def test_what_the_caller_takes_back_was_never_told(shop):
    with suppress(ZeroDivisionError), transaction.atomic():
        hit(shop, "cookie:a")
        raise ZeroDivisionError
    with transaction.atomic():
        hit(shop, "cookie:b")
        assert stream.waiting() == 0
    assert write_all() == 1
    assert people(shop) == ["cookie:b"]


def test_what_must_not_be_told_twice_is_written_at_once(shop):
    purchase = make_event_type(shop)
    told = {"type": "event", "event_type_id": purchase.pk, "transaction_id": "R-1"}
    assert hit(shop, "cookie:a", **told) is True
    assert hit(shop, "cookie:a", **told) is False
    assert stream.waiting() == 0
    assert Hit.objects.count() == HitKey.objects.count() == 1


# Whose it is


def test_hits_of_several_names_make_one_person_of_these(shop):
    say(shop, "cookie:b client:2")
    for told in ("cookie:a client:1", "cookie:b", "cookie:c", "cookie:a cookie:b", "cookie:a"):
        hit(shop, told)
    assert write_all() == 5
    assert people(shop) == ["client:1 client:2 cookie:a cookie:b", "cookie:c"]
    assert Customer.objects.count() == 2
    assert sorted(Hit.objects.values_list("identity__value", flat=True)) == [
        "a",
        "a",
        "a",
        "b",
        "c",
    ]


def test_names_that_stay_two_users(shop):
    say(shop, "user:1 cookie:a")
    say(shop, "user:2 cookie:b")
    hit(shop, "cookie:b cookie:a")
    write_all()
    assert Hit.objects.get().identity.value == "b"
    assert people(shop) == ["cookie:a user:1", "cookie:b user:2"]


def test_whoever_would_have_too_many_names(shop, monkeypatch):
    monkeypatch.setattr(identities, "MOST", 2)
    hit(shop, "client:shared cookie:a cookie:b")
    write_all()
    assert people(shop) == ["client:shared"]
    assert Hit.objects.count() == 1


def test_properties_know_their_own_people(shop):
    other = make_property()
    hit(shop, "cookie:a")
    hit(other, "cookie:a")
    write_all()
    assert people(shop) == people(other) == ["cookie:a"]
    assert {each.property_id for each in Hit.objects.all()} == {shop.pk, other.pk}
    assert all(each.identity.property_id == each.property_id for each in Hit.objects.all())


@pytest.mark.parametrize("number", [2, 60])
def test_a_batch_takes_as_many_queries(shop, django_assert_max_num_queries, number):
    for each in range(number):
        hit(shop, f"cookie:c{each}")
    write_all()
    for each in range(number):
        hit(shop, f"cookie:c{each}")
        hit(shop, f"cookie:new{each}")
    # Properties, erasures and names; new customers and names, who was faster, and names again; the
    # hits, which are four on SQLite where they are many; which erasures may be forgotten. Half of
    # the rest are savepoints.
    with django_assert_max_num_queries(19):
        write_all()
    assert Hit.objects.count() == 3 * number


def test_a_property_that_is_gone(shop):
    other = make_property()
    hit(shop, "cookie:a")
    hit(other, "cookie:a")
    Property.objects.filter(pk=other.pk).delete()
    assert write_all() == 2
    assert [each.property_id for each in Hit.objects.all()] == [shop.pk]
    assert stream.waiting() == 0


# Once


def test_what_somebody_took_and_did_not_write(shop):
    hit(shop, "cookie:a")
    gone = stream.Reader(claim_after=0)
    assert len(gone.read(10, 0)) == 1
    assert write_all() == 1
    assert Hit.objects.count() == 1


def test_what_somebody_has_only_just_taken_is_theirs(shop):
    hit(shop, "cookie:a")
    other = stream.Reader(claim_after=60)
    taken = other.read(10, 0)
    assert write_all(claim_after=60) == 0
    writing.write(taken, again=False)
    other.done(taken)
    assert write_all() == 0
    assert Hit.objects.count() == 1


def test_what_somebody_wrote_and_did_not_say_so(shop):
    for each in "abc":
        hit(shop, f"cookie:{each}")
    gone = stream.Reader(claim_after=0)
    writing.write(gone.read(2, 0), again=False)
    assert write_all() == 3
    assert sorted(Hit.objects.values_list("identity__value", flat=True)) == ["a", "b", "c"]


def test_what_somebody_has_deleted_by_hand(shop, redis_sink, settings):
    for each in "ab":
        hit(shop, f"cookie:{each}")
    gone = stream.Reader(claim_after=0)
    [first, _] = gone.read(2, 0)
    redis_sink.xdel(settings.AFFILIATE_TRACKING_STREAM, first.place)
    assert [each.whose for each in gone.own(2)] == [f"{shop.pk}\tcookie\tb".encode()]
    assert write_all() == 1
    assert people(shop) == ["cookie:b"]


def test_what_two_write_at_the_same_time(shop):
    """As when one is so slow that another one takes over, and then is fast again."""
    for each in "abc":
        hit(shop, f"cookie:{each}")
    slow = stream.Reader(claim_after=0)
    taken = slow.read(3, 0)
    assert write_all() == 3
    writing.write(taken, again=False)
    slow.done(taken)
    assert Hit.objects.count() == 3


def test_the_same_twice_in_one_batch(shop):
    found = known(shop)
    told = hits.new_hit(found, type="pageview")
    message = stream.encoded(found.id, names("cookie:a"), 7, told)
    assert stream.add(message) is stream.add(message) is True
    assert write_all() == 2
    assert Hit.objects.get().pk == 7


def test_two_hits_that_happen_to_have_one_number(shop):
    found, now = known(shop), timezone.now()
    for each in "ab":
        told = hits.new_hit(found, type="pageview", title=each, happened_on=now - timedelta(days=1))
        stream.add(stream.encoded(found.id, names("cookie:a"), 7, told))
        if each == "a":
            write_all()
    write_all()
    assert sorted(Hit.objects.values_list("title", flat=True)) == ["a", "b"]
    assert len(set(Hit.objects.values_list("pk", flat=True))) == 2


def test_numbers_are_never_the_same(redis_sink):
    made, barrier = [], threading.Barrier(8)

    def make():
        barrier.wait()
        made.append([stream.next_number() for _ in range(2000)])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert all(each == sorted(each) for each in made)
    numbers = [number for each in made for number in each]
    assert len(set(numbers)) == len(numbers)
    assert 0 < min(numbers) <= max(numbers) < 2**63


def test_each_process_has_numbers_of_its_own(redis_sink):
    processes = [stream._Numbers() for _ in range(50)]
    assert len({each.next() % 2**22 >> 8 for each in processes}) == 50


def test_a_clock_that_is_put_back(redis_sink, monkeypatch):
    numbers, now = stream._Numbers(), 1_800_000_000 * 10**9
    made = []
    for ahead in (5, 0, 0, 6):
        monkeypatch.setattr(stream.time, "time_ns", lambda ahead=ahead: now + ahead * 10**6)
        made.append(numbers.next())
    assert made == sorted(set(made))


def test_more_in_a_millisecond_than_there_are_numbers(redis_sink, monkeypatch):
    numbers = stream._Numbers()
    monkeypatch.setattr(stream.time, "time_ns", lambda: 1_800_000_000 * 10**9)
    made = [numbers.next() for _ in range(1000)]
    assert made == sorted(set(made))
    assert len({each % 2**22 >> 8 for each in made}) == 1


# Where Redis cannot be had


@pytest.fixture
def unheard(settings, redis_sink):
    """A Redis that does as it is told, and whose answers do not arrive."""
    with between() as port:
        settings.AFFILIATE_TRACKING_SINK = f"redis://127.0.0.1:{port}/15"
        yield
    settings.AFFILIATE_TRACKING_SINK = URL


@contextmanager
def between():
    """Listen in the place of Redis, hand on what is said to it, and nothing that it answers."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with suppress(OSError):
            while True:
                called, _ = listener.accept()
                threading.Thread(target=hand_on, args=[called], daemon=True).start()

    def hand_on(called):
        with called, socket.create_connection(("127.0.0.1", 6379)) as real:
            while told := called.recv(65536):
                real.sendall(told)
                answer = real.recv(65536)
                # The connection is set up, but that it has taken anything is not heard.
                if b"XADD" not in told:
                    called.sendall(answer)

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        serving.join()


def test_hits_are_written_at_once(shop, settings, caplog, django_assert_num_queries):
    settings.AFFILIATE_TRACKING_SINK = "redis://127.0.0.1:9/0"
    say(shop, "cookie:a")
    assert hit(shop, "cookie:a") is True
    [told] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert told.name == "affiliations.tracking.stream"
    # And not asked for again at each hit.
    with django_assert_num_queries(1):
        assert hit(shop, "cookie:a") is True
    assert Hit.objects.count() == 2
    assert len([each for each in caplog.records if each.levelno >= logging.ERROR]) == 1


def test_what_redis_has_taken_and_did_not_say_so_is_written_once(shop, unheard, settings):
    say(shop, "cookie:a")
    hit(shop, "cookie:a")
    assert Hit.objects.count() == 1
    settings.AFFILIATE_TRACKING_SINK = URL
    assert stream.waiting() == 1
    assert write_all() == 1
    assert Hit.objects.count() == 1


def test_a_number_that_another_hit_has(shop, settings, monkeypatch):
    settings.AFFILIATE_TRACKING_SINK = "redis://127.0.0.1:9/0"
    numbers = iter([7, 7, 8])
    monkeypatch.setattr(stream, "next_number", lambda: next(numbers))
    now = timezone.now()
    for title in "ab":
        hit(shop, "cookie:a", title=title, happened_on=now - timedelta(days=1))
    assert sorted(Hit.objects.values_list("title", flat=True)) == ["a", "b"]
    assert sorted(Hit.objects.values_list("pk", flat=True)) == [7, 8]


def test_without_the_package_hits_are_written_at_once(shop, monkeypatch, caplog):
    monkeypatch.setattr(stream, "redis", None)
    monkeypatch.setattr(stream, "_numbers", stream._Numbers())
    assert hit(shop, "cookie:a") is True
    assert Hit.objects.count() == 1
    assert "pip install" in caplog.text


def test_a_redis_that_has_forgotten_everything(shop, redis_sink, settings):
    writer = writing.Writer(report=lambda written: written < 2 or writer.stop())
    thread = threading.Thread(target=lambda: (writer.run(loop=True), connection.close()))
    thread.start()
    hit(shop, "cookie:a")
    until = time.monotonic() + 20
    while not Hit.objects.exists() and time.monotonic() < until:
        time.sleep(0.02)
    redis_sink.delete(settings.AFFILIATE_TRACKING_STREAM)
    hit(shop, "cookie:b")
    thread.join(20)
    writer.stop()
    thread.join(10)
    assert Hit.objects.count() == 2


@pytest.fixture
def own_redis(tmp_path):
    """A Redis of the test's own, which it may fill: the other one is everybody's."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("there is no redis-server to start")
    place = str(tmp_path / "redis.sock")
    command = [server, "--port", "0", "--unixsocket", place, "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            client = redis.Redis(unix_socket_path=place)
            until = time.monotonic() + 10
            while time.monotonic() < until:
                with suppress(redis.ConnectionError):
                    client.ping()
                    break
                time.sleep(0.02)
            yield client, f"unix://{place}"
        finally:
            process.terminate()


def test_a_redis_that_is_full_takes_nothing_and_is_emptied(shop, own_redis, settings):
    client, settings.AFFILIATE_TRACKING_SINK = own_redis
    hit(shop, "cookie:a")
    assert write_all() == 1
    hit(shop, "cookie:b")
    client.config_set("maxmemory", 1)
    hit(shop, "cookie:c")
    assert sorted(Hit.objects.values_list("identity__value", flat=True)) == ["a", "c"]
    assert write_all() == 1
    assert (Hit.objects.count(), stream.waiting()) == (3, 0)


def test_a_stream_that_is_something_else(shop, redis_sink, settings):
    redis_sink.set(settings.AFFILIATE_TRACKING_STREAM, "else")
    hit(shop, "cookie:a")
    assert Hit.objects.count() == 1


# Where the database cannot be had, or does not take it


def test_without_a_database_they_wait(shop, monkeypatch):
    hit(shop, "cookie:a")
    with monkeypatch.context() as patch:
        patch.setattr(
            writing, "_put", lambda *rows: (_ for _ in ()).throw(OperationalError("gone"))
        )
        with pytest.raises(OperationalError):
            write_all(claim_after=60)
    assert (Hit.objects.count(), stream.waiting()) == (0, 1)
    assert write_all() == 1
    assert Hit.objects.count() == 1


def test_what_cannot_be_written_is_put_aside(shop, redis_sink, caplog):
    found = known(shop)
    told = hits.new_hit(found, type="pageview")
    for each in "abc":
        message = stream.encoded(found.id, names(f"cookie:{each}"), 7 + ord(each), told)
        if each == "b":
            message = message.replace("\tf\t2", "\tf\tnever 2")
        stream.add(message)
    assert write_all() == 2
    assert sorted(Hit.objects.values_list("identity__value", flat=True)) == ["a", "c"]
    [[_, kept]] = redis_sink.xrange(stream.failed())
    assert (
        kept[stream.MEMBER]
        == stream.encoded(found.id, names("cookie:b"), 7 + ord("b"), told)
        .replace("\tf\t2", "\tf\tnever 2")
        .encode()
    )
    assert stream.waiting() == 0
    assert "put aside" in caplog.text


# Somebody who is erased


def test_what_is_on_its_way_of_somebody_who_is_erased(shop):
    anna, bert = make_user(), make_user()
    say(shop, f"user:{bert.pk} cookie:shared")
    hit(shop, f"user:{anna.pk} cookie:a")
    write_all()
    for told in (
        f"user:{anna.pk}",
        "cookie:a",
        "cookie:shared",
        "cookie:other",
        "cookie:a client:1",
    ):
        hit(shop, told)
    forget_user(anna)
    assert write_all() == 5
    assert people(shop) == ["cookie:other", f"cookie:shared user:{bert.pk}"]
    assert Hit.objects.count() == 2
    # Of anna, of her own cookie, and of none that others have.
    assert Erased.objects.count() == 2


def test_of_whom_nothing_was_written_yet(shop):
    anna = make_user()
    hit(shop, f"user:{anna.pk}")
    forget_user(anna)
    write_all()
    assert not Hit.objects.exists()
    assert not Identity.objects.exists()


def test_whoever_comes_back_is_somebody_new(shop, monkeypatch):
    anna = make_user()
    hit(shop, f"user:{anna.pk}")
    forget_user(anna)
    Erased.objects.update(erased_on=timezone.now() - erasures.APART - timedelta(seconds=1))
    hit(shop, f"user:{anna.pk}")
    write_all()
    assert people(shop) == [f"user:{anna.pk}"]
    # The first one was told before the moment of the erasure as it is here now.
    assert Hit.objects.count() == 2


def test_an_erasure_is_forgotten_when_nothing_is_older(shop):
    forget_user(make_user())
    assert Erased.objects.exists()
    Erased.objects.update(erased_on=timezone.now() - timedelta(days=1))
    hit(shop, "cookie:a")
    write_all()
    assert not Erased.objects.exists()


def test_teeth_without_a_memory_of_erasures(shop, monkeypatch):
    anna = make_user()
    hit(shop, f"user:{anna.pk}")
    forget_user(anna)
    monkeypatch.setattr(erasures, "known", lambda using: {})
    write_all()
    assert Hit.objects.count() == 1


def erased_while_written(shop):
    """Erase people whose hits are being written; return how much of them is left."""
    stop, pauses = threading.Event(), random.Random(1)

    def write():
        try:
            while not stop.is_set():
                write_all(claim_after=60)
        finally:
            connection.close()

    threads = [threading.Thread(target=write) for _ in range(2)]
    for each in threads:
        each.start()
    try:
        for _ in range(20):
            user = make_user()
            for _ in range(5):
                hit(shop, f"user:{user.pk} cookie:of-{user.pk}")
            time.sleep(pauses.uniform(0, 0.03))
            forget_user(user)
    finally:
        stop.set()
        for each in threads:
            each.join()
    write_all()
    return Hit.objects.count() + Identity.objects.count()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="has one writer at a time")
def test_nothing_is_left_of_somebody_who_is_erased_meanwhile(shop):
    assert erased_while_written(shop) == 0


@pytest.mark.skipif(connection.vendor == "sqlite", reason="has one writer at a time")
def test_teeth_to_hold_nobody_who_is_being_erased(shop, monkeypatch):
    monkeypatch.setattr(erasures, "hold", lambda ids, using: set(ids))
    monkeypatch.setattr(erasures, "lock", lambda using: None)
    put = writing._put

    def slowly(rows, using):
        time.sleep(0.02)
        put(rows, using)

    monkeypatch.setattr(writing, "_put", slowly)
    for _ in range(10):
        if erased_while_written(shop):
            return
    pytest.fail("ten times nobody was in anybody's way")


# The command


def ran(*arguments, **options):
    out = StringIO()
    call_command("write_hits", *arguments, stdout=out, stderr=out, **options)
    return out.getvalue()


def test_the_command_writes_what_waits(shop):
    for each in "abcde":
        hit(shop, f"cookie:{each}")
    assert ran("--batch", "2").startswith("5 hits written in ")
    assert Hit.objects.count() == 5
    assert ran().startswith("0 hits written in ")


def test_the_command_says_now_and_then_how_far_it_is(shop, monkeypatch):
    monkeypatch.setattr(progress, "FIGURES_EVERY", 0.0)
    for each in "abcde":
        hit(shop, f"cookie:{each}")
    *lines, _ = ran("--batch", "2").splitlines()
    assert [each.split(" in ")[0] for each in lines] == [
        "2 hits written",
        "2 hits written",
        "1 hits written",
    ]


def test_the_command_goes_on_until_it_is_stopped(shop, monkeypatch):
    hit(shop, "cookie:a")
    writer = writing.Writer(report=lambda written: written < 2 or writer.stop())
    thread = threading.Thread(target=lambda: (writer.run(loop=True), connection.close()))
    thread.start()
    hit(shop, "cookie:b")
    thread.join(10)
    assert not thread.is_alive()
    assert Hit.objects.count() == 2


def test_a_loop_waits_for_a_redis_that_is_gone(redis_sink, settings, caplog):
    settings.AFFILIATE_TRACKING_SINK = "redis://127.0.0.1:9/0"
    writer = writing.Writer()
    thread = threading.Thread(target=lambda: (writer.run(loop=True), connection.close()))
    thread.start()
    while "wait: " not in caplog.text:
        thread.join(0.05)
        assert thread.is_alive()
    writer.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_the_command_without_a_redis(settings):
    with pytest.raises(CommandError, match="AFFILIATE_TRACKING_SINK"):
        ran()
    settings.AFFILIATE_TRACKING_SINK = "redis://127.0.0.1:9/0"
    with pytest.raises(CommandError, match="cannot be had"):
        ran()


def test_without_the_package(settings, monkeypatch):
    settings.AFFILIATE_TRACKING_SINK = URL
    monkeypatch.setattr(stream, "redis", None)
    with pytest.raises(CommandError, match=r"pip install django-affiliations\[redis\]"):
        ran()


def test_no_writer_is_left_that_has_ended(shop, redis_sink, settings):
    write_all()
    assert redis_sink.xinfo_consumers(settings.AFFILIATE_TRACKING_STREAM, stream.GROUP) == []
    left = stream.Reader(claim_after=60)
    hit(shop, "cookie:a")
    left.read(1, 0)
    left.close()
    assert len(redis_sink.xinfo_consumers(settings.AFFILIATE_TRACKING_STREAM, stream.GROUP)) == 1


def test_a_name_is_what_it_was():
    who = [Name("cookie", "a b\u00a0c"), Name("client", "\\N")]
    told = hits.NewHit(
        "pageview",
        timezone.now(),
        timezone.now(),
        None,
        *[""] * 9,
        "{}",
        None,
        None,
        "",
        None,
        "",
        "",
        False,
        "{}",
    )
    first = stream.encoded(7, who, 1, told).encode().partition(b"\n")[0]
    assert [stream.named(each) for each in stream.whose(first)] == [(7, each) for each in who]
    assert stream.property_of(first) == 7
