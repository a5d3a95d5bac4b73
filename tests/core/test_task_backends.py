"""The engines that may run the tasks, for real: whatever becomes of one, no callback is lost.

The database's worker and Celery need settings of their own. Their tests are down here too, named
after what they need, and are run by `run_under` as a process of its own.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection, transaction

from affiliations import outbox
from affiliations.models import Callback, CallbackAttempt
from affiliations.tasks import SHORT, deliver_callbacks
from affiliations.testing import CallbackServer, Received, callback_server, deliver, freeze, refer
from tests.core.factories import make_partner
from tests.docs.test_docs import write_celery_site

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).parents[2]
BROKER = "amqp://guest:guest@127.0.0.1:5672//"
#: Seconds after which what should have happened has not.
PATIENCE = 30


def enqueue(url: str) -> Callback:
    """Write a callback, as a conversion does, and commit it."""
    with transaction.atomic():
        [callback] = outbox.enqueue([Callback(partner=make_partner(), url=f"{url}/x?visitor=1")])
    return callback


def wait_for(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def is_delivered(callback: Callback) -> bool:
    callback.refresh_from_db()
    return callback.state == Callback.State.DELIVERED


def deliver_when_due(callback: Callback) -> tuple[int, int]:
    """Do what the command does, once the callback has fallen due again."""
    callback.refresh_from_db()
    with freeze(callback.due + timedelta(seconds=1)):
        return tuple(deliver())


class SlowServer(CallbackServer):
    """A partner's server that holds its answers back until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def _take(self, call: Received) -> int | None:
        answer = super()._take(call)
        self.go.wait(PATIENCE)
        return answer


@pytest.fixture
def slow_server() -> Iterator[SlowServer]:
    server = SlowServer()
    server.start()
    yield server
    server.go.set()
    server.stop()


class DrippingServer:
    """Says `start` to whoever calls, then one byte every tenth of a second, never to the end.

    It gives up after twice the time that a call in a request may take.
    """

    def __init__(self, start: bytes, drop: bytes) -> None:
        self.start, self.drop = start, drop
        self.calls: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                connected, _ = self.listener.accept()
                with connected:
                    self.calls.append("began")
                    self.calls[-1] = self.answer(connected)

    def answer(self, connected: socket.socket) -> str:
        patience = time.monotonic() + 2 * SHORT
        connected.recv(65536)
        connected.settimeout(0.1)
        try:
            connected.sendall(self.start)
            while time.monotonic() < patience:
                with suppress(TimeoutError):
                    if not connected.recv(1):
                        return "was hung up on"
                connected.sendall(self.drop)
        except ConnectionError:
            return "was hung up on"
        return "hung up"

    def stop(self) -> None:
        # A close alone does not wake the thread that waits in accept().
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@contextmanager
def dripping_server(start: bytes, drop: bytes) -> Iterator[DrippingServer]:
    server = DrippingServer(start, drop)
    try:
        yield server
    finally:
        server.stop()


# In the request


def test_a_request_makes_one_attempt_and_the_command_the_next(client):
    with callback_server() as server:
        server.answers = [500, 200]
        refer(client, make_partner({"Order placed": server.callback_url}))
        assert client.post("/order/", {"number": "A-1", "total": "12.50"}).status_code == 201
        assert len(server.received) == 1
        callback = Callback.objects.get()
        assert (callback.state, callback.attempts) == ("pending", 1)
        assert tuple(deliver()) == (0, 0)
        assert deliver_when_due(callback) == (1, 1)
        first, second = server.received
        assert first.headers["webhook-id"] == second.headers["webhook-id"]


HANGING = {
    "silent": (b"", b""),
    "status": (b"HTTP/1.1 200 ", b"O"),
    "header": (b"HTTP/1.1 200 OK\r\nX-Note: ", b"o"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"o"),
}


@pytest.mark.parametrize(("start", "drop"), HANGING.values(), ids=HANGING)
def test_a_partner_that_hangs_is_hung_up_on(client, start, drop):
    with dripping_server(start, drop) as server:
        refer(client, make_partner({"Order placed": f"{server.url}/?v={{visitor_id}}"}))
        assert client.post("/order/", {"number": "A-1", "total": "12.50"}).status_code == 201
        assert Callback.objects.get().attempts == 1
    assert server.calls == ["was hung up on"]


def test_two_partners_that_hang_cost_no_more_than_one():
    with dripping_server(b"", b"") as one, dripping_server(b"", b"") as other:
        partner = make_partner()
        with transaction.atomic():
            outbox.enqueue([Callback(partner=partner, url=server.url) for server in (one, other)])
        made = CallbackAttempt.objects.values_list("duration_ms", flat=True)
        assert sum(made) < 1.5 * SHORT * 1000
    assert Callback.objects.filter(state="pending").count() == 2


# In processes of their own


def needs(module: str) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    if hasattr(deliver_callbacks.get_backend(), "save_metadata"):
        pytest.skip("django-tasks before 0.12 asks more of a backend")


def run_under(project: str, kind: str, **environment: str) -> None:
    """Run the tests of this file whose names begin with `kind` under another project's settings."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=120"]
    command += ["--no-migrations", "--ds", f"tests.projects.{project}"]
    command += ["-o", f"python_functions={kind}_*", __file__]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate()
    finally:
        if process.poll() is None:
            # It ends its own children, unless it was told to ignore this, as in the background.
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=30)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, output
    assert " passed" in output, output
    assert "skipped" not in output, output


@pytest.fixture
def start(transactional_db: None, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start Python processes on the database of the test; they are ended with it."""
    database = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        url = f"sqlite:///{database}"
    else:
        url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{database}").geturl()
    started: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "log"

    def start(*arguments: str) -> "subprocess.Popen[bytes]":
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, "DATABASE_URL": url},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # Pytest shows it if the test has failed.
        sys.stdout.write(log.read_text(encoding="utf-8") if log.exists() else "")


