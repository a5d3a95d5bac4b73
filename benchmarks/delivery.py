"""How fast callbacks are delivered, against what only makes the calls and keeps no account.

The bare pool is what a site would write: threads, each with a `requests.Session` that keeps its
connections, and a list of addresses. Ours claims rows, signs, makes each call on a connection of
its own behind the guard, and records attempt and outcome. The worker is that of django-tasks-db,
which runs one task at a time; its task makes the same guarded call. They all call the same server,
on as many hosts as the cap for each of them allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from itertools import cycle, islice
from threading import local

import requests
from django.conf import settings
from django.db import connection
from django.utils import timezone

from affiliations import callbackurl, outbox
from affiliations.delivery import Courier
from affiliations.models import Callback, Destination, Partner

from . import partner as server
from .runner import Fact, Race, Variant

THREADS = 32
CALLS = 640
#: As ratios of time: the speed is to be 0.9, 0.6 and 5 of what it is held against.
SLOW_FIGURE, FAST_FIGURE, WORKER_FIGURE = 1 / 0.9, 1 / 0.6, 1 / 5


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield the races against a pool and a worker, at a slow and at a fast partner."""
    partner = Partner.objects.create(name="Anna", active=True)
    calls = 32 if quick else CALLS
    for delay, figure in ((0.05, SLOW_FIGURE), (0.0, FAST_FIGURE)):
        with server.running(delay) as addresses:
            targets = [f"{each}/postback?visitor=7&order=A-17" for each in addresses]
            urls = list(islice(cycle(targets), calls))
            yield Race(
                f"{calls} calls, {THREADS} threads, partner answers after {delay * 1000:.0f} ms",
                [
                    Variant("bare pool of requests", partial(pool, urls)),
                    Variant("deliver_callbacks", deliver, "bare pool of requests", at_most=figure),
                ],
                prepare=lambda _, urls=urls: fill(partner, urls),  # type: ignore[misc]
                max_calls=1,
                max_rounds=20,
            )
            if "worker" in settings.TASKS:
                worker = import_module("benchmarks.worker")
                # It makes one call at a time.
                few = urls[: calls // 8] if delay else urls
                yield Race(
                    f"{len(few)} calls, {THREADS} threads against a django-tasks-db worker, "
                    f"partner answers after {delay * 1000:.0f} ms",
                    [
                        Variant("worker", worker.work),
                        Variant("deliver_callbacks", deliver, "worker", at_most=WORKER_FIGURE),
                    ],
                    prepare=lambda _, few=few, worker=worker: (  # type: ignore[misc]
                        fill(partner, few),
                        worker.fill(few),
                    ),
                    max_calls=1,
                    max_rounds=10,
                )
    partner.delete()
    Destination.objects.all().delete()


def fill(partner: Partner, urls: list[str]) -> None:
    """Let one callback wait for each address, and nothing else."""
    Callback.objects.all().delete()
    hosts = {url: callbackurl.host(url) for url in set(urls)}
    outbox.know(hosts.values(), connection.alias)
    now = timezone.now()
    Callback.objects.bulk_create(
        Callback(partner=partner, url=url, host=hosts[url], due=now, created_on=now) for url in urls
    )
    with connection.cursor() as cursor:
        # As the database does by itself on tables that live longer.
        if connection.vendor == "postgresql":
            cursor.execute(f"ANALYZE {Callback._meta.db_table}, {Destination._meta.db_table}")


def pool(urls: list[str]) -> None:
    """Make the calls, each thread with a session of its own."""
    own = local()

    def call(url: str) -> int:
        if not hasattr(own, "session"):
            own.session = requests.Session()
        return int(own.session.get(url, headers=server.HEADERS, timeout=10).status_code)

    with ThreadPoolExecutor(THREADS) as threads:
        if any(status != 200 for status in threads.map(call, urls)):
            raise RuntimeError("not every call was answered")


def deliver() -> None:
    """Deliver all that waits."""
    tally = Courier(THREADS).run()
    if not tally.attempted or Callback.objects.exclude(state="delivered").exists():
        raise RuntimeError(f"not all was delivered: {tally}")
