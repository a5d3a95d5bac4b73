"""What it adds to the recording of a conversion that its partner's commission is posted.

In one transaction, which is committed: the conversion of a visitor is recorded, with the rewards
and without them; the difference is what posting adds. It is set against the INSERT of one entry in
a transaction of its own, on the same database: the least that could be done to note a sum.

On SQLite, where all of it is done by this process, what counts is the time that it was running.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import count as numbers
from time import perf_counter_ns, process_time_ns
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from affiliations.models import Partner, Subscription, Visitor
from affiliations.money import Money
from affiliations.rewards import ledger, receivers
from affiliations.rewards.models import CommissionRule, Entry
from affiliations.services import record_conversion
from affiliations.signals import conversion_recorded

from .conversion import own_queries
from .rewards import empty
from .runner import (
    BATCH,
    QUICK_BATCH,
    QUICK_ROUNDS,
    ROUNDS,
    Fact,
    Race,
    Variant,
    spread,
    time_rounds,
)
from .stack import count

QUERIES = 3
FIGURE = 1.5
WITH, WITHOUT, BARE = "recorded and posted", "recorded", "bare INSERT of an entry"


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield the queries and the time that posting adds."""
    partner = Partner.objects.create(name="Anna", active=True)
    Subscription.objects.create(partner=partner, trigger="Order placed")
    visitor = Visitor.objects.create(partner=partner, entry_point="http://testserver/")
    now = timezone.now()
    CommissionRule.objects.create(name="Everybody", percent=Decimal(10), published_on=now)
    account = ledger.account_of(partner, "EUR")
    contra = ledger.site_account(Entry.Kind.CREDIT, "EUR")
    number = numbers()
    posts = False

    def earn(**arguments: Any) -> None:
        if posts:
            receivers.earn(**arguments)

    def recording(wanted: bool) -> Callable[[], None]:
        def record() -> None:
            nonlocal posts
            posts = wanted
            record_conversion(
                trigger="Order placed",
                reference=f"A-{next(number)}",
                money=Money(9990, "EUR"),
                known={visitor.pk: "session"},
            )

        return record

    def insert() -> None:
        with transaction.atomic():
            Entry(
                account=account,
                contra=contra,
                kind=Entry.Kind.CREDIT,
                minor=999,
                key=f"bare:{next(number)}",
                available_on=now,
                created_on=now,
            ).save(force_insert=True)

    conversion_recorded.connect(earn)
    try:
        plain, ours = recording(wanted=False), recording(wanted=True)
        plain(), ours()  # the accounts are there by now, and the visitor has succeeded
        made = own_queries(count(ours))
        added = len(made) - len(own_queries(count(plain)))
        if Entry.objects.filter(kind=Entry.Kind.COMMISSION).count() != 2:
            raise RuntimeError("nothing was posted")
        yield Fact(
            "commission posted with its conversion: queries added", added, "queries", QUERIES
        )
        race = Race(
            "a conversion's commission",
            [Variant(BARE, insert), Variant(WITHOUT, plain), Variant(WITH, ours)],
            max_calls=50,
        )
        rounds, batch = (QUICK_ROUNDS, QUICK_BATCH) if quick else (ROUNDS, 4 * BATCH)
        clock = process_time_ns if connection.vendor == "sqlite" else perf_counter_ns
        taken = time_rounds(race, rounds, batch, clock)
    finally:
        conversion_recorded.disconnect(earn)
    rows = list(zip(taken[BARE], taken[WITHOUT], taken[WITH], strict=True))
    for title, figures, unit, at_most in (
        (f"{BARE}, committed", [bare for bare, _, _ in rows], "µs", None),
        ("a conversion is recorded, committed", [without for _, without, _ in rows], "µs", None),
        ("what posting its commission adds", [ours - plain for _, plain, ours in rows], "µs", None),
        (
            f"what posting its commission adds, over the {BARE}",
            [(ours - plain) / bare for bare, plain, ours in rows],
            "×",
            FIGURE,
        ),
    ):
        low, middle, high = spread(figures)
        yield Fact(title, middle, unit, at_most, (low, high))
    empty()
