"""What a claim costs with more and more callbacks waiting: it should be flat.

Eight threads claim one callback at a time, each on a connection of its own, as eight workers do.
Half of what waits is due, the other half is due later, spread over 400 hosts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from statistics import quantiles

from django.db import connection
from django.utils import timezone

from affiliations import claims, outbox
from affiliations.models import Callback, Destination, Partner

from .runner import Fact, Race, progress, spread

CLAIMERS = 8
HOSTS = 400
#: Milliseconds, of one claim.
P50, P99 = 10.0, 50.0
SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (400, 800)
CLAIMS, QUICK_CLAIMS = 125, 4
BATCH = 5_000
#: As many as a command with 32 threads claims at once.
LARGE, QUICK_LARGE = 64, 2


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield the time of a claim for each size of the backlog."""
    partner = Partner.objects.create(name="Anna", active=True)
    hosts = [f"partner-{number}.example" for number in range(HOSTS)]
    outbox.know(hosts, connection.alias)
    medians = []
    for size in QUICK_SIZES if quick else SIZES:
        grow(partner, hosts, size)
        taken = claim_side_by_side(QUICK_CLAIMS if quick else CLAIMS)
        low, middle, high = spread(taken)
        medians.append(middle)
        title = f"one claim of {CLAIMERS} claimers, {size:,} callbacks waiting"
        yield Fact(f"{title}: median", middle, "ms", P50, (low, high))
        yield Fact(f"{title}: p99", quantiles(taken, n=100, method="inclusive")[-1], "ms", P99)
        grow(partner, hosts, size)
        begun = time.perf_counter()
        limit = QUICK_LARGE if quick else LARGE
        claim_side_by_side(2, limit=limit)
        rate = Callback.objects.filter(attempts=1).count() / (time.perf_counter() - begun)
        yield Fact(f"claimed a second, {limit} at a time, {size:,} callbacks waiting", rate, "")
    yield Fact(
        "a claim at the largest backlog, against the smallest", medians[-1] / medians[0], "×"
    )
    Callback.objects.all().delete()
    partner.delete()
    Destination.objects.all().delete()


def grow(partner: Partner, hosts: list[str], size: int) -> None:
    """Let as many callbacks wait, none of them claimed."""
    now = timezone.now()
    Callback.objects.filter(attempts__gt=0).update(attempts=0, due=now, token=None)
    there = Callback.objects.count()
    new = (
        Callback(
            partner=partner,
            url=f"https://{hosts[number % HOSTS]}/?visitor={number}",
            host=hosts[number % HOSTS],
            created_on=now,
            due=now + timedelta(seconds=number - size / 2) if number % 2 else now,
        )
        for number in range(there, size)
    )
    for _ in progress(range(-(-(size - there) // BATCH)), f"{size:,} callbacks are written"):
        Callback.objects.bulk_create(islice(new, BATCH))
    with connection.cursor() as cursor:
        table = Callback._meta.db_table
        if connection.vendor == "postgresql":
            cursor.execute(f"VACUUM ANALYZE {table}")
        elif connection.vendor == "mysql":
            cursor.execute(f"ANALYZE TABLE {table}")
        else:
            cursor.execute("ANALYZE")


def claim_side_by_side(number: int, limit: int = 1) -> list[float]:
    """Return the milliseconds that each claim took; every one found something."""
    taken: list[float] = []
    empty: list[int] = []
    start = threading.Barrier(CLAIMERS)

    def work() -> None:
        try:
            claimer = claims.Claimer()
            claimer.claim(limit)
            start.wait(60)
            for _ in range(number):
                begun = time.perf_counter()
                found = claimer.claim(limit)
                taken.append((time.perf_counter() - begun) * 1000)
                if not found:
                    empty.append(1)
        finally:
            connection.close()

    workers = [threading.Thread(target=work) for _ in range(CLAIMERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if empty:
        raise RuntimeError(f"{len(empty)} of {len(taken)} claims found nothing")
    return taken
