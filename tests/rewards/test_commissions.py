"""What conversions earn, by which rule, and what is left of it when they are taken back."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier, BrokenBarrierError

import pytest
from django.db import IntegrityError, connection
from django.utils import timezone

from affiliations.models import Conversion, Subscription
from affiliations.money import Money
from affiliations.rewards import commissions, ledger, reviews, rules
from affiliations.rewards.models import Account, Commission, CommissionRule, Entry, Review
from affiliations.rewards.signals import entry_posted
from affiliations.services import record_conversion, reverse_conversion
from affiliations.testing import freeze
from tests.core.factories import make_partner, make_user, make_visitor
from tests.core.promises.test_races import at_once
from tests.rewards.factories import ORDER, account_of, convert, make_group, make_rule, total

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 10, 12, tzinfo=UTC)


def test_a_percentage_is_posted_and_held():
    partner = make_partner()
    rule = make_rule(Decimal("7.5"))
    with freeze(START + timedelta(days=365 * 2)) as clock:
        conversion = convert(partner, minor=4990)
        commission = Commission.objects.get()
        assert (commission.minor, commission.currency, commission.rule) == (374, "EUR", rule)
        entry = Entry.objects.get()
        assert (entry.minor, entry.kind, entry.commission) == (374, "commission", commission)
        assert entry.available_on == conversion.created_on + timedelta(days=30)
        assert ledger.balance(entry.account) == (374, 0, "EUR")
        assert ledger.balance(entry.contra) == (-374, -374, "EUR")
        clock.tick(days=30)
        assert ledger.balance(entry.account) == (374, 374, "EUR")


def test_a_flat_sum_is_in_the_rules_own_currency():
    partner = make_partner()
    make_rule(flat_minor=500, currency="USD")
    convert(partner, minor=None)
    assert Commission.objects.get().base_minor == 0
    convert(partner, minor=100, currency="EUR")
    assert total(partner, "USD") == 1000
    assert total(partner, "EUR") == 0
    assert not Account.objects.filter(currency="").exists()


def test_without_a_rule_nothing_is_earned_and_it_says_so():
    convert()
    commission = Commission.objects.get()
    assert (commission.minor, commission.rule, commission.record["why"]) == (0, None, "no rule")
    assert not Entry.objects.exists()


def test_one_of_the_partners_own_people_earns_it_nothing():
    user = make_user()
    partner = make_partner()
    partner.users.add(user)
    make_rule()
    convert(partner, user=user)
    commission = Commission.objects.get()
    assert (commission.minor, commission.rule, commission.record["why"]) == (0, None, "own")
    assert not Entry.objects.exists()
    convert(partner)
    assert total(partner) == 1000


def test_the_most_specific_rule_holds():
    partner, other = make_partner(), make_partner()
    group = make_group(partner)
    rules = [
        make_rule(1),
        make_rule(2, priority=1),
        make_rule(3, trigger="Order placed"),
        make_rule(4, group=group, priority=-5),
        make_rule(5, group=group, trigger="Order placed"),
        make_rule(6, partner=partner),
        make_rule(7, partner=partner, trigger="Order placed"),
    ]
    for percent in (7, 6, 5, 4, 3, 2, 1):
        conversion = convert(partner)
        commission = conversion.commissions.get()
        assert commission.minor == percent * 100
        considered = [pk for pk, _ in commission.record["considered"]]
        assert considered == [rule.pk for rule in reversed(rules)]
        rules.pop()
        CommissionRule.objects.filter(pk=commission.rule_id).update(
            valid_until=conversion.created_on
        )
    make_rule(9, partner=other)
    convert(partner)
    assert Commission.objects.latest("pk").record == {"considered": [], "why": "no rule"}


def test_of_equals_the_one_with_the_priority_and_then_the_latest():
    partner = make_partner()
    groups = [make_group(partner), make_group(partner)]
    make_rule(1, group=groups[0], published_on=START)
    make_rule(2, group=groups[1], published_on=START + timedelta(days=1))
    assert convert(partner).commissions.get().minor == 200
    make_rule(3, group=groups[0], priority=1, published_on=START)
    assert convert(partner).commissions.get().minor == 300


def test_a_rule_for_a_group_is_for_nobody_else():
    make_rule(9, group=make_group(make_partner()))
    assert convert(make_partner()).commissions.get().record == {
        "considered": [],
        "why": "no rule",
    }


def test_without_an_amount_no_minimum_is_reached():
    make_rule(flat_minor=500, currency="EUR", minimum_minor=1)
    assert convert(minor=None).commissions.get().minor == 0


def test_a_cap_counts_what_was_paid_in_its_own_currency_alone():
    partner = make_partner()
    with freeze(START) as clock:
        old = make_rule(10, currency="USD", period_cap_minor=1500)
        assert convert(partner, currency="USD").commissions.get().minor == 1000
        new = rules.draft_replacement(old)
        new.currency = "EUR"
        new.save()
        rules.publish(new)
        clock.tick(minutes=1)
        earned = [convert(partner).commissions.get().minor for _ in range(3)]
        assert earned == [1000, 500, 0]


def convert_at_once(monkeypatch, *currencies, **terms):
    """Let somebody convert four times at once, in these currencies; return what it pays."""
    partner, buyer = make_partner({ORDER: ""}), make_user()
    make_rule(10, **terms)
    for currency in currencies:
        convert(partner, minor=0, currency=currency)  # the accounts are there by now
    left = [*currencies] * (4 // len(currencies))
    history, together = commissions._history, Barrier(4)

    def slow(*arguments):
        found = history(*arguments)
        with suppress(BrokenBarrierError):
            together.wait(1)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(commissions, "_history", slow)
        at_once(4, lambda: convert(partner, user=buyer, currency=left.pop()))
    return sum(total(partner, currency) for currency in currencies)


CAP = ("EUR",), {"currency": "EUR", "period_cap_minor": 2000}
#: In any currency: that one account is locked is not enough.
TIMES = ("EUR", "USD"), {"times": 1}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("limit", "most"), [(CAP, 2000), (TIMES, 1000)])
def test_of_conversions_at_once_each_knows_what_the_others_take(monkeypatch, limit, most):
    currencies, terms = limit
    assert convert_at_once(monkeypatch, *currencies, **terms) == most


@pytest.mark.skipif(connection.vendor == "sqlite", reason="has one writer at a time by itself")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("currencies", "terms"), [CAP, TIMES])
def test_teeth_a_limit_without_the_lock(monkeypatch, currencies, terms):
    monkeypatch.setattr(ledger, "lock", lambda account_ids, using: None)
    assert convert_at_once(monkeypatch, *currencies, **terms) == 4000


@pytest.mark.skipif(connection.vendor == "sqlite", reason="has one writer at a time by itself")
@pytest.mark.django_db(transaction=True)
def test_teeth_a_lock_on_one_of_two_currencies(monkeypatch):
    its_own = lambda parts, using: [part.account_id for part in parts]  # noqa: E731
    monkeypatch.setattr(commissions, "_counted", its_own)
    currencies, terms = TIMES
    assert convert_at_once(monkeypatch, *currencies, **terms) > 1000


def test_what_a_rule_is_not_for():
    partner = make_partner()
    fallback = make_rule(1)
    make_rule(10, currency="USD", partner=partner)
    make_rule(20, currency="EUR", minimum_minor=5000, trigger="Order placed")
    make_rule(30, partner=partner, trigger="User registered")
    make_rule(40, partner=partner, published_on=None)
    make_rule(50, partner=partner, valid_until=START)
    make_rule(60, partner=partner, valid_from=START + timedelta(days=36500))
    assert convert(partner, minor=5000).commissions.get().minor == 1000
    low = convert(partner, minor=4999).commissions.get()
    assert (low.minor, low.rule) == (50, fallback)
    assert [why for _, why in low.record["considered"]] == ["currency", "minimum", ""]


def test_tiers_caps_and_times():
    partner, buyer = make_partner(), make_user()
    with freeze(START) as clock:
        make_rule(
            Decimal(10),
            currency="EUR",
            tiers=[[2, "20"], [3, "30"]],
            period_cap_minor=6500,
            cap_minor=2500,
            times=4,
            trigger="Order placed",
        )
        earned = [convert(partner, user=buyer).commissions.get() for _ in range(5)]
        assert [each.minor for each in earned] == [1000, 1000, 2000, 2500, 0]
        steps = [each.record["steps"] for each in earned]
        assert steps == [[], [], ["tier"], ["tier", "cap"], ["times"]]
        # Another person, and what is left of the period's cap; and then another period.
        assert convert(partner).commissions.get().minor == 0
        clock.tick(days=22)
        assert convert(partner).commissions.get().minor == 1000


def test_times_in_any_currency_are_counted_together():
    partner, buyer = make_partner(), make_user()
    make_rule(times=2)
    earned = [
        convert(partner, user=buyer, currency=currency).commissions.get().minor
        for currency in ("EUR", "USD", "EUR", "GBP")
    ]
    assert earned == [1000, 1000, 0, 0]


def test_whoever_has_no_account_is_known_by_the_visit():
    partner = make_partner()
    make_rule(times=1)
    one, another = make_visitor(partner), make_visitor(partner)
    Subscription.objects.create(partner=partner, trigger=ORDER)

    def earned(visitor, reference):
        conversion = record_conversion(
            trigger=ORDER,
            reference=reference,
            money=Money(10_000, "EUR"),
            known={visitor.pk: "session"},
        )
        return conversion.commissions.get().minor

    assert [earned(one, "A-1"), earned(one, "A-2"), earned(another, "A-3")] == [1000, 0, 1000]


def test_others_hear_of_what_is_earned_and_taken_back():
    heard = []

    def hear(*, entry, **kwargs):
        heard.append(entry)

    make_rule(10)
    entry_posted.connect(hear)
    try:
        conversion = convert()
        assert heard == list(Entry.objects.all())
        reverse_conversion(conversion)
    finally:
        entry_posted.disconnect(hear)
    assert [entry.kind for entry in heard] == ["commission", "reversal"]
    assert heard == list(Entry.objects.order_by("pk"))


def test_months_begin_with_the_persons_first_conversion():
    partner, buyer = make_partner(), make_user()
    with freeze(datetime(2026, 1, 31, 12, tzinfo=UTC)) as clock:
        make_rule(months=1)
        assert convert(partner, user=buyer).commissions.get().minor == 1000
        clock.tick(days=27)
        assert convert(partner, user=buyer).commissions.get().minor == 1000
        clock.tick(days=1)
        late = convert(partner, user=buyer).commissions.get()
        assert (late.minor, late.record["steps"]) == (0, ["months"])
        assert convert(partner).commissions.get().minor == 1000


def test_what_was_taken_back_whole_counts_for_no_tier():
    partner = make_partner()
    make_rule(tiers=[[1, "50"]])
    first = convert(partner)
    reverse_conversion(first)
    assert convert(partner).commissions.get().minor == 1000
    assert convert(partner).commissions.get().minor == 5000


def reject(conversion):
    """Let staff decide against what a conversion has earned."""
    entry = Entry.objects.get(commission__conversion=conversion, kind="commission")
    reviews.reject(Review.objects.create(entry=entry, reason="velocity"), by=None)


@pytest.mark.parametrize(
    ("terms", "before", "after"),
    [
        ({"tiers": [[1, "50"]]}, 5000, 1000),
        ({"tiers": [[9_999, "50"]], "tiers_by": "amount", "currency": "EUR"}, 5000, 1000),
        ({"period_cap_minor": 1500, "currency": "EUR"}, 500, 1000),
        ({"times": 1}, 0, 1000),
        ({"months": 1}, 0, 1000),
    ],
)
def test_what_was_rejected_counts_until_then(terms, before, after):
    partner, other, buyer = make_partner(), make_partner(), make_user()
    with freeze(START) as clock:
        make_rule(**{"period": "ever", **terms})
        first = convert(partner, user=buyer)
        elsewhere = convert(other)
        clock.tick(days=40)
        second = convert(partner, user=buyer)
        assert second.commissions.get().minor == before
        # Of another partner's, and what was released, it makes no difference.
        reject(elsewhere)
        entry = Entry.objects.get(commission__conversion=first)
        reviews.release(Review.objects.create(entry=entry, reason="approval"), by=None)
        if "tiers" in terms:
            assert convert(partner, user=buyer).commissions.get().minor == before
            return_all_but(first, partner)
        else:
            reverse_conversion(second)
        reject(first)
        assert convert(partner, user=buyer).commissions.get().minor == after
        # What was earned before keeps what it got.
        assert second.commissions.get().minor == before


def return_all_but(kept, partner):
    for conversion in Conversion.objects.filter(commissions__partner=partner):
        if conversion != kept:
            reverse_conversion(conversion)


def test_partners_share_and_the_parts_sum_to_the_whole(shared):
    partners = [make_partner() for _ in range(3)]
    make_rule(Decimal("3.3333"))
    for minor in (10_000, 1, 100, 9_999):
        conversion = convert(*partners, minor=minor)
        parts = conversion.commissions.all()
        assert sum(each.base_minor for each in parts) == minor
        assert sum(each.minor for each in parts) == round(minor * 33333 / 1_000_000)


def test_each_partner_earns_by_a_rule_of_its_own(shared):
    anna, bert = make_partner(), make_partner()
    make_rule(10, partner=anna)
    make_rule(flat_minor=700, currency="USD", partner=bert)
    convert(anna, bert, minor=5001)
    # The larger half goes to the visitor that was credited first.
    assert sorted(Commission.objects.values_list("base_minor", flat=True)) == [2500, 2501]
    assert (total(anna), total(bert, "USD"), total(bert)) == (250, 350, 0)


def test_a_rule_that_changes_changes_nothing_that_was_earned():
    partner = make_partner()
    rule = make_rule(10)
    conversion = convert(partner)
    rule.valid_until = conversion.created_on + timedelta(minutes=1)
    rule.save()
    make_rule(50)
    reverse_conversion(conversion, Money(5000, "EUR"))
    assert total(partner) == 500
    assert conversion.commissions.get().terms["rate"] == "10"


def test_a_refund_takes_back_in_proportion_and_in_the_end_exactly_what_was_earned():
    partner = make_partner()
    make_rule(10)
    conversion = convert(partner, minor=999)
    left = []
    for _ in range(3):
        reverse_conversion(conversion, Money(333, "EUR"))
        left.append(total(partner))
    assert left == [67, 33, 0]
    reversals = Entry.objects.filter(kind="reversal")
    assert all(each.reverses.kind == "commission" for each in reversals)
    # What is held is lost where it is held: nothing is owed by the partner.
    assert ledger.balance(account_of(partner)) == (0, 0, "EUR")
    assert commissions.take_back(Conversion.objects.get()) == []


def test_a_late_refund_is_owed_by_the_partner():
    partner = make_partner()
    make_rule(10)
    with freeze() as clock:
        conversion = convert(partner)
        clock.tick(days=31)
        assert ledger.balance(account_of(partner)).available == 1000
        reverse_conversion(conversion, Money(2500, "EUR"))
        assert ledger.balance(account_of(partner)) == (750, 750, "EUR")


def test_a_conversion_without_an_amount_is_taken_back_whole():
    partner = make_partner()
    make_rule(flat_minor=500, currency="EUR")
    conversion = convert(partner, minor=None)
    assert total(partner) == 500
    reverse_conversion(conversion)
    assert total(partner) == 0


def test_nothing_is_posted_twice():
    make_rule(10)
    conversion = convert()
    with pytest.raises(IntegrityError):
        commissions.earn(conversion)


def test_it_costs_three_queries(django_assert_num_queries):
    partner = make_partner()
    make_rule(10)
    convert(partner)
    conversion = convert(partner)
    shares = list(conversion.shares.select_related("visitor__partner"))
    Conversion.objects.filter(pk=conversion.pk).update(reference="again", key="again")
    conversion.pk = conversion.key = None
    conversion.save()
    with django_assert_num_queries(3):
        [commission] = commissions.earn(conversion, shares)
    assert commission.minor == 1000


@pytest.mark.parametrize("field", ["minor", "account", "available_on", "key"])
def test_no_entry_is_ever_changed(field):
    make_rule(10)
    convert()
    entry = Entry.objects.get()
    value = {"minor": 5, "account": entry.contra, "available_on": START, "key": "x"}[field]
    with pytest.raises(IntegrityError, match="append-only"):
        Entry.objects.update(**{field: value})


def test_no_entry_is_ever_deleted():
    make_rule(10)
    convert()
    with pytest.raises(IntegrityError, match="append-only"):
        Entry.objects.all()._raw_delete("default")


def test_a_partner_that_sent_somebody_twice_is_one_partner(shared):
    anna, bert = make_partner(), make_partner()
    make_rule(10, currency="EUR", period_cap_minor=400)
    convert(anna, anna, bert, minor=9000)
    commission = Commission.objects.get(partner=anna)
    assert (commission.base_minor, commission.minor) == (6000, 400)
    assert total(bert) == 300


def test_an_amount_in_another_currency_is_none_of_a_tiers():
    partner = make_partner()
    make_rule(None, flat_minor=500, currency="EUR", tiers=[[100_000, 1000]], tiers_by="amount")
    convert(partner, minor=150_000, currency="JPY")
    assert Commission.objects.get(conversion=convert(partner, minor=99_999)).minor == 500
    assert Commission.objects.get(conversion=convert(partner, minor=1)).minor == 500
    assert Commission.objects.get(conversion=convert(partner, minor=1)).minor == 1000


@pytest.mark.parametrize("period", ["month", "quarter", "year", "ever"])
@pytest.mark.skipif(connection.vendor == "postgresql", reason="has columns with a time zone")
def test_a_site_without_time_zones_pays_by_tiers(settings, period):
    settings.USE_TZ = False
    partner = make_partner()
    make_rule(10, tiers=[[1, "20"]], period=period, published_on=timezone.now() - timedelta(days=1))
    for minor in (1000, 2000):
        conversion = convert(partner, minor=10_000)
        assert Commission.objects.get(conversion=conversion).minor == minor
