"""Row M5 of the promises: nobody spends more than they have earned by whom they have brought.

However many spend at once, while friends register and pay, invoices are refunded, and a payout run
takes what is there.
"""

import random
import time
from collections import Counter, deque
from itertools import count
from threading import Lock

import pytest
from django.db import connection

from affiliations.referrals import invoices, services
from affiliations.referrals.models import Member
from affiliations.referrals.statements import statement
from affiliations.rewards import ledger, payouts
from affiliations.rewards.exceptions import InsufficientBalance
from affiliations.rewards.models import Entry, Payout
from affiliations.rewards.testing import assert_ledger_balanced
from tests.referrals.factories import euros, make_member, make_program
from tests.rewards.factories import pay_to
from tests.rewards.promises.test_never_overspent import EACH, LONG, drain, spend_at_once

pytestmark = pytest.mark.django_db(transaction=True)
serial = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="has one writer at a time by itself"
)
each_size = pytest.mark.parametrize(
    ("number", "threads", "spends"), [(4, 8, 25), pytest.param(100, 64, EACH, marks=LONG)]
)

#: In minor units: what a member has from their own sign-up, and for each friend who has paid.
SIGNUP, REWARD, TARGET = 10, 20, euros(1)
#: How many friends each member brings, and what all of them are worth.
FRIENDS = 2
EARNED = SIGNUP + FRIENDS * REWARD
#: Threads that bring friends, or have them pay and refund.
BESIDE = 2


@pytest.fixture(autouse=True)
def _pays_every_cent(settings):
    settings.AFFILIATE_PAYOUT_MINIMUM = {"EUR": 0}


def make_members(number):
    """Return members whom somebody has brought, and their accounts; a quarter is paid out."""
    make_program(credit_minor=SIGNUP, target_minor=TARGET.minor, reward_minor=REWARD)
    root = make_member()
    members = [make_member(root) for _ in range(number)]
    for each in members[::4]:
        pay_to(each.holder)
    return members, [ledger.account_of(each.holder, "EUR") for each in members]


def bring(members):
    """Return a work that brings the friends of members one by one, who then pay at once."""
    left, numbers = deque(members * FRIENDS), count(1)

    def work():
        while left:
            try:
                member = left.popleft()
            except IndexError:
                return  # another thread was faster
            number = next(numbers)
            friend = services.register(f"friend-{member.pk}-{number}", indicator=member)
            if number % 2:
                invoices.report_total(friend, TARGET)
            else:
                invoices.pay(friend, "A-1", TARGET)

    return work


def pay_out(times):
    """Return a work that pays out now and then."""

    def work():
        for _ in range(times):
            payouts.make_payouts(currency="EUR")
            time.sleep(0.05)

    return work


def taken(accounts, accepted):
    """Return what was spent and paid out of each account."""
    paid: Counter = Counter()
    for pk, minor in Payout.objects.values_list("account", "minor"):
        paid[pk] += minor
    return {each.pk: accepted[each.pk] + paid[each.pk] for each in accounts}


def below_zero(accounts):
    """Return what was taken off an account, as its entries stand one after the other, in vain.

    Whoever takes has locked the account, so that nothing that they counted on comes behind.
    """
    left: Counter = Counter()
    found = []
    entries = Entry.objects.filter(account__in=accounts, available_on__isnull=False)
    for each in entries.order_by("pk"):
        left[each.account_id] += each.minor
        if each.minor < 0 and left[each.account_id] < 0:
            found.append(each)
    return found


def earn_and_spend(number, threads, spends):
    """Have members bring friends, and spend meanwhile; return their accounts and what is gone."""
    members, accounts = make_members(number)
    bringing = [bring(members)] * BESIDE
    accepted = spend_at_once(accounts, threads, spends, *bringing, pay_out(number))
    return accounts, taken(accounts, accepted)


@each_size
def test_what_is_accepted_is_what_was_earned(number, threads, spends):
    accounts, gone = earn_and_spend(number, threads, spends)
    assert Member.objects.exclude(acquired_on=None).count() == number * FRIENDS
    for account in accounts:
        found = ledger.balance(account)
        assert found.total == found.available == EARNED - gone[account.pk] >= 0
    assert below_zero(accounts) == []
    drain(accounts)
    assert below_zero(accounts) == []
    assert_ledger_balanced()
    # There was something to be in each other's way for.
    assert sum(gone.values()) > number * SIGNUP
    # Where writers wait for one another, the run may come when all of it is spent.
    assert Payout.objects.exists() or connection.vendor == "sqlite"


