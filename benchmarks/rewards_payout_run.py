"""What a run of payouts costs where a hundred thousand holders have a million entries.

It is made by a process of its own, which tells how much memory it has taken at most; and again for
a tenth of the holders, with as many entries each. BENCHMARKS_HOLDERS in the environment says how
many holders instead.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import connection

from affiliations.rewards import payouts
from affiliations.rewards.models import Account, Payout, PayoutDestination, PayoutEntry

from .links_at_scale import fill, moment
from .rewards import empty, entries
from .runner import Fact, Race

CHILD = "import django; django.setup(); from benchmarks.rewards_payout_run import child; child()"
HOLDERS, QUICK_HOLDERS = int(os.environ.get("BENCHMARKS_HOLDERS", "100000")), 100
EACH = 10
#: Of a slice of 10,000 accounts.
STATEMENTS = 10
#: How much more memory ten times as many holders may take.
FLAT = 1.1


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield what a run has taken, for a tenth of the holders and for all of them."""
    if connection.vendor == "mysql":
        yield Fact("a payout run at scale is measured on this database", False)
        return
    most = QUICK_HOLDERS if quick else HOLDERS
    memory = []
    for holders in (most // 10, most):
        fill_accounts(holders)
        first = Account.objects.order_by("pk").values_list("pk", flat=True)[0]
        # A holder's entries lie anywhere in the table.
        entries(holders * EACH, f"{first} + n % {holders}", "1000 + n % 900", when="n % 1000000")
        told = run()
        claimed = PayoutEntry.objects.count()
        if (Payout.objects.count(), claimed) != (holders, holders * EACH):
            raise RuntimeError(f"{claimed} of {holders * EACH} entries are paid")
        memory.append(told["memory"])
        title = f"payouts of {holders:,} holders, {holders * EACH:,} entries"
        yield Fact(f"{title}: statements for 10,000", told["most"], "", STATEMENTS)
        yield Fact(f"{title}: statements besides", told["besides"], "")
        yield Fact(f"{title}: the whole run", told["seconds"], "s")
        yield Fact(f"{title}: most memory of the process", told["memory"], "MiB")
        empty()
    title = f"memory of a payout run, {most:,} holders over {most // 10:,}"
    yield Fact(title, memory[1] / memory[0], "×", FLAT)


def fill_accounts(holders: int) -> None:
    """Let so many have an account, with numbers that follow each other."""
    columns = {"holder": "'member:' || n", "currency": "'EUR'", "created_on": moment("0")}
    fill(Account, holders, columns)
    address = "'n' || n || '@example.com'"
    where = {"holder": "'member:' || n", "method": "'wise'", "name": "'N'", "email": address}
    fill(PayoutDestination, holders, where)


def run() -> dict[str, Any]:
    """Return what the process that makes the payouts has to tell."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def child() -> None:
    """Make the payouts, and tell of it in JSON."""
    connection.settings_dict["NAME"] = settings.DATABASES["default"]["TEST"]["NAME"]
    made = 0
    slices: list[int] = []
    draft = payouts._draft

    def counting(execute: Any, *arguments: Any) -> Any:
        nonlocal made
        # Savepoints are none of the statements that anybody means.
        made += "SAVEPOINT" not in arguments[0]
        return execute(*arguments)

    def counted(*arguments: Any) -> Any:
        before = made
        try:
            return draft(*arguments)
        finally:
            slices.append(made - before)

    payouts._draft = counted
    begun = time.perf_counter()
    with connection.execute_wrapper(counting):
        payouts.make_payouts(currency="EUR")
    taken = time.perf_counter() - begun
    # Linux says it in KiB.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"most": max(slices), "besides": made - sum(slices), "seconds": taken, "memory": memory}
    print(json.dumps(found), flush=True)
    connection.close()
