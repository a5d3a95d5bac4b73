"""Many processes post, refund, decide, pay and spend at once, and the ledger is right.

Each is a process of its own, as a site's are, which picks at random what to do to the latest rows,
so that all of them do it to the same. What came of it is worked out again from the rows that say
what happened, and from what each process has noted, by arithmetic of this file's own.
"""

import json
import os
import re
from collections import Counter
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from django.db import connection

from affiliations.money import Money
from affiliations.rewards import ledger
from affiliations.rewards.audit import Audit
from affiliations.rewards.models import (
    Account,
    Commission,
    Entry,
    Payout,
    PayoutEntry,
    Review,
)
from affiliations.rewards.testing import assert_ledger_balanced
from tests.core.factories import make_partner, make_visitor
from tests.core.promises import chaos
from tests.rewards.factories import ORDER, make_rule, pay_to
from tests.rewards.promises.test_never_paid_twice import without_the_constraint
from tests.rewards.promises.trader import CURRENCIES, MEMBERS, WEIGHTS

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by forking"),
]
serial = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="lets no two transactions write at once"
)

# On SQLite each writer waits for its turn, so that more of them only take longer.
PROCESSES = 8 if connection.vendor == "sqlite" else 32
STEPS = int(os.environ.get("AFFILIATIONS_STEPS", "1000"))
LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
WELCOME = 600
#: What nothing is wrong with.
RIGHT: list[str] = []


def open_shop():
    """Have partners who earn in all the ways that need a lock, and members; return visitors."""
    make_rule(Decimal("12.5"))
    partners = [make_partner({ORDER: ""}) for _ in range(6)]
    # What the first two earn depends on what they have earned before.
    make_rule(
        Decimal(10), partner=partners[0], tiers=[[5, "15"]], currency="EUR", period_cap_minor=50_000
    )
    make_rule(partner=partners[1], flat_minor=333, currency="USD", tiers=[[10, 444]])
    for member in range(MEMBERS):
        pay_to(f"member:{member}")
        for currency in CURRENCIES:
            account = ledger.account_of(f"member:{member}", currency)
            key = f"welcome-{account.pk}"
            ledger.post(account, Money(WELCOME, currency), kind="credit", key=key)
    return [make_visitor(partner).pk for partner in partners]


def trade(crew, folder, processes, steps, **options):
    """Let so many processes trade; return how they ended, and what they have noted."""
    visitors = open_shop()
    pids = [
        crew.start(
            "trade",
            name=f"{folder.name}-{number}",
            steps=steps,
            visitors=visitors,
            book=str(folder),
            **options,
        )
        for number in range(processes)
    ]
    codes = Counter(crew.wait(pid, patience=7000) for pid in pids)
    return codes, [json.loads(each.read_text()) for each in sorted(folder.iterdir())]


def wrong(codes, notes):
    """Return all that is wrong, in words."""
    found = [f"a process ended with {code}" for code in codes if code]
    try:
        assert_ledger_balanced()
    except AssertionError as error:
        found.append(str(error))
    found += map(str, Audit().differences())
    found += of_payouts()
    found += of_balances(notes)
    won = Counter(tuple(each) for note in notes for each in note["won"])
    found += [f"{what} {pk}: {number} times" for (what, pk), number in won.items() if number > 1]
    return found


def of_payouts():
    """Yield what was paid twice, or is not posted as often as it is to be."""
    live = PayoutEntry.objects.exclude(payout__state=Payout.State.FAILED)
    for pk, number in Counter(live.values_list("entry", flat=True)).items():
        if number > 1:
            yield f"entry {pk}: paid twice"
    keys = Counter(Entry.objects.filter(kind="payout").values_list("key", "minor"))
    for pk, minor in Payout.objects.values_list("pk", "minor"):
        if keys.pop((f"payout:{pk}", -minor), 0) != 1:
            yield f"payout {pk}: is not posted"
    yield from (f"{key}: of no payout" for key in keys)


