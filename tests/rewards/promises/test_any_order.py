"""Row M3 of the promises: in whatever order it happens, a partner has the same in the end."""

from collections import Counter
from datetime import timedelta
from decimal import Decimal
from itertools import permutations

import pytest
from django.db import transaction
from django.utils import timezone

from affiliations.money import Money, apportion
from affiliations.rewards import commissions, ledger, reviews, rules, terms
from affiliations.rewards.models import CommissionRule, Entry, Review
from affiliations.rewards.models.rules import LEAD
from affiliations.rewards.testing import assert_ledger_balanced
from affiliations.services import reverse_conversion
from affiliations.testing import freeze
from tests.core.factories import make_partner
from tests.rewards.factories import account_of, convert, make_rule, numbers

pytestmark = pytest.mark.django_db

AMOUNT, THIRD = 10_001, 3_333
RATES = Decimal("7.77"), Decimal("31.3")
STEPS = ("create", "refund", "refund again", "refund the rest", "edit", "pay")
DECIDED = ("create", "refund", "reject", "another", "pay")


@pytest.fixture(autouse=True)
def site(settings, shared):
    settings.AFFILIATE_HOLD = timedelta(0)


def is_legal(order):
    create, first, second, rest, _, _ = map(order.index, STEPS)
    return create < first < rest and create < second < rest


def pay(partner):
    """Pay a partner what is available; return how much that was."""
    account = account_of(partner)
    due = ledger.balance(account).available
    if due <= 0:
        return 0
    Entry.objects.create(
        account=account,
        contra=ledger.site_account("payout", "EUR"),
        kind="payout",
        minor=-due,
        key=f"payout:{next(numbers)}",
        available_on=timezone.now(),
    )
    return due


class Deal:
    """A conversion that two partners share, and what became of it."""

    def __init__(self, clock):
        self.clock = clock
        self.partners = [make_partner(), make_partner()]
        self.rule = make_rule(RATES[0])
        self.conversion = None
        self.standing = 0
        self.earned = [0, 0]
        self.paid: Counter = Counter()

    def take(self, step):
        self.clock.tick(seconds=1)
        if step == "create":
            self.conversion = convert(*self.partners, minor=AMOUNT)
            self.standing = AMOUNT
            # By the rate of this moment, whatever is agreed on later.
            self.earned = apportion(
                round(AMOUNT * CommissionRule.objects.last().percent / 100), [1, 1]
            )
        elif step == "edit":
            other = rules.draft_replacement(self.rule)
            other.percent = RATES[1]
            other.save()
            rules.publish(other)
            self.clock.now += LEAD
        elif step == "pay":
            for partner in self.partners:
                self.paid[partner] += pay(partner)
        else:
            part = None if step == "refund the rest" else Money(THIRD, "EUR")
            assert reverse_conversion(self.conversion, part)
            self.standing -= THIRD if part else self.standing

    def check(self):
        """Compare what the partners have, and what they are owed, with what they have earned."""
        for partner, earned in zip(self.partners, self.earned, strict=True):
            left = 0
            if self.conversion is not None:
                left = earned - terms.reversed_part(earned, AMOUNT, self.standing)
            balance = ledger.balance(account_of(partner))
            assert balance.total + self.paid[partner] == left
            assert balance.available == balance.total
        assert_ledger_balanced()


def go_through(orders):
    """Return how often money had been paid out that was then owed back."""
    owed = 0
    for order in orders:
        with transaction.atomic(), freeze() as clock:
            deal = Deal(clock)
            for step in order:
                deal.take(step)
                deal.check()
            # All of it was refunded: whatever was paid is owed, to the last cent.
            for partner in deal.partners:
                balance = ledger.balance(account_of(partner))
                assert balance.total == -deal.paid[partner]
                owed += balance.total < 0
            commissions_, reversals = (
                sum(Entry.objects.filter(kind=kind).values_list("minor", flat=True))
                for kind in ("commission", "reversal")
            )
            assert commissions_ == sum(deal.earned) > 0
            assert reversals == -commissions_
            transaction.set_rollback(True)
    return owed