# Where what was earned is taken back


def swing(friends, times):
    """Return works that have friends pay and refund: by totals, and by invoices, all of these."""
    by_totals, by_invoices = friends
    lock, numbers = Lock(), count(1)

    def totals():
        draw = random.Random(1)
        for _ in range(times):
            friend = draw.choice(by_totals)
            for total in (euros(0), TARGET):
                invoices.report_total(friend, total)

    def references():
        with lock:
            draw = random.Random(next(numbers))
        for _ in range(times):
            friend, reference = draw.choice(by_invoices), f"A-{draw.getrandbits(64)}"
            invoices.pay(friend, reference, TARGET)
            invoices.refund(friend, reference)

    return [totals, references, references]


def refund_and_spend(number, threads, spends):
    """Have friends pay and refund while members spend, in the end all of it.

    Return the members' accounts, what is gone from each, and the friends.
    """
    members, accounts = make_members(number)
    friends = [[make_member(each) for each in members] for _ in range(FRIENDS)]
    for each in friends[0]:
        invoices.report_total(each, TARGET)
    swinging = swing(friends, spends)
    accepted = spend_at_once(accounts, threads, spends, *swinging, pay_out(number))
    for each in friends[0]:
        assert invoices.report_total(each, euros(0)) == -REWARD
    return accounts, taken(accounts, accepted), friends


@each_size
def test_what_is_refunded_is_not_spent_again(number, threads, spends):
    accounts, gone, friends = refund_and_spend(number, threads, spends)
    at_stake = FRIENDS * REWARD
    for account in accounts:
        # Everything is refunded, and may have been spent before: then it is a debt.
        found = ledger.balance(account)
        assert found.available == SIGNUP - gone[account.pk]
        assert found.total == found.available + at_stake
        # They never had more than that at a time.
        assert gone[account.pk] <= EARNED
        if found.available < 0:
            with pytest.raises(InsufficientBalance, match=r"only 0\.00 EUR are available"):
                ledger.spend(account, euros("0.01"), key=f"in-debt-{account.pk}")
    assert any(ledger.balance(account).available < 0 for account in accounts)
    assert_ledger_balanced()
    # Nothing is lost: who pays again pays the debt first.
    for friend in friends[0]:
        assert invoices.report_total(friend, TARGET) == REWARD
    for friend in friends[1]:
        assert invoices.pay(friend, "last", TARGET) == REWARD
    for account in accounts:
        assert ledger.balance(account)[:2] == (EARNED - gone[account.pk],) * 2
    for member in Member.objects.filter(pk__in=[each.indicator_id for each in friends[0]]):
        assert statement(member)[:3] == (0, at_stake, SIGNUP)
    drain(accounts)
    assert_ledger_balanced()


def test_a_refund_of_what_is_spent_says_so():
    [member], [account] = make_members(1)
    friend = make_member(member)
    assert invoices.pay(friend, "A-1", TARGET) == REWARD
    ledger.spend(account, euros("0.30"), key="order")
    assert invoices.refund(friend, "A-1") == -REWARD
    assert ledger.balance(account)[:2] == (0, -REWARD)
    with pytest.raises(InsufficientBalance):
        ledger.spend(account, euros("0.01"), key="more")
    assert payouts.make_payouts(currency="EUR") is None


# What the lock keeps out


def overspent_by_earning():
    accounts, gone = earn_and_spend(1, 8, 25)
    return below_zero(accounts) or max(gone.values()) > EARNED


def overspent_by_refunding():
    _, gone, _ = refund_and_spend(1, 8, 25)
    return max(gone.values()) > EARNED


@serial
@pytest.mark.parametrize("overspent", [overspent_by_earning, overspent_by_refunding])
def test_teeth_without_the_lock(monkeypatch, overspent):
    monkeypatch.setattr(ledger, "lock", lambda account_ids, using: None)
    assert any(overspent() for _ in range(20)), "twenty times nobody was in anybody's way"
