"""The outbox: leases, fences, retries, and what is sent."""

import os
import signal
import threading
import time
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connections, transaction

from affiliations import callbackurl, claims, delivery, outbox, outcomes, tasks
from affiliations.exceptions import InvalidTransition
from affiliations.models import Callback, CallbackAttempt
from affiliations.testing import callback_server, deliver, freeze
from tests.core.factories import make_partner

pytestmark = pytest.mark.django_db


@pytest.fixture
def server():
    with callback_server() as server:
        yield server


def make_callback(server=None, **fields):
    url = f"{server.url}/x?visitor=1" if server else "http://127.0.0.1:9/x"
    return outbox.enqueue([Callback(**{"partner": make_partner(), "url": url, **fields})])[0]


def make_unannounced(number, server=None):
    """Return callbacks of which nobody is told, as after a crash right behind the commit."""
    url = f"{server.url}/x" if server else "http://127.0.0.1:9/x"
    partner = make_partner()
    host = callbackurl.host(url)
    outbox.know([host], "default")
    return Callback.objects.bulk_create(
        Callback(partner=partner, url=url, host=host) for _ in range(number)
    )


def test_what_arrives_is_settled_with_its_attempt(server):
    callback = make_callback(server)
    assert deliver() == (1, 1)
    callback.refresh_from_db()
    assert (callback.state, callback.due, callback.attempts) == ("delivered", None, 1)
    assert callback.settled_on is not None
    [attempt] = callback.attempt_log.all()
    assert (attempt.number, attempt.status, attempt.error) == (1, 200, "")
    assert deliver() == (0, 0)


def test_the_schedule_is_that_of_standard_webhooks_and_ends(server):
    server.answers = [500]
    with freeze() as clock:
        callback = make_callback(server)
        started = clock.now
        for wait in (timedelta(0), *outcomes.SCHEDULE):
            clock.now += wait * (1 - outcomes.JITTER) - timedelta(milliseconds=1)
            if wait:
                assert deliver() == (0, 0)
            clock.now += wait * 2 * outcomes.JITTER + timedelta(milliseconds=2)
            assert deliver() == (1, 0)
        assert clock.now - started > timedelta(hours=75)
    callback.refresh_from_db()
    assert (callback.state, callback.attempts, callback.due) == ("dead", 10, None)
    assert callback.reason == "The partner answered 500."
    assert sum(outcomes.SCHEDULE, timedelta(0)) == timedelta(hours=75, minutes=35, seconds=5)
    assert len({call.headers["webhook-id"] for call in server.received}) == 1
    assert len({call.target for call in server.received}) == 1
    assert len(server.received) == 10


@pytest.mark.parametrize("answer", [301, 302, 404, 500, 503, None])
def test_anything_but_2xx_is_tried_again(server, answer):
    server.answers = [answer, 204]
    with freeze() as clock:
        callback = make_callback(server)
        assert deliver() == (1, 0)
        clock.tick(seconds=6)
        assert deliver() == (1, 1)
    statuses = list(callback.attempt_log.values_list("number", "status"))
    assert statuses == [(1, answer), (2, 204)]


def test_a_destination_that_is_not_there_is_no_error():
    callback = make_callback()
    assert deliver() == (1, 0)
    callback.refresh_from_db()
    assert callback.state == "pending"
    assert callback.reason == "The connection was refused."


def test_each_attempt_is_signed_anew_with_both_secrets_while_one_is_rotated(server):
    callback = make_callback(server)
    old = callback.partner.signing_secrets()
    callback.partner.rotate_secret()
    new = callback.partner.signing_secrets()
    assert len(new) == 2
    assert new[1:] == old
    deliver()
    [call] = server.received
    call.verify(old[0])
    call.verify(new[0])
    with freeze() as clock:
        clock.tick(hours=23, minutes=59)
        assert len(callback.partner.signing_secrets()) == 2
        clock.tick(minutes=2)
        assert callback.partner.signing_secrets() == new[:1]


def test_without_a_secret_nothing_is_sent_unsigned(server, settings):
    callback = make_callback(server)
    settings.SECRET_KEY = "another " * 10
    assert deliver() == (1, 0)
    assert server.received == []
    callback.refresh_from_db()
    assert "secret" in callback.reason


def test_a_post_carries_its_body(server):
    callback = make_callback(server, method="POST", body='{"a": "ü"}')
    assert deliver() == (1, 1)
    [call] = server.received
    assert (call.method, call.body) == ("POST", '{"a": "ü"}'.encode())
    call.verify(*callback.partner.signing_secrets())


