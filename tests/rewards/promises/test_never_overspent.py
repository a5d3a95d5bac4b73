"""Row M5 of the promises: nobody spends more than there is, however many try at once."""

import os
import random
import time
from collections import Counter, deque
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count
from threading import Event, Lock, local
from unittest import mock

import pytest
from django.db import connection
from django.utils import timezone

from affiliations.money import Money
from affiliations.rewards import ledger, payouts
from affiliations.rewards.exceptions import InsufficientBalance
from affiliations.rewards.testing import assert_ledger_balanced
from tests.core.promises.test_races import at_once
from tests.rewards.factories import pay_to

pytestmark = pytest.mark.django_db(transaction=True)

EACH = int(os.environ.get("AFFILIATIONS_SPENDS", "1000"))
LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
CREDIT = 50


def credited(holders):
    """Return the accounts of holders who have CREDIT each."""
    accounts = [ledger.account_of(holder, "EUR") for holder in holders]
    for account in accounts:
        ledger.post(account, Money(CREDIT, "EUR"), kind="credit", key=f"welcome-{account.pk}")
    return accounts


def spend_at_once(accounts, threads, spends, *beside):
    """Let threads spend at random from accounts; return what was accepted of each.

    What else happens meanwhile is done `beside` them, each by a thread of its own.
    """
    numbers, lock = count(1), Lock()

    def work():
        with lock:
            draw = random.Random(next(numbers))
        spent: Counter = Counter()
        for _ in range(spends):
            account, minor = draw.choice(accounts), draw.randint(1, 3)
            key = f"order-{account.pk}-{draw.getrandbits(64)}"
            try:
                ledger.spend(account, Money(minor, "EUR"), key=key)
            except InsufficientBalance:
                continue
            spent[account.pk] += minor
        return spent

    left = deque([*beside, *[work] * threads])

    def next_one():
        return left.pop()()

    told = at_once(len(left), next_one)
    return sum((each for each in told if each is not None), Counter())


def drain(accounts):
    """Spend what is left of each account, and find that it was all there is."""
    for account in accounts:
        left = ledger.balance(account).available
        if left:
            ledger.spend(account, Money(left, "EUR"), key=f"rest-{account.pk}")
        with pytest.raises(InsufficientBalance):
            ledger.spend(account, Money(1, "EUR"), key=f"more-{account.pk}")


@contextmanager
def clocks_that_differ(seconds):
    """Give each thread a clock that is off by up to so many seconds."""
    own, draw, now = local(), random.Random(seconds), timezone.now

    def told():
        if not hasattr(own, "off"):
            own.off = timedelta(seconds=draw.uniform(-seconds, seconds))
        return now() + own.off

    with mock.patch.object(timezone, "now", told):
        yield


def check(accounts, accepted):
    for account in accounts:
        found = ledger.balance(account)
        assert found.total == found.available == CREDIT - accepted[account.pk]
        assert found.total >= 0
    assert_ledger_balanced()


@pytest.mark.parametrize("seconds", [0, 3])
@pytest.mark.parametrize(
    ("number", "threads", "spends"), [(4, 8, 25), pytest.param(100, 64, EACH, marks=LONG)]
)
def test_what_is_accepted_is_what_there_was(number, threads, spends, seconds):
    accounts = credited(f"member:{each}" for each in range(number))
    with clocks_that_differ(seconds):
        accepted = spend_at_once(accounts, threads, spends)
    check(accounts, accepted)
    drain(accounts)
    assert sum(accepted.values()) > number * CREDIT * 0.9


@pytest.mark.skipif(connection.vendor == "sqlite", reason="has one writer at a time by itself")
def test_teeth_without_the_lock(monkeypatch):
    monkeypatch.setattr(ledger, "lock", lambda account_ids, using: None)
    for attempt in range(20):
        accounts = credited([f"member:{attempt}"])
        spend_at_once(accounts, 8, 25)
        if ledger.balance(accounts[0]).total < 0:
            return
    pytest.fail("twenty times nobody was in anybody's way")


def spend_twice(holder):
    """Spend all that somebody has by a clock that is ahead, and then by one that is right."""
    [account] = credited([holder])
    ahead = timezone.now() + timedelta(seconds=3)
    with mock.patch.object(timezone, "now", return_value=ahead):
        ledger.spend(account, Money(CREDIT, "EUR"), key=f"{holder}-first")
    with suppress(InsufficientBalance):
        ledger.spend(account, Money(CREDIT, "EUR"), key=f"{holder}-again")
    return account


def test_what_others_have_spent_by_a_clock_that_is_ahead():
    assert ledger.balance(spend_twice("member:1")).total == 0


def test_teeth_what_others_have_spent_by_a_clock_that_is_ahead(monkeypatch):
    posted_by = ledger._posted_by
    monkeypatch.setattr(ledger, "_posted_by", lambda as_of: posted_by(as_of or timezone.now()))
    account = spend_twice("member:1")
    monkeypatch.undo()
    assert ledger.balance(account).total == -CREDIT


# What is being paid out


def spend_in_the_midst(monkeypatch):
    """Spend what a payout has claimed and not yet committed; return what is left."""
    account = ledger.account_of("member:1", "EUR")
    pay_to(account.holder)
    ledger.post(account, Money(9000, "EUR"), kind="credit", key="welcome")
    claimed, reached, turns = payouts._claimed, Event(), [pay_out, spend_it]

    def late(*arguments):
        found = claimed(*arguments)
        reached.set()
        time.sleep(0.5)
        return found

    monkeypatch.setattr(payouts, "_claimed", late)
    at_once(2, lambda: turns.pop()(account, reached))
    return ledger.balance(account).total


def pay_out(account, reached):
    payouts.make_payouts(currency="EUR")


def spend_it(account, reached):
    assert reached.wait(30)
    with suppress(InsufficientBalance):
        ledger.spend(account, Money(7000, "EUR"), key="order")


def test_what_is_being_paid_out_is_not_spent_as_well(monkeypatch):
    assert spend_in_the_midst(monkeypatch) == 0


@pytest.mark.skipif(connection.vendor == "sqlite", reason="has one writer at a time by itself")
def test_teeth_a_payout_that_locks_no_account(monkeypatch):
    monkeypatch.setattr(ledger, "lock", lambda account_ids, using: None)
    assert spend_in_the_midst(monkeypatch) == -7000
