"""What is owed is paid exactly once, whoever is killed, and however many pay at the same time.

Row M4 of the promises. What was paid says the book of a provider, which knows nothing of ours.
"""

import os
import time
from collections import Counter
from contextlib import contextmanager, suppress
from threading import Barrier, BrokenBarrierError

import pytest
from django.db import IntegrityError, connection, models

from affiliations.money import Money
from affiliations.rewards import ledger, payouts
from affiliations.rewards.models import Account, Entry, Payout, PayoutEntry
from tests.core.promises import chaos
from tests.core.promises.test_races import at_once
from tests.rewards.factories import pay_to

pytestmark = pytest.mark.django_db(transaction=True)

TIMES = int(os.environ.get("AFFILIATIONS_KILLS", "100"))
LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by forking")
serial = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="lets no two transactions write at once"
)

#: In the transaction of a slice, behind each of its statements, and behind its commit.
DRAFTING = (
    "payouts-locked",
    "payouts-drafted",
    "payouts-claimed",
    "payouts-summed",
    "payouts-posted",
    "payouts-committed",
)
#: Before the provider is asked, and behind its answer.
PAYING = ("payout-sent", "payout-answered")
HOLDERS, SLICE = 6, 2


def owe(turn, holders=HOLDERS):
    """Post what is owed to each holder, some of it a debt; return how much it is."""
    owed = Counter()
    for number in range(holders):
        account = ledger.account_of(f"member:{number}", "EUR")
        pay_to(account.holder)
        for kind, minor in (("credit", 6000 + number), ("credit", 17), ("adjustment", -100)):
            ledger.post(account, Money(minor, "EUR"), kind=kind, key=f"{turn}:{number}:{minor}")
            owed[account.holder] += minor
    return owed


def booked(book):
    """Return what the provider has paid each holder, and by how many payments."""
    paid, payments = Counter(), 0
    for each in book.iterdir():
        holder, _, minor = os.readlink(each).partition("=")
        paid[holder] += int(minor)
        payments += 1
    return paid, payments


def faults_of_the_ledger():
    """Return what is wrong with payouts, by what they say themselves."""
    wrong = []
    for payout in Payout.objects.prefetch_related("items__entry"):
        if sum(item.entry.minor for item in payout.items.all()) != payout.minor:
            wrong.append(f"{payout.pk} is not the sum of its entries")
        if Entry.objects.filter(key=f"payout:{payout.pk}", minor=-payout.minor).count() != 1:
            wrong.append(f"{payout.pk} is not posted")
    taken = PayoutEntry.objects.exclude(claimed=None).values("entry")
    twice = taken.annotate(number=models.Count("pk")).filter(number__gt=1)
    wrong += [f"{each['entry']} is in two payouts" for each in twice]
    for account in Account.objects.filter(holder__startswith="member:"):
        if balance := ledger.balance(account).total:
            wrong.append(f"{balance} is left to {account.holder}")
    return wrong


def kill_at(crew, book, point, passes):
    """Draft and pay, killed at the point, and then do both again; return how the killed ended."""
    draft = {"slice_of": SLICE, "passes": passes}
    pay = {"book": str(book), "passes": passes}
    if point in DRAFTING:
        killed = crew.run("draft", **draft, point=point)
    else:
        assert crew.run("draft", **draft) == 0
        killed = crew.run("pay", **pay, point=point)
    assert crew.run("draft", **draft) == 0
    assert crew.run("pay", **pay) == 0
    return killed