def of_balances(notes):
    """Yield accounts that do not come to what was earned, posted, spent and paid out."""
    total, available = Counter(), Counter()
    accounts = {
        (account.partner_id or account.holder, account.currency): account
        for account in Account.objects.all()
        if not account.is_site
    }
    rejected = set(
        Review.objects.filter(outcome="rejected").values_list("entry__commission", flat=True)
    )
    held = set(Review.objects.filter(outcome="open").values_list("entry__commission", flat=True))
    for commission in Commission.objects.select_related("conversion"):
        conversion = commission.conversion
        left = Decimal(0)
        if conversion.reversed_on is None and commission.pk not in rejected and commission.minor:
            parts = conversion.reversals.values_list("amount_minor", flat=True)
            gone = Decimal(commission.minor) * sum(parts) / conversion.amount_minor
            left = commission.minor - gone.quantize(Decimal(1), ROUND_HALF_EVEN)
        total[commission.partner_id, commission.currency] += int(left)
        if commission.pk not in held:
            available[commission.partner_id, commission.currency] += int(left)
    posted = {key: tuple(each) for note in notes for key, each in note["posted"].items()}
    members = [(holder, currency) for holder, currency in accounts if isinstance(holder, str)]
    for holder, currency, minor in [*posted.values(), *((*each, WELCOME) for each in members)]:
        total[holder, currency] += minor
        available[holder, currency] += minor
    for payout in Payout.objects.exclude(state=Payout.State.FAILED).select_related("account"):
        whose = payout.account.partner_id or payout.account.holder
        total[whose, payout.account.currency] -= payout.minor
        available[whose, payout.account.currency] -= payout.minor
    for whose, account in accounts.items():
        balance = ledger.balance(account)
        if balance[:2] != (total[whose], available[whose]):
            yield f"{account}: {balance}, not {total[whose]} and {available[whose]}"
        if account.partner_id is None and balance.total < 0:
            yield f"{account}: overspent, {balance.total}"


def report(notes):
    counts = sum((Counter(note["counts"]) for note in notes), Counter())
    chaos.report({**counts, "entries": Entry.objects.count(), "payouts": Payout.objects.count()})
    return counts


@pytest.mark.parametrize("steps", [12, pytest.param(STEPS, marks=LONG)])
def test_whatever_many_processes_do_at_once_the_ledger_is_right(crew, tmp_path, steps):
    codes, notes = trade(crew, tmp_path, PROCESSES, steps)
    counts = report(notes)
    assert wrong(codes, notes) == RIGHT
    assert len(notes) == PROCESSES
    assert Payout.objects.count() > 1
    # All kinds of steps were taken, and some of them came too late: of so few on SQLite, by chance.
    assert {*WEIGHTS} <= {*counts}
    is_few = connection.vendor == "sqlite" and steps < STEPS
    assert is_few or any("InvalidTransition" in each or "InvalidMoney" in each for each in counts)


# What locks keep out: without any one of them something is wrong


@serial
@pytest.mark.parametrize(
    ("broken", "only", "word"),
    [
        ("unlocked refunds", ["convert", "refund"], "ended with 1|reversal"),
        ("unlocked spending", ["spend"], "overspent"),
    ],
)
def test_teeth_whoever_forgets_a_lock(crew, tmp_path, broken, only, word):
    assert is_caught(crew, tmp_path, broken, only, word)


@serial
def test_teeth_neither_the_lock_of_payouts_nor_the_constraint(crew, tmp_path):
    with without_the_constraint():
        only = ["convert", "pay_out", "settle"]
        assert is_caught(crew, tmp_path, "unlocked payouts", only, "paid twice")


def is_caught(crew, folder, broken, only, word):
    """Let some trade with something broken, up to ten times; tell whether the check finds it."""
    for turn in range(10):
        notes = folder / str(turn)
        notes.mkdir()
        found = wrong(*trade(crew, notes, 8, 25, broken=[broken], only=only))
        if any(re.search(word, each) for each in found):
            return True
    return False
