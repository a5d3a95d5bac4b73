"""Hosts whose clocks differ, and an hour that comes twice: nobody gets more than there is."""

from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import models
from django.utils import timezone

from affiliations.money import Money
from affiliations.rewards import commissions, ledger, payouts, querysets, reviews
from affiliations.rewards.exceptions import InsufficientBalance
from affiliations.rewards.models import Review
from affiliations.rewards.testing import assert_ledger_balanced
from affiliations.services import reverse_conversion
from affiliations.testing import freeze
from tests.core.factories import make_partner
from tests.rewards.factories import account_of, convert, make_rule, pay_to

pytestmark = pytest.mark.django_db

#: By how many seconds the other host's clock is ahead; the last is that of an hour that comes
#: twice, at the end of summer time, where a site has no time zones.
AHEAD = pytest.mark.parametrize("ahead", [2, 3600])


@pytest.fixture
def clock():
    with freeze() as clock:
        yield clock


@pytest.fixture
def elsewhere(clock, ahead):
    """Do something where the clock is ahead."""

    @contextmanager
    def there():
        clock.tick(seconds=ahead)
        yield
        clock.tick(seconds=-ahead)

    return there


@pytest.fixture
def account():
    pay_to("member:1")
    return ledger.account_of("member:1", "EUR")


def credit(account, minor, **options):
    return ledger.post(account, Money(minor, "EUR"), kind="credit", key="credit", **options)


def spend(account, minor, key="order"):
    return ledger.spend(account, Money(minor, "EUR"), key=key)


@AHEAD
def test_what_was_spent_there_is_spent_here(account, elsewhere):
    credit(account, 6000)
    with elsewhere():
        spend(account, 5000)
    assert ledger.balance(account) == (1000, 1000, "EUR")
    assert ledger.balances([account])[account.pk] == (1000, 1000, "EUR")
    assert ledger.balance(ledger.site_account("credit", "EUR")).total == -1000
    with pytest.raises(InsufficientBalance):
        spend(account, 1001, "another")
    assert payouts.make_payouts(currency="EUR") is None
    assert_ledger_balanced()


@AHEAD
def test_what_was_credited_there_can_be_spent_here(account, elsewhere):
    with elsewhere():
        credit(account, 6000)
    spend(account, 6000)
    assert ledger.balance(account) == (0, 0, "EUR")


@AHEAD
def test_what_is_held_there_is_held_here(account, clock, elsewhere):
    with elsewhere():
        credit(account, 6000, available_on=timezone.now() + timedelta(seconds=1))
    assert ledger.balance(account) == (6000, 0, "EUR")
    with pytest.raises(InsufficientBalance):
        spend(account, 1)
    with elsewhere():
        clock.tick(seconds=1)
        assert ledger.balance(account) == (6000, 6000, "EUR")


@AHEAD
def test_what_was_paid_out_there_is_not_spent_here(account, elsewhere):
    credit(account, 6000)
    with elsewhere():
        assert payouts.make_payouts(currency="EUR").payouts.get().minor == 6000
    with pytest.raises(InsufficientBalance):
        spend(account, 1)
    assert payouts.make_payouts(currency="EUR") is None


@AHEAD
def test_what_was_earned_there_and_lost_here_is_nobodys(settings, elsewhere):
    settings.AFFILIATE_HOLD = timedelta(0)
    settings.AFFILIATE_PAYOUT_MINIMUM = {"EUR": 1}
    make_rule(50)
    partner = make_partner()
    with elsewhere():
        conversion = convert(partner)
    account = account_of(partner)
    assert ledger.balance(account) == (5000, 5000, "EUR")
    reverse_conversion(conversion)
    assert ledger.balance(account) == (0, 0, "EUR")
    with elsewhere():
        assert ledger.balance(account) == (0, 0, "EUR")
        assert payouts.make_payouts(currency="EUR") is None


@AHEAD
def test_what_is_looked_at_there_is_not_paid_here(settings, elsewhere):
    settings.AFFILIATE_HOLD = timedelta(0)
    settings.AFFILIATE_PAYOUT_MINIMUM = {"EUR": 1}
    settings.AFFILIATE_FLAGS = (lambda commission: "odd",)
    make_rule(50)
    partner = make_partner()
    with elsewhere():
        convert(partner)
    account = account_of(partner)
    assert ledger.balance(account) == (5000, 0, "EUR")
    assert payouts.make_payouts(currency="EUR") is None
    with elsewhere():
        reviews.release(Review.objects.get(), by=None)
    assert ledger.balance(account) == (5000, 5000, "EUR")


@pytest.mark.parametrize("ahead", [2])
def test_a_snapshot_knows_no_less(account, clock, elsewhere):
    credit(account, 6000)
    clock.tick(hours=3)
    assert ledger.take_snapshot(account)
    with elsewhere():
        spend(account, 5000)
    assert ledger.balance(account) == (1000, 1000, "EUR")
    assert ledger.balances([account])[account.pk] == (1000, 1000, "EUR")
    # At a moment in the past it is what was posted by then.
    assert ledger.balance(account, as_of=clock.now) == (6000, 6000, "EUR")


# Without it


def by_this_clock(monkeypatch):
    """Count only what was posted by this host's clock, as balances once did."""
    posted_by = ledger._posted_by
    monkeypatch.setattr(ledger, "_posted_by", lambda as_of: posted_by(as_of or timezone.now()))


@AHEAD
def test_teeth_a_balance_by_one_clock(monkeypatch, account, elsewhere):
    by_this_clock(monkeypatch)
    credit(account, 6000)
    with elsewhere():
        spend(account, 5000)
    spend(account, 5000, "another")
    with elsewhere():
        assert ledger.balance(account).total == -4000


@AHEAD
def test_teeth_debts_by_one_clock(monkeypatch, account, elsewhere):
    monkeypatch.setattr(querysets, "_let_go", lambda moment: models.Q(available_on__lte=moment))
    credit(account, 6000)
    with elsewhere():
        spend(account, 5000)
    assert payouts.make_payouts(currency="EUR").payouts.get().minor == 6000


@AHEAD
def test_teeth_a_loss_that_waits_for_the_clock(monkeypatch, settings, elsewhere):
    settings.AFFILIATE_HOLD = timedelta(0)
    reversal_of = commissions.reversal_of

    def late(entry, *args, now, **kwargs):
        lost = reversal_of(entry, *args, now=now, **kwargs)
        lost.available_on = max(entry.available_on, now)
        return lost

    monkeypatch.setattr(commissions, "reversal_of", late)
    make_rule(50)
    partner = make_partner()
    with elsewhere():
        conversion = convert(partner)
    reverse_conversion(conversion)
    assert ledger.balance(account_of(partner)).available == 5000