@forks
@pytest.mark.parametrize("times", [1, pytest.param(TIMES, marks=LONG)])
@pytest.mark.parametrize("point", [*DRAFTING, *PAYING])
def test_whoever_is_killed_anywhere_each_holder_is_paid_once(crew, tmp_path, point, times):
    owed, ended = Counter(), Counter()
    for turn in range(times):
        owed += owe(turn)
        # In another slice, or at another payout, each time.
        ended[kill_at(crew, tmp_path, point, (turn + 1) % (HOLDERS // SLICE))] += 1
        if turn % 10 == 0 or turn == times - 1:
            paid, payments = booked(tmp_path)
            assert (paid, payments) == (owed, (turn + 1) * HOLDERS)
    chaos.report({"point": point, "killed": ended[-9], "paid": payments})
    assert ended == {-9: times}
    assert faults_of_the_ledger() == []
    assert {each.name for each in tmp_path.iterdir()} == {
        payout.reference for payout in Payout.objects.filter(state="paid")
    }


def at_each_statement(crew, book, role, *, behind, stride, **options):
    """Draft and pay, killed at one statement after the other, and each time do both again.

    Yields what is owed in all until then, as long as there is such a statement.
    """
    owed, statement = Counter(), 1
    roles = {"draft": {"slice_of": SLICE}, "pay": {"book": str(book)}}
    while True:
        owed += owe(f"{role}-{statement}")
        if role == "pay":
            assert crew.run("draft", **roles["draft"]) == 0
        at = {"statement": statement, "behind": behind}
        ended = crew.run(role, **roles[role], **at, **options)
        assert ended in (0, -9)
        for again in roles:
            assert crew.run(again, **roles[again]) == 0
        if not ended:
            return
        yield owed
        statement += stride


@forks
@pytest.mark.parametrize("stride", [6, pytest.param(1, marks=LONG)])
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("role", ["draft", "pay"])
def test_whoever_is_killed_at_any_statement_each_holder_is_paid_once(
    crew, tmp_path, role, behind, stride
):
    turn = 0
    for owed in at_each_statement(crew, tmp_path, role, behind=behind, stride=stride):
        turn += 1
        assert booked(tmp_path) == (owed, turn * HOLDERS)
        assert faults_of_the_ledger() == []
    chaos.report({"role": role, "behind": behind, "statements": turn})
    assert turn * stride > 12


@forks
def test_teeth_a_draft_that_is_no_transaction(crew, tmp_path):
    options = {"behind": True, "stride": 1, "broken": ["untransacted"]}
    for owed in at_each_statement(crew, tmp_path, "draft", **options):
        if booked(tmp_path)[0] != owed or faults_of_the_ledger():
            return
    pytest.fail("it did no harm")


@forks
def test_teeth_a_new_key_each_time_the_provider_is_asked(crew, tmp_path):
    owed = owe(0, holders=60)
    draft = {"slice_of": SLICE, "passes": 0}
    assert crew.run("draft", **draft) == 0
    assert crew.run("pay", book=str(tmp_path), passes=0, broken=["new keys"]) == 0
    paid, payments = booked(tmp_path)
    assert payments > 60
    assert paid != owed


@forks
def test_processes_that_draft_and_pay_at_once_pay_once(crew, tmp_path):
    owed = owe(0, holders=20)
    roles = [("draft", {"slice_of": SLICE})] * 4 + [("pay", {"book": str(tmp_path)})] * 2
    pids = [crew.start(role, passes=0, **options) for role, options in roles]
    assert [crew.wait(pid) for pid in pids] == [0] * len(pids)
    assert crew.run("pay", book=str(tmp_path), passes=0) == 0
    assert booked(tmp_path) == (owed, 20)
    assert faults_of_the_ledger() == []


# Many at once


def drafted_at_once(number):
    """Let so many threads draft; return what failed."""

    def work():
        try:
            payouts.make_payouts(currency="EUR")
        except IntegrityError as error:
            return error
        return None

    return [each for each in at_once(number, work) if each is not None]


@pytest.fixture
def slices(monkeypatch):
    """Accounts are gone through two at a time, and a pause lets others in before the claims."""
    claim = payouts._claim

    def late(*arguments):
        time.sleep(0.05)
        claim(*arguments)

    monkeypatch.setattr(payouts, "SLICE", SLICE)
    monkeypatch.setattr(payouts, "_claim", late)


def test_of_runs_at_once_none_takes_what_another_has(slices):
    owe(0)
    assert drafted_at_once(8) == []
    assert Payout.objects.count() == HOLDERS
    assert faults_of_the_ledger() == []


@pytest.fixture
def unlocked(slices, monkeypatch):
    """Nobody waits for anybody's lock, and two at a time come to claim the same."""
    claim, pair = payouts._claim, Barrier(2)

    def together(*arguments):
        with suppress(BrokenBarrierError):
            pair.wait(2)
        claim(*arguments)

    monkeypatch.setattr(payouts, "_claim", together)
    monkeypatch.setattr(ledger, "lock", lambda *arguments: None)


@serial
def test_whoever_forgets_the_lock_takes_nothing_twice(unlocked):
    owe(0)
    drafted_at_once(8)
    payouts.make_payouts(currency="EUR")
    assert Payout.objects.count() == HOLDERS
    assert faults_of_the_ledger() == []


@contextmanager
def without_the_constraint():
    [constraint] = [
        each for each in PayoutEntry._meta.constraints if each.name.endswith("claims_once")
    ]
    with connection.schema_editor() as editor:
        editor.remove_constraint(PayoutEntry, constraint)
    try:
        yield
    finally:
        PayoutEntry.objects.all().delete()
        with connection.schema_editor() as editor:
            editor.add_constraint(PayoutEntry, constraint)


@serial
def test_teeth_neither_the_lock_nor_the_constraint(unlocked):
    with without_the_constraint():
        for turn in range(10):
            owe(turn)
            drafted_at_once(8)
            if any("in two payouts" in each for each in faults_of_the_ledger()):
                return
    pytest.fail("ten times nobody was in anybody's way")
