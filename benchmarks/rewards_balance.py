"""What it costs to ask for a balance where there are ten million entries: it should be flat.

An account with a thousand entries, and one with ten million, take turns. Of both a snapshot was
taken, and a hundred entries were posted since. Not measured is an account of which much was held
when the snapshot was taken, and let go since: that is summed anew. BENCHMARKS_ENTRIES in the
environment says how many entries instead.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from statistics import median

from django.db import connection

from affiliations.money import Money
from affiliations.rewards import ledger
from affiliations.rewards.models import Account, Entry

from .rewards import empty, entries
from .runner import Fact, Race, progress, spread

FEW = 1000
MANY, QUICK_MANY = int(os.environ.get("BENCHMARKS_ENTRIES", "10000000")), 2000
SINCE = 100
SAMPLES, QUICK_SAMPLES = 200, 3
FLAT = 2.0
number = count()


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield the time of a balance for each size."""
    if connection.vendor == "mysql":
        yield Fact("balances at scale are measured on this database", False)
        return
    sizes = (FEW, QUICK_MANY if quick else MANY)
    accounts = {size: ledger.account_of(f"member:{size}", "EUR") for size in sizes}
    for size, account in accounts.items():
        entries(size, f"{account.pk}")
    yield Fact(f"balance, {sizes[1]:,} entries, no snapshot", seconds(accounts[sizes[1]]), "s")
    begun = time.perf_counter()
    for account in accounts.values():
        if ledger.take_snapshot(account) is None:
            raise RuntimeError("no snapshot was taken")
    yield Fact(f"snapshots of {FEW:,} and {sizes[1]:,} entries", time.perf_counter() - begun, "s")
    for account in accounts.values():
        for _ in range(SINCE):
            money = Money(100, "EUR")
            ledger.post(account, money, kind=Entry.Kind.CREDIT, key=f"since-{next(number)}")
    taken = defaultdict(list)
    for _ in progress(range(QUICK_SAMPLES if quick else SAMPLES), "balances"):
        for size, account in accounts.items():
            taken[size].append(seconds(account) * 1e6)
    for size in sizes:
        low, middle, high = spread(taken[size])
        yield Fact(
            f"balance, {size:,} entries, of them {SINCE} since the snapshot",
            middle,
            "µs",
            None,
            (low, high),
        )
    ratio = median(taken[sizes[1]]) / median(taken[FEW])
    yield Fact(f"balance, {sizes[1]:,} entries over {FEW:,}", ratio, "×", FLAT)
    empty()


def seconds(account: Account) -> float:
    """Return how long it takes to ask for a balance."""
    begun = time.perf_counter()
    if ledger.balance(account).total <= 0:
        raise RuntimeError("nothing is owed")
    return time.perf_counter() - begun
