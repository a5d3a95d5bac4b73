"""What staff are told of a conversion's commissions, to the word."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.utils import timezone

from affiliations.money import Money
from affiliations.rewards import receivers, rules
from affiliations.rewards.explaining import explain
from affiliations.rewards.models import CommissionRule, Review
from affiliations.services import reverse_conversion
from affiliations.testing import freeze
from tests.core.factories import make_partner, make_user
from tests.rewards.factories import convert, make_rule

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 10, 12, tzinfo=UTC)


def lines(conversion):
    return explain(conversion).splitlines()


@pytest.fixture
def anna():
    return make_partner(name="Anna", uid="anna")


def test_a_percentage_and_the_rules_that_were_not_chosen(anna):
    with freeze(START):
        low = make_rule(1, name="Everybody")
        usd = make_rule(2, name="Dollars", currency="USD", partner=anna, trigger="Order placed")
        large = make_rule(3, name="Large", currency="EUR", minimum_minor=20_000, partner=anna)
        paying = make_rule(Decimal("7.5"), name="Anna's", partner=anna, priority=-1)
        conversion = convert(anna, minor=4990)
    assert lines(conversion) == [
        "Anna (anna) has 100.00% of 49.90 EUR, which is 49.90 EUR.",
        f"- Not by “Dollars” (rule {usd.pk}): it is in another currency.",
        f"- Not by “Large” (rule {large.pk}): the conversion is worth less than its minimum.",
        f"- By “Anna's” (rule {paying.pk}), the most specific of those that held: 3.74 EUR.",
        "- It pays 7.5 % of the amount.",
        f"- Not by “Everybody” (rule {low.pk}): it is less specific.",
        "- Available from 2026-04-09 at 12:00 UTC on: 3.74 EUR.",
    ]


def test_tiers_and_caps(anna):
    with freeze(START):
        make_rule(
            10, name="R", currency="EUR", tiers=[[1, "50"]], cap_minor=4000, period_cap_minor=4500
        )
        convert(anna)
        said = lines(convert(anna))
    assert said[2:-1] == [
        "- It pays 50 % of the amount.",
        "- That is its tier from 1 on: the number before was 1 (calendar month).",
        "- It pays 40.00 EUR for a conversion at most.",
        (
            "- It pays 45.00 EUR in a period (calendar month) at most, "
            "of which 10.00 EUR were paid before."
        ),
    ]
    assert said[-1].endswith("on: 35.00 EUR.")


def test_a_tier_by_amount_and_a_flat_sum(anna):
    with freeze(START):
        make_rule(
            flat_minor=100,
            currency="EUR",
            tiers=[[5000, 200]],
            tiers_by="amount",
            period="ever",
        )
        assert "- It pays 1.00 EUR for each conversion, by the share in it." in lines(convert(anna))
        said = lines(convert(anna))
    assert said[2:4] == [
        "- It pays 2.00 EUR for each conversion, by the share in it.",
        "- That is its tier from 50.00 EUR on: the amount before was 100.00 EUR (all time).",
    ]


def test_a_person_whose_time_is_over(anna):
    buyer = make_user()
    with freeze(START) as clock:
        once = make_rule(10, times=1)
        convert(anna, user=buyer)
        assert lines(convert(anna, user=buyer))[1:] == [
            f"- By “{once.name}” (rule {once.pk}), the most specific of those that held: 0.00 EUR.",
            (
                "- Nothing more is paid for this person: "
                "it is their conversion 2, and the rule pays for 1."
            ),
        ]
        CommissionRule.objects.update(valid_until=clock.now)
        make_rule(10, months=1)
        convert(anna, user=buyer)
        clock.tick(days=31)
        assert lines(convert(anna, user=buyer))[2:] == [
            (
                "- Nothing more is paid for this person: they first converted on "
                "2026-03-10 at 12:00 UTC, and the rule pays until 2026-04-10 at 12:00 UTC."
            ),
        ]


def test_why_nothing_was_earned(anna):
    assert lines(convert(anna))[1:] == ["- Nothing is earned, as no rule held for it."]
    own = make_user()
    anna.users.add(own)
    rule = make_rule(10)
    assert lines(convert(anna, user=own))[1:] == [
        "- Nothing is earned, as it was one of the partner's own people who converted.",
        f"- It would have been paid by “{rule.name}” (rule {rule.pk}).",
    ]


def test_each_partner_has_lines_of_its_own(anna, shared):
    bert = make_partner(name="Bert", uid="bert")
    make_rule(10)
    said = lines(convert(anna, bert, minor=None))
    assert [line for line in said if not line.startswith("-")] == [
        "Anna (anna) has 50.00% of it.",
        "Bert (bert) has 50.00% of it.",
    ]


def test_what_was_taken_back_and_what_holds_the_rest(anna):
    make_rule(10, published_on=START)
    with freeze(START):
        conversion = convert(anna)
    entry = conversion.commissions.get().entries.get()
    review = Review.objects.create(entry=entry, reason="velocity", detail="9 in an hour")
    with freeze(START) as clock:
        clock.tick(days=1)
        reverse_conversion(conversion, Money(2500, "EUR"))
        assert lines(conversion)[3:] == [
            "- Taken back on 2026-03-11 at 12:00 UTC: 2.50 EUR.",
            "- Held until somebody has decided on it: velocity (9 in an hour).",
            "- Available from 2026-04-09 at 12:00 UTC on: 7.50 EUR.",
        ]
        review.outcome, review.resolved_on = "released", timezone.now()
        review.save()
        assert lines(conversion)[4] == (
            "- Looked at for velocity (9 in an hour): released on 2026-03-11 at 12:00 UTC."
        )
        reverse_conversion(conversion)
        assert not any("Available" in line for line in lines(conversion))


def test_it_says_what_was_whatever_the_rules_say_now(anna):
    with freeze(START) as clock:
        rule = make_rule(10, name="R")
        conversion = convert(anna)
        before = explain(conversion)
        new = rules.draft_replacement(rule)
        new.percent = Decimal(90)
        new.save()
        rules.publish(new)
        make_rule(50, partner=anna)
        # Past what a rule lets be done to it.
        CommissionRule.objects.filter(pk=rule.pk).update(percent=77, currency="USD")
        clock.tick(days=1)
        assert explain(conversion) == before


def test_what_was_never_posted():
    receivers.disconnect()
    try:
        conversion = convert()
    finally:
        receivers.connect()
    assert "audit_ledger" in explain(conversion)


def test_it_costs_the_same_however_many_partners(anna, shared, django_assert_num_queries):
    make_rule(10)
    few, many = convert(anna), convert(*[make_partner() for _ in range(5)])
    for conversion in (few, many):
        with django_assert_num_queries(5):
            explain(conversion)
