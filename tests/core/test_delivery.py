"""The courier, and what is done to callbacks by hand and by time."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import InterfaceError, OperationalError, connection, connections, transaction
from django.urls import reverse
from django.utils import timezone

from affiliations import claims, delivery, egress, outbox, outcomes, signing, status, wakeup
from affiliations.delivery import Courier, Tally, deliver_due
from affiliations.exceptions import InvalidTransition
from affiliations.models import Callback, CallbackAttempt, Destination, Subscription
from affiliations.money import Money
from affiliations.querysets import SubscriptionQuerySet
from affiliations.services import record_conversion
from affiliations.testing import callback_server, freeze
from tests.core.factories import make_partner, make_user, make_visitor
from tests.core.receivers.scripted import Says, scripted

ROOT = Path(__file__).parents[2]
#: Seconds after which what should have happened has not.
PATIENCE = 30
HOSTILE = "<script>alert(1)</script>"

numbers = count(1)
in_threads = pytest.mark.django_db(transaction=True)
on_postgres = pytest.mark.skipif(connection.vendor != "postgresql", reason="only there")


@pytest.fixture
def server():
    with scripted() as server:
        yield server


def make_rows(server, number, **fields):
    """Return callbacks of which nobody is told, as after a crash right behind the commit."""
    host = urlsplit(server.url).netloc
    outbox.know([host], "default")
    fields = {"partner": make_partner(), "url": f"{server.url}/x?v=1", "host": host, **fields}
    return Callback.objects.bulk_create(Callback(**fields) for _ in range(number))


def make_settled(number, **fields):
    """Return callbacks that came to an end, to hosts that are never called."""
    fields = {"partner": make_partner(), "url": "http://127.0.0.1:9/x", **fields}
    fields = {"state": "dead", "due": None, "settled_on": timezone.now(), **fields}
    return Callback.objects.bulk_create(Callback(**fields) for _ in range(number))


def wait_for(what, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def delivered():
    return Callback.objects.filter(state="delivered").count()


@contextmanager
def looping(courier, patience=PATIENCE):
    """Let a courier go round in a thread, and stop it."""

    def work():
        try:
            courier.run(loop=True)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        courier.stop()
        thread.join(patience)
        if stuck := thread.is_alive():
            courier._under_way.clear()
            thread.join(PATIENCE)
        assert not stuck, "it does not stop"


def url_of_the_test_database():
    """Return what DATABASE_URL has to be, for a process to use this test's database."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