def kill_within_a_call(worker: "subprocess.Popen[bytes]", server: SlowServer) -> None:
    wait_for(lambda: server.received)
    worker.kill()
    worker.wait()
    server.go.set()


def assert_the_command_takes_over(callback: Callback, server: SlowServer) -> None:
    callback.refresh_from_db()
    assert (callback.state, callback.attempts) == ("pending", 1)
    assert tuple(deliver()) == (0, 0)
    assert deliver_when_due(callback) == (1, 1)
    assert len({call.headers["webhook-id"] for call in server.received}) == 1
    assert len(server.received) == 2


# With a worker on the database


def test_with_a_database_worker():
    needs("django_tasks_db")
    run_under("tasks_database", "with_database")


WORKER = ("-m", "django", "db_worker", "--interval", "0.1", "--no-startup-delay")


def with_database_a_worker_delivers_what_is_committed(start):
    with callback_server() as server:
        start(*WORKER)
        with transaction.atomic():
            outbox.enqueue([Callback(partner=make_partner(), url=f"{server.url}/undone")])
            transaction.set_rollback(True)
        callback = enqueue(server.url)
        assert callback.attempts == 0
        wait_for(lambda: is_delivered(callback))
        assert callback.attempts == 1
        assert [call.target for call in server.received] == ["/x?visitor=1"]


def with_database_a_worker_that_is_killed_loses_nothing(start, slow_server):
    worker = start(*WORKER)
    callback = enqueue(slow_server.url)
    kill_within_a_call(worker, slow_server)
    # Nor does another worker come upon that task again.
    assert start(*WORKER, "--batch").wait(PATIENCE) == 0
    assert_the_command_takes_over(callback, slow_server)


def with_database_a_worker_that_is_late_calls_nobody_twice(start):
    with callback_server() as server:
        callback = enqueue(server.url)
        assert server.received == []
        assert tuple(deliver()) == (1, 1)
        assert start(*WORKER, "--batch").wait(PATIENCE) == 0
        callback.refresh_from_db()
        assert (callback.state, callback.attempts) == ("delivered", 1)
        assert len(server.received) == 1


# With Celery


@pytest.fixture
def celery_site(tmp_path, monkeypatch):
    """Write the site of the page about Celery to where child processes find it."""
    needs("celery")
    write_celery_site(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("AFFILIATIONS_QUEUE", f"affiliations-{token_hex(8)}")


def test_with_celery_on_rabbitmq(celery_site):
    parts = urlsplit(BROKER)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=3).close()
    except OSError as error:
        pytest.skip(f"no RabbitMQ at {parts.hostname}:{parts.port}: {error}")
    run_under("tasks_celery", "with_celery", AFFILIATIONS_BROKER=BROKER)


def test_with_celery_and_a_broker_that_is_down(celery_site):
    # Bound and not listening, so that nobody else gets the port while the test runs.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        broker = f"amqp://127.0.0.1:{taken.getsockname()[1]}//"
        run_under("tasks_celery", "with_no_broker", AFFILIATIONS_BROKER=broker)


CELERY = ("-m", "celery", "-A", "mysite", "worker", "--pool", "threads", "--concurrency", "1")
CELERY += ("--loglevel", "WARNING", "--without-gossip", "--without-mingle")


@pytest.fixture(scope="module")
def queue() -> Iterator[None]:
    """Leave nothing of the site's queue and its connections behind."""
    app = pytest.importorskip("mysite").celery_app
    yield
    with app.connection_for_write() as broker:
        broker.default_channel.queue_delete(app.conf.task_default_queue)
        broker.default_channel.exchange_delete(app.conf.task_default_queue)
    app.pool.force_close_all()


def with_celery_a_worker_delivers_what_is_committed(queue, start):
    with callback_server() as server:
        start(*CELERY)
        with transaction.atomic():
            outbox.enqueue([Callback(partner=make_partner(), url=f"{server.url}/undone")])
            transaction.set_rollback(True)
        callback = enqueue(server.url)
        assert callback.attempts == 0
        wait_for(lambda: is_delivered(callback))
        assert callback.attempts == 1
        assert [call.target for call in server.received] == ["/x?visitor=1"]


def with_celery_a_worker_that_is_killed_loses_nothing(queue, start, slow_server):
    worker = start(*CELERY)
    callback = enqueue(slow_server.url)
    kill_within_a_call(worker, slow_server)
    assert_the_command_takes_over(callback, slow_server)


def with_celery_a_worker_that_is_late_calls_nobody_twice(queue, start):
    with callback_server() as server:
        late = enqueue(server.url)
        assert server.received == []
        assert tuple(deliver()) == (1, 1)
        start(*CELERY)
        # The worker takes them in turn, so it is done with the late one when this has arrived.
        callback = enqueue(server.url)
        wait_for(lambda: is_delivered(callback))
        assert is_delivered(late)
        assert late.attempts == 1
        assert len(server.received) == 2


def with_no_broker_the_order_succeeds_and_the_command_delivers(client, caplog):
    with callback_server() as server:
        refer(client, make_partner({"Order placed": server.callback_url}))
        assert client.post("/order/", {"number": "A-1", "total": "12.50"}).status_code == 201
        assert "wake in on_commit()" in caplog.text
        assert server.received == []
        assert tuple(deliver()) == (1, 1)
    assert Callback.objects.get().state == "delivered"