# Claims


def test_a_claim_is_a_lease(server):
    callback = make_callback(server)
    with freeze() as clock:
        [mine] = claims.Claimer().claim()
        assert claims.Claimer().claim() == []
        clock.tick(seconds=61)
        [again] = claims.Claimer().claim()
        assert again.attempts == 2
        # The first worker comes back too late: what it says does not count any more.
        assert delivery.deliver(mine) is False
        assert CallbackAttempt.objects.count() == 0
        callback.refresh_from_db()
        assert callback.state == "pending"
        assert delivery.deliver(again) is True
    callback.refresh_from_db()
    assert callback.state == "delivered"


def test_attempts_are_counted_before_the_call_so_that_poison_dies_out(server):
    callback = make_callback(server)
    with freeze() as clock:
        for _ in range(outcomes.MAX_ATTEMPTS):
            assert claims.Claimer().claim()  # and the worker dies
            clock.tick(seconds=61)
        make_unannounced(2, server)
        assert deliver() == (2, 2)
        assert claims.Claimer().claim() == []
    callback.refresh_from_db()
    assert (callback.state, callback.due) == ("dead", None)
    assert "process" in callback.reason
    outbox.send_again(callback)
    assert deliver() == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_no_callback_is_taken_by_two(settings):
    settings.AFFILIATE_CALLBACKS_PER_HOST = 1000
    make_unannounced(40)
    claimed, lock = [], threading.Lock()
    start = threading.Barrier(8)

    def work():
        start.wait()
        try:
            while batch := claims.Claimer().claim(3):
                with lock:
                    claimed.extend(callback.pk for callback in batch)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whoever sees nothing free may stop early; what is left is due still.
    claimed += [callback.pk for callback in claims.Claimer().claim(40)]
    assert sorted(claimed) == sorted(Callback.objects.values_list("pk", flat=True))


@pytest.mark.django_db(transaction=True)
def test_the_command_delivers_with_threads(server, capsys):
    make_unannounced(20, server)
    call_command("deliver_callbacks", threads=4)
    assert "20 attempted, 20 delivered" in capsys.readouterr().out
    assert len(server.received) == 20
    assert len({call.headers["webhook-id"] for call in server.received}) == 20


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("threads", [1, 4])
def test_a_worker_that_is_told_to_stop_ends_with_the_calls_under_way(server, threads):
    make_unannounced(400, server)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    def tell():
        while len(server.received) < 10:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    teller = threading.Thread(target=tell)
    teller.start()
    call_command("deliver_callbacks", loop=True, threads=threads)
    teller.join()
    delivered = Callback.objects.filter(state="delivered").count()
    assert 10 <= delivered == len(server.received) < 400
    assert not Callback.objects.filter(token__isnull=False).exists()
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


# By hand


def test_send_again_starts_over_with_the_same_id(server):
    callback = make_callback(server)
    deliver()
    callback.refresh_from_db()
    outbox.send_again(callback)
    assert deliver() == (1, 1)
    first, second = server.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert [attempt.number for attempt in callback.attempt_log.all()] == [1, 2]


def test_a_dead_one_sent_again_has_all_its_attempts_again(server):
    server.answers = [500]
    callback = make_callback(server, attempts=9)
    deliver()
    callback.refresh_from_db()
    assert callback.state == "dead"
    outbox.send_again(callback)
    deliver()
    callback.refresh_from_db()
    assert (callback.state, callback.attempts) == ("pending", 11)


def test_only_what_waits_can_be_canceled(server):
    callback = make_callback(server)
    outbox.cancel(callback, reason="a mistake")
    assert deliver() == (0, 0)
    with pytest.raises(InvalidTransition, match="state"):
        outbox.cancel(callback, reason="again")
    callback.refresh_from_db()
    assert (callback.state, callback.reason) == ("canceled", "a mistake")


# The wake-up


@pytest.mark.django_db(transaction=True)
def test_delivery_is_woken_after_the_commit_and_never_before(server):
    with transaction.atomic():
        make_callback(server)
        assert server.received == []
    assert len(server.received) == 1


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_not_sent(server):
    with transaction.atomic():
        make_callback(server)
        transaction.set_rollback(True)
    assert server.received == []
    assert Callback.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_down_breaks_nothing(server, monkeypatch, caplog):
    def down(*args):
        raise ConnectionError("no broker")

    monkeypatch.setattr(type(tasks.deliver_callbacks), "enqueue", down)
    with transaction.atomic():
        make_callback(server)
    assert "no broker" in caplog.text
    assert deliver() == (1, 1)
