"""How long after a commit the partner's server sees the first byte, with the loop in its place.

A child process runs `manage.py deliver_callbacks --loop`; nothing else goes on. The commits are
spaced irregularly, so that none of them waits for a look of a fixed rhythm.
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from statistics import quantiles

from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from affiliations import outbox
from affiliations.models import Callback, Destination, Partner

from .runner import Fact, Race, progress, spread

#: Seconds: what 95 in 100 are to stay below, where the database tells of a commit, and where not.
P95, P95_UNTOLD = 0.3, 1.0
CHILD = "import django; django.setup(); from benchmarks.first_byte import child; child()"
#: Seconds after which it is taken for never.
NEVER = 10.0


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield how late partners hear of what was committed."""
    partner = Partner.objects.create(name="Anna", active=True)
    with receiver() as (url, arrivals), loop():
        late(partner, url, arrivals)  # the loop has started, and is connected
        pauses = random.Random(0)
        taken = []
        for _ in progress(range(3 if quick else 200), "commit to first byte"):
            time.sleep(pauses.uniform(0.0, 0.5))
            taken.append(late(partner, url, arrivals))
    figure = P95 if connection.vendor == "postgresql" else P95_UNTOLD
    low, middle, high = spread(taken)
    yield Fact("commit to first byte at the partner, idle: median", middle, "s", None, (low, high))
    p95 = quantiles(taken, n=20, method="inclusive")[-1]
    yield Fact(f"commit to first byte at the partner, idle: p95 of {len(taken)}", p95, "s", figure)
    partner.delete()
    Destination.objects.all().delete()


def late(partner: Partner, url: str, arrivals: SimpleQueue[float]) -> float:
    """Commit a callback; return the seconds until its first byte arrived."""
    with transaction.atomic():
        outbox.enqueue([Callback(partner=partner, url=url)])
    committed = time.monotonic()
    try:
        return max(arrivals.get(timeout=NEVER) - committed, 0.0)
    except Empty:
        raise RuntimeError("the callback did not arrive") from None


@contextmanager
def receiver() -> Iterator[tuple[str, SimpleQueue[float]]]:
    """Listen as a partner; yields the address, and the times at which calls begin."""
    arrivals: SimpleQueue[float] = SimpleQueue()

    def serve() -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                called, _ = listener.accept()
                with called:
                    called.recv(1)
                    arrivals.put(time.monotonic())
                    called.recv(65536)
                    called.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/?visitor=7", arrivals
        finally:
            # A close alone does not wake the thread that waits in accept().
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


@contextmanager
def loop() -> Iterator[None]:
    """Have the command run beside."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def child() -> None:
    """Run the command on the benchmarks' own database."""
    connection.settings_dict["NAME"] = settings.DATABASES["default"]["TEST"]["NAME"]
    call_command("deliver_callbacks", loop=True)