@contextmanager
def worker(*options, **environ):
    """Run the real command in a process of its own, and kill it if it is still there at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "deliver_callbacks", *options],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.projects.base",
            "DATABASE_URL": url_of_the_test_database(),
            **environ,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# The courier


@in_threads
@pytest.mark.parametrize(("threads", "batch"), [(1, None), (4, None), (4, 1), (2, 50)])
def test_what_is_due_is_delivered_once(server, settings, threads, batch):
    settings.AFFILIATE_CALLBACKS_PER_HOST = 100
    make_rows(server, 20)
    make_rows(server, 1, due=timezone.now() + timedelta(hours=1))
    told = []
    courier = Courier(threads, batch=batch, report=told.append)
    assert courier.run() == Tally(20, 20) == courier.tally
    assert delivered() == len(server.heard) == 20
    assert server.most <= threads
    # It tells how far it is: never less than before, and all in the end.
    assert told == sorted(told)
    assert told[-1] == Tally(20, 20)
    assert CallbackAttempt.objects.count() == 20
    assert not Callback.objects.filter(token__isnull=False).exists()


@in_threads
def test_an_empty_outbox_is_no_work(django_assert_max_num_queries):
    # What nobody looks for, twice; answers that are old; hosts with work.
    with django_assert_max_num_queries(5):
        assert Courier(4).run() == (0, 0)


@in_threads
def test_it_goes_on_until_it_is_stopped(server):
    courier = Courier(2)
    with looping(courier) as thread:
        for number in (1, 2, 3):
            make_rows(server, 2)
            wait_for(lambda: courier.delivered == 2 * number)  # noqa: B023 - called right here
        assert thread.is_alive()
    assert courier.tally == (6, 6)
    make_rows(server, 1)
    assert delivered() == 6


@in_threads
def test_what_is_stopped_before_it_begins_does_nothing(server):
    make_rows(server, 3)
    courier = Courier(2)
    courier.stop()
    assert courier.run(loop=True) == (0, 0)
    assert server.heard == []


def told_to_stop(signal_number, server):
    """Stop a worker that has calls under way and more claimed; return what it says."""
    with worker("--loop", "--threads", "2") as process:
        wait_for(lambda: len(server.heard) == 2)
        # Behind the two under way it has claimed others.
        wait_for(lambda: Callback.objects.filter(token__isnull=False).count() > 2)
        process.send_signal(signal_number)
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    return said


@in_threads
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_told_to_stop_ends_its_calls_and_gives_back_the_rest(
    server, signal_number
):
    server.answers = [Says(after=2)]
    make_rows(server, 6)
    assert told_to_stop(signal_number, server) == ""
    done, left = (Callback.objects.filter(attempts=number) for number in (1, 0))
    assert done.count() == len(server.heard) == 2
    assert set(done.values_list("state", "token")) == {("delivered", None)}
    assert left.count() == 4
    assert set(left.values_list("state", "token")) == {("pending", None)}
    assert left.due().count() == 4


@in_threads
def test_teeth_claims_that_are_not_given_back(server, monkeypatch):
    server.answers = [Says(after=0.5)]
    make_rows(server, 6)
    monkeypatch.setattr(claims, "release", lambda callbacks: None)
    courier = Courier(2)
    with looping(courier):
        wait_for(lambda: len(server.heard) == 2)
    assert Callback.objects.filter(state="pending", token__isnull=False, attempts=1).exists()


# How it is woken


class Sleepless(Courier):
    """Goes round without a pause, and keeps for how long it would have waited."""

    rounds = 40

    def _wait(self, seconds):
        self.waited = [*getattr(self, "waited", []), seconds]
        if len(self.waited) == self.rounds:
            self.stop()


@in_threads
def test_idle_it_looks_once_a_second_and_asks_little(monkeypatch):
    asked = []

    def ask(execute, sql, *rest):
        asked.append(sql)
        return execute(sql, *rest)

    courier = Sleepless(4)
    with connection.execute_wrapper(ask):
        courier.run(loop=True)
    assert max(courier.waited) == courier.waited[-1] == 1.0
    assert len(asked) / sum(courier.waited) < 2
    monkeypatch.setattr(delivery, "LAST_LOOK", 0.05)  # the teeth
    eager = Sleepless(4)
    asked.clear()
    with connection.execute_wrapper(ask):
        eager.run(loop=True)
    assert len(asked) / sum(eager.waited) > 10


@in_threads
def test_what_is_committed_is_found_by_looking(server, monkeypatch):
    monkeypatch.setattr(wakeup.Listener, "_run", lambda self: self._closed.wait())
    with looping(Courier(1)):
        for number in (1, 2):
            time.sleep(0.5)  # by then it looks but seldom
            make_rows(server, 1)
            wait_for(lambda: delivered() == number)  # noqa: B023 - called right here


@on_postgres
@in_threads
def test_a_commit_wakes_it_on_postgres(server, monkeypatch, task_engine):
    # It would look again in an hour: who calls sooner was woken.
    monkeypatch.setattr(delivery, "LAST_LOOK", 3600.0)
    with looping(Courier(1)):
        for number in (1, 2, 3):
            url = f"{server.url}/x?v={number}"
            with transaction.atomic():
                outbox.enqueue([Callback(partner=make_partner(), url=url)])
                time.sleep(0.1)
                assert len(server.heard) == number - 1
            wait_for(lambda: delivered() == number)  # noqa: B023 - called right here


@in_threads
def test_elsewhere_a_notice_costs_no_query(django_assert_num_queries, task_engine, server):
    expected = 1 if connection.vendor == "postgresql" else 0
    with django_assert_num_queries(expected):
        wakeup.notify("default")


@on_postgres
@in_threads
def test_it_survives_the_loss_of_all_its_connections(server, monkeypatch, caplog, task_engine):
    monkeypatch.setattr(delivery, "LAST_LOOK", 1.0)
    with looping(Courier(2)) as thread:
        for number in (1, 2):
            wait_for(lambda: listeners() == 1, patience=10)
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                assert cursor.rowcount > 0
            make_rows(server, 3)
            wait_for(lambda: delivered() == 3 * number)  # noqa: B023 - called right here
        assert thread.is_alive()
        # It listens again, too.
        wait_for(lambda: listeners() == 1)
    assert "The database is gone, trying again" in caplog.text
    assert len(server.heard) == 6
    assert listeners() == 0


def listeners():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND query LIKE 'LISTEN %%' AND pid <> pg_backend_pid()",
            [],
        )
        return cursor.fetchone()[0]


def failing(function, errors):
    """Let a function fail with each of these errors once, before it works again."""
    left = list(errors)

    def wrapped(*args, **kwargs):
        if left:
            raise left.pop(0)
        return function(*args, **kwargs)

    return wrapped


@in_threads
@pytest.mark.parametrize(
    ("module", "name"), [(outbox, "adopt"), (claims.Claimer, "claim"), (outcomes, "settle")]
)
def test_an_error_of_the_database_ends_no_loop_and_makes_no_call_twice(
    server, monkeypatch, module, name
):
    errors = [OperationalError("gone"), InterfaceError("gone")]
    monkeypatch.setattr(delivery, "RECONNECT", 0.01)
    monkeypatch.setattr(module, name, failing(getattr(module, name), errors))
    make_rows(server, 3)
    courier = Courier(2)
    with looping(courier):
        wait_for(lambda: courier.delivered == 3)
    assert len(server.heard) == delivered() == 3


@in_threads
def test_without_a_loop_it_is_told_to_whoever_called(monkeypatch):
    monkeypatch.setattr(
        claims.Claimer, "claim", failing(claims.Claimer.claim, [OperationalError("gone")])
    )
    with pytest.raises(OperationalError, match="gone"):
        Courier(2).run()


@in_threads
def test_it_stops_though_the_database_is_gone_just_then(server, monkeypatch):
    server.answers = [Says(after=0.5)]
    make_rows(server, 6)
    monkeypatch.setattr(delivery, "RECONNECT", 0.01)
    monkeypatch.setattr(claims, "release", failing(claims.release, [OperationalError("gone")]))
    with looping(Courier(2), patience=5):
        wait_for(lambda: len(server.heard) == 2)
        wait_for(lambda: Callback.objects.filter(token__isnull=False).count() > 2)
    assert delivered() == 2


@in_threads
def test_a_defect_costs_one_attempt_and_not_the_courier(server, monkeypatch, caplog):
    rows = make_rows(server, 4)
    attempt = delivery.attempt

    def broken(callback, **options):
        if callback.pk == rows[1].pk:
            raise ZeroDivisionError("a defect")
        return attempt(callback, **options)

    monkeypatch.setattr(delivery, "attempt", broken)
    assert Courier(2).run() == (3, 3)
    assert "a defect" in caplog.text
    rows[1].refresh_from_db()
    # It falls due again when its lease is over, and the attempt counts.
    assert (rows[1].state, rows[1].attempts) == ("pending", 1)
    assert rows[1].due > timezone.now()


# One after the other


@pytest.mark.django_db
def test_so_many_and_these_only(server):
    rows = make_rows(server, 5)
    assert deliver_due(limit=2) == (2, 2)
    left = [row.pk for row in Callback.objects.filter(state="pending")]
    assert deliver_due(ids=[left[1], rows[0].pk, 0]) == (1, 1)
    assert deliver_due(ids=[]) == (0, 0)
    assert set(Callback.objects.filter(state="pending")) == {
        row for row in rows if row.pk in (left[0], left[2])
    }


@pytest.mark.django_db
def test_none_begins_when_the_time_is_over(server, monkeypatch):
    make_rows(server, 5)
    assert deliver_due(within=0) == deliver_due(within=-1) == (0, 0)
    assert Callback.objects.filter(attempts=0).count() == 5
    given = []
    now = iter([0.0, 0.0, 12.0, 17.5, 20.0, 99.0])
    monkeypatch.setattr(delivery, "time", SimpleNamespace(monotonic=lambda: next(now)))
    monkeypatch.setattr(
        delivery, "deliver", lambda callback, *, timeout: bool(given.append(timeout))
    )
    # Each call gets what is left, and no more than any call.
    assert deliver_due(within=20) == (3, 0)
    monkeypatch.undo()
    assert given == [egress.TIMEOUT, 8.0, 2.5]


@pytest.mark.django_db
def test_a_call_lasts_no_longer_than_what_is_left(server):
    server.answers = [Says(after=PATIENCE)]
    [row, other] = make_rows(server, 2)
    # What is left after the first is too little for another, which has done no harm.
    assert deliver_due(within=1.2) == (1, 0)
    row.refresh_from_db()
    assert row.reason.startswith("No answer within 1.")
    other.refresh_from_db()
    assert (other.state, other.attempts) == ("pending", 0)


# What nobody looks for, and what is to be forgotten


@pytest.mark.django_db
def test_rows_that_were_written_past_the_models_are_found(server):
    host = urlsplit(server.url).netloc
    partner = make_partner()
    Callback.objects.bulk_create(
        [
            Callback(partner=partner, url=f"{server.url}/x"),
            Callback(partner=partner, url=f"{server.url}/y", host=host),
            Callback(partner=partner, url="no address at all"),
            Callback(partner=partner, url="http://127.0.0.1:9/", state="delivered", due=None),
        ]
    )
    assert deliver_due() == (0, 0)
    assert outbox.adopt() == 2
    assert set(Destination.objects.values_list("host", flat=True)) == {host, outbox.NO_HOST}
    assert deliver_due() == (3, 2)
    assert outbox.adopt() == 0
    dead = Callback.objects.get(state="dead")
    assert dead.reason


@in_threads
def test_the_courier_does_so_by_itself(server):
    Callback.objects.bulk_create([Callback(partner=make_partner(), url=f"{server.url}/x")])
    assert Courier(1).run() == (1, 1)


def make_answers(number, until):
    [callback] = make_settled(1, state="delivered")
    rows = [
        CallbackAttempt(
            callback=callback,
            number=each,
            started_on=timezone.now(),
            duration_ms=1,
            answer="said",
            answer_until=until,
        )
        for each in range(1, number + 1)
    ]
    return CallbackAttempt.objects.bulk_create(rows)


@pytest.mark.django_db
def test_answers_are_emptied_after_a_while_and_only_some_at_a_time(server, monkeypatch):
    monkeypatch.setattr(outbox, "BATCH", 2)
    with freeze() as clock:
        make_answers(5, clock.now + outcomes.ANSWERS_KEPT)
        make_answers(1, clock.now + outcomes.ANSWERS_KEPT * 2)
        clock.now += outcomes.ANSWERS_KEPT
        assert outcomes.expunge() == 0
        clock.tick(seconds=1)
        assert [outcomes.expunge() for _ in range(4)] == [2, 2, 1, 0]
    kept = CallbackAttempt.objects.exclude(answer="")
    assert kept.count() == 1
    assert CallbackAttempt.objects.filter(answer_until=None).count() == 5


@pytest.mark.django_db
def test_an_answer_is_kept_for_thirty_days(server):
    server.answers = [Says(200, {}, b"fine"), Says(204)]
    make_rows(server, 2)
    with freeze() as clock:
        assert deliver_due() == (2, 2)
    fine, silent = CallbackAttempt.objects.order_by("pk")
    assert (fine.answer, fine.answer_until) == ("fine", clock.now + timedelta(days=30))
    assert (silent.answer, silent.answer_until) == ("", None)


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"", ""),
        (b" \r\n fine\n\tby us \r\n", "fine\n\tby us"),
        (b"a\x00b\x1b[31mc\x7fd", "a b [31mc d"),
        (b"\xff\xfeoh", "��oh"),
        ("größer 漢字 😀".encode(), "größer 漢字 😀"),
        ("\u202eabc\u2028d\ue000e\u200bf".encode(), "abc d e f"),
        (b"x" * 5000, "x" * 1024),
        (b"x" * 1023 + "é".encode(), "x" * 1023 + "�"),
        (HOSTILE.encode(), HOSTILE),
    ],
)
def test_what_is_kept_of_an_answer_is_text(body, kept):
    assert outcomes.kept_of(body) == kept


@pytest.mark.django_db
@pytest.mark.parametrize("body", [bytes(range(256)) * 4, b"\0" * 2000, b"\xf0\x9f\x98" * 500])
def test_every_database_takes_whatever_is_answered(server, body):
    server.answers = [Says(200, {}, body)]
    [row] = make_rows(server, 1, expects="success")
    assert deliver_due() == (1, 0)
    row.refresh_from_db()
    assert row.state == "refused"
    assert row.attempt_log.get().answer == outcomes.kept_of(body)


# By hand


@pytest.mark.django_db
@pytest.mark.parametrize("state", Callback.State.values)
def test_only_what_waits_or_is_parked_is_canceled(state):
    due = timezone.now() if state == "pending" else None
    [row] = make_settled(1, state=state, due=due, settled_on=None)
    if state in ("pending", "parked"):
        outbox.cancel(row, reason="r" * 600)
        row.refresh_from_db()
        assert (row.state, row.due, row.reason) == ("canceled", None, "r" * 500)
        assert row.settled_on is not None
    with pytest.raises(InvalidTransition, match=row.webhook_id):
        outbox.cancel(row, reason="again")


@pytest.mark.django_db
def test_what_is_canceled_under_way_stays_so(server):
    [row] = make_rows(server, 1)
    [claimed] = claims.Claimer().claim()
    outbox.cancel(row, reason="a mistake")
    assert delivery.deliver(claimed) is False
    row.refresh_from_db()
    assert (row.state, row.reason) == ("canceled", "a mistake")
    assert not CallbackAttempt.objects.exists()


@pytest.mark.django_db
def test_a_claim_is_given_back_as_if_it_had_not_been_made(server):
    make_rows(server, 3)
    mine = claims.Claimer().claim(3)
    canceled, lapsed, released = mine
    outbox.cancel(canceled, reason="")
    Callback.objects.filter(pk=lapsed.pk).update(token=uuid4(), attempts=2)
    claims.release(mine)
    claims.release([])
    for each in mine:
        each.refresh_from_db()
    assert (released.state, released.token, released.attempts) == ("pending", None, 0)
    assert released.due <= timezone.now()
    # What has become somebody else's is not given back by this one.
    assert (lapsed.attempts, canceled.attempts) == (2, 1)
    assert lapsed.token is not None
    assert canceled.state == "canceled"


@pytest.mark.django_db
@pytest.mark.parametrize("state", Callback.State.values)
def test_one_is_sent_again_whatever_became_of_it(server, state):
    [row] = make_rows(server, 1, state=state, attempts=10, reason="old", token=uuid4())
    outbox.send_again(row)
    row.refresh_from_db()
    assert row.state in ("pending", "delivered")  # delivered, where tasks run at once
    assert deliver_due() in [(1, 1), (0, 0)]
    row.refresh_from_db()
    assert (row.state, row.attempts, row.reason, row.token) == ("delivered", 11, "", None)
    assert len(server.heard) == 1


@pytest.mark.django_db
def test_what_is_gone_is_not_sent_again(server):
    [row] = make_rows(server, 1)
    Callback.objects.all().delete()
    outbox.send_again(row)
    assert not Callback.objects.exists()


@pytest.mark.django_db
def test_all_that_settled_are_sent_again_batch_by_batch_and_none_twice():
    with freeze() as clock:
        make_settled(5)
        make_settled(1, state="parked")
        make_settled(1, state="refused")
        waiting = make_settled(2, state="pending", due=clock.now + timedelta(hours=9))
        ids = set(Callback.objects.values_list("webhook_id", flat=True))
        again = outbox.send_all_again(Callback.objects.all(), batch=3)
        assert next(again) == 3  # and whoever gave the order is interrupted
        again.close()
        assert list(outbox.send_all_again(Callback.objects.all(), batch=3)) == [3, 1]
        assert list(outbox.send_all_again(Callback.objects.all())) == []
        assert set(Callback.objects.values_list("webhook_id", flat=True)) == ids
        assert Callback.objects.filter(state="pending", due=clock.now).count() == 7
        for each in waiting:
            each.refresh_from_db()
            assert each.due == clock.now + timedelta(hours=9)
        # Given up again, they may be sent again; but not at once.
        Callback.objects.update(state="dead", due=None)
        assert outbox.resendable(Callback.objects.all()).count() == 2
        clock.now += outbox.AGAIN_AFTER + timedelta(seconds=1)
        assert sum(outbox.send_all_again(Callback.objects.all())) == 9


# Switched off


@pytest.fixture
def subscription(server):
    url = f"{server.url}/x?v={{visitor_id}}"
    return make_partner({"Order placed": url}).subscriptions.get()


@pytest.mark.django_db
def test_parked_rows_do_not_stand_in_the_way_of_others(server, subscription, monkeypatch):
    monkeypatch.setattr(outbox, "BATCH", 2)
    outbox.switch_off(subscription, reason="x" * 300)
    make_rows(server, 7, partner=subscription.partner, subscription=subscription)
    make_rows(server, 1)
    assert deliver_due() == (1, 1)
    assert Callback.objects.filter(state="parked", due=None, attempts=0).count() == 7
    subscription.refresh_from_db()
    assert subscription.off_reason == "x" * 200


@pytest.mark.django_db
def test_a_second_reason_does_not_replace_the_first(subscription):
    outbox.switch_off(subscription, reason="first")
    since = Subscription.objects.get().off_since
    outbox.switch_off(subscription, reason="second")
    assert Subscription.objects.values_list("off_since", "off_reason").get() == (since, "first")


@pytest.mark.django_db
def test_a_410_is_recorded_with_what_follows_of_it_or_not_at_all(server, subscription, monkeypatch):
    server.answers = [Says(410)]
    [row] = make_rows(server, 1, partner=subscription.partner, subscription=subscription)
    # As often as it is tried, at last without the partner's words.
    errors = [OperationalError("gone")] * 3
    monkeypatch.setattr(outbox, "switch_off", failing(outbox.switch_off, errors))
    with freeze() as clock:
        assert deliver_due() == (1, 0)
        row.refresh_from_db()
        assert (row.state, row.attempt_log.count()) == ("pending", 0)
        clock.tick(minutes=2)
        assert deliver_due() == (1, 0)
    row.refresh_from_db()
    subscription.refresh_from_db()
    assert row.state == "dead"
    assert "410" in subscription.off_reason


@pytest.mark.django_db
def test_a_failure_that_could_not_be_counted_changes_nothing_else(
    server, subscription, monkeypatch, caplog
):
    server.answers = [Says(500)]
    [row] = make_rows(server, 1, partner=subscription.partner, subscription=subscription)
    broken = failing(SubscriptionQuerySet.lock_free, [OperationalError("gone")])
    monkeypatch.setattr(SubscriptionQuerySet, "lock_free", broken)
    assert deliver_due() == (1, 0)
    assert [each.getMessage() for each in caplog.records if each.levelname == "WARNING"] == [
        "Failures of subscriptions were not counted: OperationalError"
    ]
    row.refresh_from_db()
    assert (row.state, row.token, row.attempt_log.count()) == ("pending", None, 1)


@in_threads
@pytest.mark.skipif(connection.vendor == "sqlite", reason="has no connection to lose")
@pytest.mark.parametrize("model", [Callback, Subscription])
def test_a_connection_that_breaks_off_behind_a_commit_ends_no_loop(
    server, subscription, monkeypatch, model
):
    """On MariaDB, to leave a transaction is a statement of its own; Django then thinks it is in."""
    backend = type(connections["default"])
    leave, queryset = backend._set_autocommit, type(model.objects.all())
    name = "claimed" if model is Callback else "lock_free"
    settle = getattr(queryset, name)
    armed = []

    def settling(self, *args):
        if armed == []:
            armed.append("now")
        return settle(self, *args)

    def breaking_off(self, autocommit):
        if autocommit and armed == ["now"]:
            armed.append("over")
            kill, me = {
                "postgresql": ("SELECT pg_terminate_backend(%s)", "SELECT pg_backend_pid()"),
                "mysql": ("KILL %s", "SELECT CONNECTION_ID()"),
            }[self.vendor]
            with self.cursor() as cursor:
                cursor.execute(me)
                [number] = cursor.fetchone()
            other = self.copy()
            with other.cursor() as cursor:
                cursor.execute(kill, [number])
            other.close()
        return leave(self, autocommit)

    monkeypatch.setattr(queryset, name, settling)
    monkeypatch.setattr(backend, "_set_autocommit", breaking_off)
    monkeypatch.setattr(delivery, "RECONNECT", 0.01)
    server.answers = [Says(500), Says(200)]
    make_rows(server, 1, partner=subscription.partner, subscription=subscription)
    make_rows(server, 3)
    with looping(Courier(1)) as thread:
        wait_for(lambda: delivered() == 3)
        assert thread.is_alive()
    assert armed == ["now", "over"]


@pytest.mark.django_db
def test_a_result_that_is_recorded_at_the_second_try_counts_once(server, subscription, monkeypatch):
    server.answers = [Says(500, body=b"no room")]
    make_rows(server, 1, partner=subscription.partner, subscription=subscription)
    rows = type(CallbackAttempt.objects.all())
    written = failing(rows.bulk_create, [OperationalError("gone")])
    monkeypatch.setattr(rows, "bulk_create", written)
    assert deliver_due() == (1, 0)
    monkeypatch.undo()
    assert Destination.objects.values_list("failures", flat=True).get() == 1
    assert CallbackAttempt.objects.get().answer == "no room"


@contextmanager
def an_open_transaction_that_wrote_a_callback(subscription, *, enqueued=""):
    """Have the site busy with something, after it has written a callback.

    One of a subscription's, or one `enqueued` to an address without any.
    """
    wrote, over = threading.Event(), threading.Event()

    def order():
        try:
            with transaction.atomic():
                fields = {"partner": subscription.partner, "url": subscription.callback_url}
                if enqueued:
                    later = timezone.now() + timedelta(hours=1)
                    outbox.enqueue([Callback(**fields | {"url": enqueued}, due=later)])
                else:
                    Callback.objects.create(**fields, subscription=subscription, state="canceled")
                wrote.set()
                over.wait(PATIENCE)
        finally:
            connections.close_all()

    thread = threading.Thread(target=order)
    thread.start()
    try:
        assert wrote.wait(PATIENCE)
        yield
        assert thread.is_alive()
    finally:
        over.set()
        thread.join()


@in_threads
@pytest.mark.skipif(connection.vendor == "sqlite", reason="only one writes at a time there")
@pytest.mark.parametrize(("off", "status"), [(False, 500), (False, 410), (True, 500)])
def test_no_transaction_of_the_site_is_waited_for(server, subscription, off, status):
    server.answers = [Says(status), Says(500)]
    make_rows(server, 1, partner=subscription.partner, subscription=subscription)
    make_rows(server, 1)
    if off:
        outbox.switch_off(subscription, reason="gone")
    with an_open_transaction_that_wrote_a_callback(subscription):
        meanwhile = deliver_due().attempted
    # What is switched off cannot be parked meanwhile on MariaDB, and is in the other's way.
    assert off or meanwhile == 2
    assert meanwhile + deliver_due().attempted == (1 if off else 2)
    parked = Callback.objects.filter(state="parked").count()
    assert parked == (1 if off else 0)


@in_threads
@pytest.mark.skipif(connection.vendor == "sqlite", reason="only one writes at a time there")
def test_a_host_is_called_while_the_site_writes_another_callback_to_it(server, subscription):
    make_rows(server, 2)
    url = f"{server.url}/later"
    with an_open_transaction_that_wrote_a_callback(subscription, enqueued=url):
        assert deliver_due() == (2, 2)


@pytest.mark.django_db
def test_nothing_is_parked_for_ever_when_it_is_switched_on_meanwhile(
    server, subscription, monkeypatch
):
    """Another process switches it on after a claim has read that it is off."""
    outbox.switch_off(subscription, reason="")
    make_rows(server, 3, partner=subscription.partner, subscription=subscription)
    park = claims._park

    def late(*args):
        outbox.switch_on(subscription)
        park(*args)

    monkeypatch.setattr(claims, "_park", late)
    deliver_due()
    monkeypatch.undo()
    with freeze() as clock:
        clock.tick(minutes=5)
        deliver_due()
    assert delivered() == 3


# What is sent


VALUES = {"reference": "A-17 größer", "money": Money(1250, "EUR")}


def convert(server, method, **sub_ids):
    partner = make_partner()
    Subscription.objects.create(
        partner=partner, trigger="Order placed", method=method, callback_url=server.callback_url
    )
    visitor = make_visitor(partner, click_id="c-1", sub_ids=sub_ids)
    conversion = record_conversion(trigger="Order placed", known={visitor.pk: "session"}, **VALUES)
    return visitor, conversion


@pytest.mark.django_db
def test_what_is_posted_is_the_form_of_standard_webhooks():
    with callback_server() as server:
        visitor, conversion = convert(server, "POST", sub1="s-1", sub3='"')
        assert deliver_due() == (1, 1)
        [call] = server.received
    message = json.loads(call.body)
    at = conversion.created_on.replace(microsecond=0)
    assert message == {
        "type": "conversion",
        "timestamp": at.isoformat(),
        "data": {
            "visitor_id": str(visitor.pk),
            "partner_uid": visitor.partner.uid,
            "trigger": "Order placed",
            "reference": "A-17 größer",
            "amount": "12.50",
            "currency": "EUR",
            "click_id": "c-1",
            "sub1": "s-1",
            "sub2": "",
            "sub3": '"',
            "sub4": "",
            "sub5": "",
        },
    }
    assert datetime.fromisoformat(message["timestamp"]).utcoffset() == timedelta(0)
    assert call.headers["content-type"] == "application/json"
    assert int(call.headers["content-length"]) == len(call.body)
    assert "größer".encode() in call.body


@pytest.mark.django_db
def test_a_get_has_no_body():
    with callback_server() as server:
        convert(server, "GET")
        assert deliver_due() == (1, 1)
        [call] = server.received
    assert (call.method, call.body) == ("GET", b"")
    assert not {"content-type", "content-length"} & set(call.headers)


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_test_is_signed_as_any_and_says_that_it_is_one(method):
    with callback_server() as server, freeze(datetime(2026, 7, 1, tzinfo=UTC)):
        partner = make_partner()
        subscription = Subscription.objects.create(
            partner=partner, trigger="Order placed", method=method, callback_url=server.callback_url
        )
        callback = outbox.enqueue_test(subscription)
        deliver_due()
        [call] = server.received
        call.verify(*partner.signing_secrets())
    assert call.headers["webhook-id"] == callback.webhook_id
    assert callback.webhook_id.startswith("test_")
    assert callback.conversion is None
    assert call.query["visitor_id"] == "0"
    assert call.query["partner_uid"] == partner.uid
    if method == "POST":
        message = json.loads(call.body)
        assert (message["type"], message["data"]["visitor_id"]) == ("test", "0")
        assert message["timestamp"] == "2026-07-01T00:00:00+00:00"
    callback.refresh_from_db()
    assert callback.state == "delivered"


@pytest.mark.django_db
def test_a_test_also_goes_where_nothing_else_does(server, subscription):
    """Staff try an address before they switch it on again."""
    outbox.switch_off(subscription, reason="gone")
    callback = outbox.enqueue_test(subscription)
    deliver_due()
    callback.refresh_from_db()
    assert callback.state == "delivered"
    assert Subscription.objects.get().off_since is not None


# What partners answer


@pytest.mark.django_db
def test_what_a_partner_answers_is_for_staff_only_and_text(admin_client, client, settings, capsys):
    settings.ROOT_URLCONF = "tests.projects.urls"
    user = make_user("somebody")
    with scripted(Says(200, {}, f"{HOSTILE} &amp; 4711".encode())) as server:
        partner = make_partner({"Order placed": f"{server.url}/x?v={{visitor_id}}"})
        partner.users.add(user)
        visitor = make_visitor(partner, user=user)
        known = {visitor.pk: "session"}
        conversion = record_conversion(
            trigger="Order placed", reference="A-1", user=user, known=known
        )
        assert deliver_due() == (1, 1)
    [attempt] = CallbackAttempt.objects.all()
    assert attempt.answer == f"{HOSTILE} &amp; 4711"
    own = reverse("admin:affiliations_callback_change", args=[attempt.callback_id])
    page = admin_client.get(own).content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp;amp; 4711" in page
    assert HOSTILE not in page
    # Nobody else gets to see that page, nor does any other tell.
    client.force_login(user)
    assert client.get(own).status_code == 302
    call_command("affiliations_status")
    elsewhere = [
        json.dumps(status.figures()),
        status.prometheus(status.figures()),
        capsys.readouterr().out,
        *(
            admin_client.get(reverse(f"admin:affiliations_{name}")).content.decode()
            for name in ("callback_changelist", "conversion_changelist", "visitor_changelist")
        ),
        admin_client.get(
            reverse("admin:affiliations_conversion_change", args=[conversion.pk])
        ).content.decode(),
    ]
    for each in elsewhere:
        assert "4711" not in each
    with freeze(attempt.answer_until + timedelta(seconds=1)):
        assert outcomes.expunge() == 1
    assert "4711" not in admin_client.get(own).content.decode()


@pytest.mark.django_db
def test_an_answer_that_was_cut_is_no_refusal(server, subscription):
    """What the partner made of the call may have stood in the rest."""
    [row] = make_rows(server, 1, partner=subscription.partner, expects="success=true")
    [claimed] = claims.Claimer().claim()
    made = CallbackAttempt(callback=claimed, number=1, started_on=timezone.now(), duration_ms=1)
    made.status = 200
    cut = egress.Answer(200, "", body=b"succ", whole=False)
    assert outcomes.settle([outcomes.Result(claimed, made, cut)]) == [False]
    row.refresh_from_db()
    assert (row.state, row.reason) == ("pending", "The partner's answer was cut.")


@pytest.mark.django_db
def test_what_was_canceled_meanwhile_is_not_brought_back(server, subscription, monkeypatch):
    rows = make_rows(server, 3, partner=subscription.partner, subscription=subscription)
    outbox.switch_off(subscription, reason="")
    deliver_due()
    assert Callback.objects.filter(state="parked").count() == 3
    ramp = outbox.ramp

    def late(position):
        outbox.cancel(rows[0], reason="") if position == 0 else None
        return ramp(position)

    monkeypatch.setattr(outbox, "ramp", late)
    assert outbox.switch_on(subscription) == 2
    rows[0].refresh_from_db()
    assert rows[0].state == "canceled"


@pytest.mark.django_db
def test_a_suspect_that_is_given_back_stays_one(server):
    [row] = make_rows(server, 1)
    changes = {"token": uuid4(), "attempts": claims.ALONE_AFTER}
    Callback.objects.filter(pk=row.pk).update(**changes)
    for _ in range(2):
        [claimed] = claims.Claimer().claim()
        assert claimed.alone
        claims.release([claimed])
        row.refresh_from_db()
        assert row.attempts == claims.ALONE_AFTER


@pytest.mark.django_db
@pytest.mark.parametrize(("off", "became"), [(True, "canceled"), (False, "pending")])
def test_what_waits_for_a_subscription_that_is_deleted(server, subscription, off, became):
    if off:
        outbox.switch_off(subscription, reason="gone")
    make_rows(server, 2, partner=subscription.partner, subscription=subscription)
    make_rows(server, 1, partner=subscription.partner, subscription=subscription, state="delivered")
    if off:
        Callback.objects.filter(pk=Callback.objects.first().pk).update(state="parked", due=None)
    Subscription.objects.get().delete()
    states = Callback.objects.order_by("state").values_list("state", flat=True)
    assert list(states) == sorted([became, became, "delivered"])


# On nobody's behalf, and with what a network knows us by


@in_threads
def test_a_call_on_nobodys_behalf_is_made_and_not_signed(server):
    make_rows(server, 1, partner=None)
    assert deliver_due() == (1, 1)
    [call] = server.heard
    assert call.headers["webhook-id"] == Callback.objects.get().webhook_id
    assert "webhook-signature" not in call.headers
    [nobodys] = status.figures()["partners"]
    assert (nobodys["uid"], nobodys["attempts"], nobodys["delivered"]) == ("", 1, 1)
    assert status.figures()["total"]["delivered"] == 1


@in_threads
def test_a_token_is_sent_to_its_host_and_kept_nowhere(server, settings):
    host = urlsplit(server.url).netloc
    settings.AFFILIATE_CALLBACK_TOKENS = {host: "se/cret&x=1"}
    make_rows(server, 1, url=f"{server.url}/x?token={{security_token}}&v=1")
    assert deliver_due() == (1, 1)
    [call] = server.heard
    assert call.target == "/x?token=se%2Fcret%26x%3D1&v=1"
    secrets = Callback.objects.get().partner.signing_secrets()
    signing.verify(secrets, dict(call.headers), call.target.encode(), time.time())
    for table in (Callback, CallbackAttempt):
        assert "se/cret" not in str(list(table.objects.values()))
        assert "se%2Fcret" not in str(list(table.objects.values()))


@in_threads
def test_another_hosts_token_is_not_sent(server, settings):
    settings.AFFILIATE_CALLBACK_TOKENS = {"network.example": "se/cret"}
    make_rows(server, 1, url=f"{server.url}/x?token={{security_token}}")
    assert deliver_due() == (1, 0)
    assert not server.heard
    callback = Callback.objects.get()
    assert callback.state == Callback.State.PENDING
    assert callback.reason == delivery.TOKENLESS