def test_in_any_order_a_full_refund_takes_back_exactly_what_was_earned():
    orders = list(permutations(STEPS))
    legal = [order for order in orders if is_legal(order)]
    assert (len(orders), len(legal)) == (720, 60)
    assert go_through(legal) > 20


class Decided:
    """A conversion that staff decide against, and another, which earns more where both count."""

    def __init__(self, clock):
        self.clock = clock
        self.partner = make_partner()
        make_rule(RATES[0], tiers=[[1, str(RATES[1])]])
        self.counts = self.paid = 0
        self.left = {"create": 0, "another": 0}
        self.conversion = None

    def take(self, step):
        self.clock.tick(seconds=1)
        if step in self.left:
            conversion = convert(self.partner, minor=AMOUNT)
            self.left[step] = round(AMOUNT * RATES[self.counts] / 100)
            self.counts += 1
            if step == "create":
                self.conversion = conversion
        elif step == "refund":
            assert reverse_conversion(self.conversion, Money(THIRD, "EUR"))
            self.left["create"] -= terms.reversed_part(self.left["create"], AMOUNT, AMOUNT - THIRD)
        elif step == "reject":
            entry = Entry.objects.get(commission__conversion=self.conversion, kind="commission")
            review = Review.objects.create(entry=entry, reason="velocity")
            assert reviews.reject(review, by=None).minor == -self.left["create"]
            self.left["create"], self.counts = 0, self.counts - 1
        else:
            self.paid += pay(self.partner)

    def check(self):
        balance = ledger.balance(account_of(self.partner))
        assert balance.total + self.paid == sum(self.left.values())
        assert_ledger_balanced()


def decide():
    """Return in how many orders what comes after a rejection is earned as if there was nothing."""
    orders = [order for order in permutations(DECIDED) if starts(order)]
    assert len(orders) == 40
    wrong = 0
    for order in orders:
        try:
            with transaction.atomic(), freeze() as clock:
                decided = Decided(clock)
                for step in order:
                    decided.take(step)
                    decided.check()
                transaction.set_rollback(True)
        except AssertionError:
            # Only there may it go wrong, if at all.
            assert order.index("reject") < order.index("another")
            wrong += 1
    return wrong


def starts(order):
    create, refund, reject, *_ = map(order.index, DECIDED)
    return create < min(refund, reject)


def test_in_any_order_what_was_rejected_counts_until_then():
    assert decide() == 0


def test_teeth_what_was_rejected_counts_for_ever(monkeypatch):
    monkeypatch.setattr(commissions, "rejections", Review.objects.none)
    assert decide() == 15


def by_the_rate_of_now(minor, conversion):
    """As where a refund is worth what the conversion would earn today."""
    rule = CommissionRule.objects.at(timezone.now()).get()
    earned = round(minor * rule.percent / RATES[0])
    return terms.reversed_part(earned, conversion.amount_minor, conversion.standing.minor)


def by_a_part_of_what_is_left(minor, conversion):
    """As where each refund is rounded by itself."""
    parts = [each.amount_minor for each in conversion.reversals.all()]
    return sum(minor * part // conversion.amount_minor for part in parts)


@pytest.mark.parametrize("broken", [by_the_rate_of_now, by_a_part_of_what_is_left])
def test_teeth_other_ways_to_take_it_back(monkeypatch, broken):
    monkeypatch.setattr(commissions, "gone_of", broken)
    orders = [order for order in permutations(STEPS) if is_legal(order)][::3]
    assert len(orders) == 20
    caught = 0
    for order in orders:
        try:
            with transaction.atomic():
                go_through([order])
        except AssertionError:
            caught += 1
    assert caught > len(orders) / 4
