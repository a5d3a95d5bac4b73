"""What the courier does with answers that the database does not take, or not just then."""

import logging
import signal
from contextlib import contextmanager
from uuid import uuid4

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from affiliations import delivery, outcomes
from affiliations.delivery import Courier, deliver_due
from affiliations.models import Callback, CallbackAttempt
from tests.core.receivers.scripted import Says, scripted
from tests.core.test_delivery import (
    PATIENCE,
    delivered,
    looping,
    make_rows,
    on_postgres,
    wait_for,
    worker,
)
from tests.mariadb import in_three_bytes

pytestmark = pytest.mark.django_db(transaction=True)

WORDS = "fine, 4711 \N{GRINNING FACE}"


@pytest.fixture
def server():
    with scripted() as server:
        yield server


def sql(*statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def refusing(condition):
    """Have the database take no attempt for which an SQL condition holds."""
    table = CallbackAttempt._meta.db_table
    if connection.vendor == "sqlite":
        made = (
            f"CREATE TRIGGER poison BEFORE INSERT ON {table}"
            f" WHEN {condition.format('NEW.')} BEGIN SELECT RAISE(ABORT, 'poison'); END"
        )
        undone = "DROP TRIGGER poison"
    else:
        made = f"ALTER TABLE {table} ADD CONSTRAINT poison CHECK (NOT ({condition.format('')}))"
        undone = f"ALTER TABLE {table} DROP CONSTRAINT poison"
    sql(made)
    try:
        yield
    finally:
        sql(undone)


@contextmanager
def without_these_words():
    """Have the database take no emoji: one in three bytes on MariaDB, where that is common."""
    if connection.vendor != "mysql":
        with refusing("{}answer LIKE '%\N{GRINNING FACE}%'"):
            yield
        return
    with in_three_bytes(*(each._meta.db_table for each in (Callback, CallbackAttempt))):
        yield


# Answers that it never takes


@pytest.mark.parametrize("threads", [1, 4])
def test_words_that_cannot_be_stored_cost_only_themselves(server, caplog, threads):
    server.answers = [Says(200, {}, b"fine"), Says(200, {}, WORDS.encode()), Says(200)]
    make_rows(server, 6)
    courier = Courier(threads)
    with without_these_words(), looping(courier):
        wait_for(lambda: delivered() == 6)
    assert courier.tally == (6, 6)
    assert len(server.heard) == 6
    said = CallbackAttempt.objects.values_list("answer", flat=True)
    assert sorted(said) == ["", "", "", "", delivery.UNSTORABLE, "fine"]
    assert "4711" not in caplog.text


def test_what_was_meant_by_them_counts(server):
    server.answers = [Says(200, {}, WORDS.encode())]
    taken, refused = make_rows(server, 2)
    Callback.objects.filter(pk=taken.pk).update(expects="4711")
    Callback.objects.filter(pk=refused.pk).update(expects="success")
    with without_these_words():
        assert Courier(2).run() == (2, 1)
    for each in (taken, refused):
        each.refresh_from_db()
    assert (taken.state, taken.reason) == ("delivered", "")
    assert refused.state == "refused"
    assert refused.reason.endswith(delivery.UNSTORABLE)


def test_one_after_the_other_they_cost_no_more(server):
    server.answers = [Says(200, {}, WORDS.encode())]
    make_rows(server, 2)
    with without_these_words():
        assert deliver_due() == (2, 2)
    assert len(server.heard) == 2


@pytest.mark.parametrize("threads", [1, 4])
def test_a_row_that_cannot_be_recorded_keeps_no_other_and_no_courier(server, caplog, threads):
    server.answers = [Says(200, {}, b"fine, 4711")]
    poison, *_ = make_rows(server, 6)
    courier = Courier(threads)
    with refusing(f"{{}}callback_id = {poison.pk}"), looping(courier):
        wait_for(lambda: delivered() == 5)
        wait_for(lambda: not courier._under_way)
        # It has room for others again.
        make_rows(server, 1)
        wait_for(lambda: delivered() == 6)
    assert courier.tally == (7, 6)
    assert len(server.heard) == 7
    poison.refresh_from_db()
    # It falls due again when its lease is over, and the attempt counts.
    assert (poison.state, poison.attempts) == ("pending", 1)
    assert poison.due > timezone.now()
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert poison.webhook_id in record.getMessage()
    assert "4711" not in caplog.text


def test_one_that_never_can_be_dies_out(server, caplog):
    [poison] = make_rows(server, 1)
    with refusing(f"{{}}callback_id = {poison.pk}"):
        for _ in range(outcomes.MAX_ATTEMPTS):
            assert deliver_due() == (1, 0)
            # As when the lease is over, and whoever had it is not suspected of dying of it.
            Callback.objects.update(due=timezone.now(), token=uuid4())
        assert deliver_due() == (0, 0)
    poison.refresh_from_db()
    assert (poison.state, len(server.heard)) == ("dead", outcomes.MAX_ATTEMPTS)
    assert poison.webhook_id in caplog.text


# A database that is gone


class Database:
    """Stands before the database, which is gone while `gone` is true; or for so many statements."""

    gone: float = 0

    def __call__(self, execute, *arguments):
        if self.gone:
            self.gone -= 1
            raise OperationalError("gone")
        return execute(*arguments)


@pytest.fixture
def database():
    """The database as the thread of the test sees it, so the courier has to run in that."""
    database = Database()
    with connection.execute_wrapper(database):
        yield database
        database.gone = 0


def after_a_call(monkeypatch, what):
    """Have something happen when a call has been answered, and before that can be recorded."""
    attempt = delivery.attempt

    def attempted(callback, **options):
        result = attempt(callback, **options)
        what()
        return result

    monkeypatch.setattr(delivery, "attempt", attempted)
    monkeypatch.setattr(delivery, "RECONNECT", 0.01)


def test_told_to_stop_it_waits_for_the_database_for_a_while_only(
    server, database, monkeypatch, caplog
):
    monkeypatch.setattr(delivery, "PATIENCE", 0.5)
    [row] = make_rows(server, 1)
    courier = Courier(2)

    def lose_it():
        database.gone = float("inf")
        courier.stop()

    after_a_call(monkeypatch, lose_it)
    with pytest.raises(OperationalError, match="gone"):
        courier.run(loop=True)
    database.gone = 0
    row.refresh_from_db()
    assert (row.state, row.attempts, len(server.heard)) == ("pending", 1, 1)
    # Whoever reads the log knows which partner is told twice.
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert row.webhook_id in record.getMessage()


@pytest.mark.parametrize("loop", [True, False])
def test_what_is_answered_is_recorded_when_it_is_back_in_time(
    server, database, monkeypatch, caplog, loop
):
    server.answers = [Says(after=0.3)]
    make_rows(server, 6)
    courier = Courier(2)

    def lose_it():
        database.gone = 8
        if loop:
            courier.stop()

    after_a_call(monkeypatch, lose_it)
    if loop:
        courier.run(loop=True)
    else:
        with pytest.raises(OperationalError, match="gone"):
            courier.run()
    assert database.gone == 0
    assert "The database is gone, trying again" in caplog.text
    # None is made twice, and what was not begun by then is given back.
    assert delivered() == len(server.heard) == courier.delivered < 6
    left = Callback.objects.due().filter(attempts=0, token=None)
    assert left.count() == 6 - delivered()


def test_without_a_loop_it_does_not_wait_for_ever_either(server, database, monkeypatch, caplog):
    monkeypatch.setattr(delivery, "PATIENCE", 0.5)
    [row] = make_rows(server, 1)
    after_a_call(monkeypatch, lambda: setattr(database, "gone", float("inf")))
    with pytest.raises(OperationalError, match="gone"):
        Courier(2).run()
    assert row.webhook_id in caplog.text


@contextmanager
def nobody_gets_in():
    """Hang up on everybody but the test, and let nobody connect any more."""
    name = connection.settings_dict["NAME"]
    connection.ensure_connection()
    own = connection.connection.info.backend_pid
    with connection._nodb_cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND pid <> %s",
            [name, own],
        )
    try:
        yield
    finally:
        with connection._nodb_cursor() as cursor:
            cursor.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


@on_postgres
def test_a_process_that_is_told_to_stop_ends_without_its_database(server):
    server.answers = [Says(after=1)]
    [row] = make_rows(server, 1)
    with worker("--loop") as process:
        wait_for(lambda: server.heard)
        with nobody_gets_in():
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert row.webhook_id in said
    assert "OperationalError" in said
