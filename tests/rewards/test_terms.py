"""What a rule pays: parts sum to wholes, caps hold, and what is taken back is what was earned."""

import ast
import doctest
import inspect
import json
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from affiliations.money import apportion
from affiliations.rewards import terms
from affiliations.rewards.terms import (
    PERIODS,
    Claim,
    Earned,
    History,
    Terms,
    Tier,
    earn,
    months_after,
    reversed_part,
    span,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LARGEST = 2**62

#: Half of them larger than what a float holds exactly.
minors = st.integers(2**53, LARGEST) | st.integers(0, 300)
percents = st.decimals(0, 100, places=4)
moments = st.integers(1, 9998 * 365 * 86400).map(
    lambda seconds: datetime(1, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
weights = st.lists(st.integers(1, 10**6), min_size=1, max_size=6).map(
    lambda parts: [Fraction(part, sum(parts)) for part in parts]
)


@st.composite
def agreements(draw, **fixed):
    """Draw any terms that a rule may have."""
    rates = draw(st.sampled_from([percents, minors]))
    starts = sorted(draw(st.sets(minors.filter(bool), max_size=4)))
    given = {
        "rate": draw(rates),
        "currency": "EUR",
        "tiers": tuple(Tier(start, draw(rates)) for start in starts),
        "by_amount": draw(st.booleans()),
        "period": draw(st.sampled_from(PERIODS)),
        "cap": draw(st.none() | minors),
        "period_cap": draw(st.none() | minors),
        "times": draw(st.none() | st.integers(0, 20)),
        "months": draw(st.none() | st.integers(0, 1200)),
    }
    return Terms(**given | fixed)


histories = st.builds(
    History,
    volume=minors,
    earned=minors,
    times=st.integers(0, 20),
    first=st.none() | moments,
)


@st.composite
def conversions(draw):
    """Draw the claims of one conversion: several partners, by one rule or by others."""
    parts = draw(weights)
    amount = draw(minors)
    rules = [draw(agreements()) for _ in range(2)]
    claims = []
    for weight, base in zip(parts, apportion(amount, parts), strict=True):
        number = draw(st.integers(0, 1))
        claims.append(Claim(number, rules[number], base, weight, draw(histories)))
    return claims


def exactly(claims, earned):
    """Return what a conversion's claims of one rule come to, unrounded; by hand."""
    total = Fraction(0)
    for claim, each in zip(claims, earned, strict=True):
        if {"times", "months"} & set(each.steps):
            continue
        if isinstance(each.rate, int):
            total += each.rate * claim.weight
        else:
            numerator, denominator = each.rate.as_integer_ratio()
            total += Fraction(claim.base * numerator, denominator * 100)
    return total


def half_even(exact):
    """Round as the decimal module does, which shares no code with Fraction."""
    with localcontext(prec=200):
        quotient = Decimal(exact.numerator) / Decimal(exact.denominator)
        return int(quotient.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


# What is earned


def test_the_examples_in_the_docstrings():
    found = doctest.testmod(terms)
    assert found.attempted > 5
    assert not found.failed


@given(conversions())
def test_what_one_rule_pays_sums_to_the_whole_rounded_once_and_no_cap_is_exceeded(claims):
    earned = earn(claims, NOW)
    for rule in {claim.rule for claim in claims}:
        its = [pair for pair in zip(claims, earned, strict=True) if pair[0].rule == rule]
        agreed = its[0][0].terms
        total = sum(each.minor for _, each in its)
        exact = exactly([claim for claim, _ in its], [each for _, each in its])
        whole = half_even(exact)
        if agreed.cap is not None:
            assert total <= agreed.cap
            whole = min(whole, agreed.cap)
        if any("period_cap" in each.steps for _, each in its):
            assert total < whole
        else:
            assert total == whole
        for claim, each in its:
            assert type(each.minor) is int
            assert each.minor >= 0
            if agreed.period_cap is not None:
                assert each.minor <= max(agreed.period_cap - claim.history.earned, 0)


@given(conversions())
def test_whoever_pays_by_another_rule_has_no_say(claims):
    together = earn(claims, NOW)
    for rule in {claim.rule for claim in claims}:
        alone = earn([claim for claim in claims if claim.rule == rule], NOW)
        assert alone == [
            each for claim, each in zip(claims, together, strict=True) if claim.rule == rule
        ]


@given(agreements(), histories, minors, minors)
def test_who_brings_more_earns_no_less(agreed, history, one, other):
    less, more = sorted([one, other])
    [low], [high] = (earn([Claim(1, agreed, base, 1, history)], NOW) for base in (less, more))
    assert low.minor <= high.minor


@given(minors, percents)
@example(50, Decimal(5))
def test_a_rate_is_rounded_once(base, percent):
    numerator, denominator = percent.as_integer_ratio()
    exact = Fraction(base * numerator, denominator * 100)
    assert earn([Claim(1, Terms(percent), base)], NOW)[0].minor == half_even(exact)


@given(agreements(rate=Decimal(100), tiers=(), cap=None, period_cap=None), minors)
def test_all_of_the_amount_is_the_amount(agreed, amount):
    assume(agreed.times != 0)
    assert earn([Claim(1, agreed, amount)], NOW) == [Earned(amount, Decimal(100))]


@pytest.mark.parametrize(
    ("amount", "percent", "minor"),
    [
        (10, "5", 0),  # 0.5
        (30, "5", 2),  # 1.5
        (50, "5", 2),  # 2.5
        (51, "5", 3),
        (LARGEST + 1, "50", LARGEST // 2),  # a float has lost the half before it is rounded
        (LARGEST + 3, "50", LARGEST // 2 + 2),
        (2**63 - 1, "100", 2**63 - 1),
        (10**6, "0.0001", 1),
        (-500, "10", 0),
    ],
)
def test_halves_go_to_the_even_one_at_any_size(amount, percent, minor):
    assert earn([Claim(1, Terms(Decimal(percent)), amount)], NOW) == [
        Earned(minor, Decimal(percent))
    ]


def test_a_cap_is_for_the_conversion_however_many_tiers_its_partners_are_in():
    agreed = Terms(Decimal(10), "EUR", (Tier(5, Decimal(20)),), cap=1000)
    claims = [Claim(1, agreed, 10_000), Claim(1, agreed, 10_000, history=History(volume=5))]
    assert earn(claims, NOW) == [
        Earned(333, Decimal(10), ("cap",)),
        Earned(667, Decimal(20), ("tier", "cap")),
    ]


@pytest.mark.parametrize("nothing", [0, Decimal(0)])
def test_a_tier_may_pay_nothing(nothing):
    agreed = Terms(type(nothing)(7), "EUR", (Tier(1, nothing), Tier(3, type(nothing)(9))))
    paid = [
        earn([Claim(1, agreed, 100, history=History(volume=number))], NOW)[0].minor
        for number in range(5)
    ]
    assert paid == [7, 0, 0, 9, 9]
    # Beside one that pays, too.
    claims = [Claim(1, agreed, 50, Fraction(1, 2), History(volume=n)) for n in (1, 0)]
    assert [each.minor for each in earn(claims, NOW)] == [0, 4]


def test_times_and_months_are_over_at_a_certain_moment():
    def paid(when, **history):
        return earn([Claim(1, agreed, 1000, history=History(**history))], when)[0].steps

    agreed = Terms(Decimal(10), months=2, times=3)
    first = datetime(2026, 12, 31, 12, tzinfo=UTC)
    end = datetime(2027, 2, 28, 12, tzinfo=UTC)
    assert paid(end - timedelta(microseconds=1), first=first, times=2) == ()
    assert paid(end, first=first, times=2) == ("months",)
    assert paid(end, first=first, times=3) == ("times",)
    # None at all is not without an end.
    agreed = Terms(Decimal(10), months=0)
    assert paid(first) == ()
    assert paid(first, first=first) == ("months",)
    assert earn([Claim(1, Terms(Decimal(10), times=0), 1000)], NOW)[0].minor == 0


# What is taken back


@given(minors, st.lists(st.integers(1, LARGEST), min_size=1, max_size=8))
@example(1, [1, 1, 1])
@example(1, [1, 1])
@example(3, [1, 1])
@example(LARGEST, [LARGEST, 1])
def test_parts_of_a_refund(earned, parts):
    base = standing = sum(parts)
    gone = [0]
    for part in parts:
        standing -= part
        gone.append(reversed_part(earned, base, standing))
        assert gone[-1] == half_even(Fraction(earned * (base - standing), base))
    assert gone[-1] == earned
    assert all(before <= now for before, now in pairwise(gone))


@given(minors, st.lists(minors, min_size=2, max_size=6), st.randoms())
def test_in_which_order_does_not_matter(earned, parts, chance):
    assume(sum(parts))

    def after(some):
        return reversed_part(earned, sum(parts), sum(parts) - sum(some))

    order = list(parts)
    chance.shuffle(order)
    for number in range(len(parts) + 1):
        taken = order[:number]
        assert after(taken) == after(sorted(taken))


def test_what_was_worth_nothing_goes_whole():
    assert reversed_part(500, 0, 0) == 500
    assert reversed_part(500, 100, -20) == 500
    assert reversed_part(500, -100, 0) == 500


# What is kept of it


@given(agreements())
@example(Terms(Decimal("0.1234567890123456789012345678901234567890")))
@example(Terms(Decimal("1E+2")))
def test_terms_come_back_from_json_as_they_were(agreed):
    with localcontext(prec=3):  # a caller's own
        stored = json.loads(json.dumps(agreed.as_dict()))
    found = Terms.of(stored)
    assert found == agreed
    assert [type(each.rate) for each in (found, *found.tiers)] == [
        type(each.rate) for each in (agreed, *agreed.tiers)
    ]
    assert found.as_dict() == stored
    assert "E" not in json.dumps(stored["rate"])


@given(histories)
def test_what_was_looked_back_on_comes_back_as_it_was(history):
    assert History.of(json.loads(json.dumps(history.as_dict()))) == history


# Time


@given(st.sampled_from(PERIODS[:-1]), moments)
def test_each_moment_is_in_one_period_and_the_next_begins_where_it_ends(period, when):
    start, end = span(period, when)
    assert start <= when < end
    assert span(period, start) == span(period, end - timedelta(microseconds=1)) == (start, end)
    assert span(period, end)[0] == end
    assert (start.day, start.hour, end.day, end.hour) == (1, 0, 1, 0)


def test_periods_are_those_of_utc():
    late = datetime.fromisoformat("2027-01-01T00:30:00+01:00")
    assert [span(each, late) and span(each, late)[0].isoformat()[:7] for each in PERIODS] == [
        "2026-12",
        "2026-10",
        "2026-01",
        None,
    ]


@given(moments, st.integers(0, 2400), st.integers(0, 2400))
def test_months_are_of_the_calendar(when, one, other):
    few, many = sorted([one, other])
    assert when <= months_after(when, few) <= months_after(when, many)
    later = months_after(when, many)
    if later.year < 9999:
        assert (later.year - when.year) * 12 + later.month - when.month == many
        assert later.day == when.day or (later + timedelta(days=1)).day == 1


def test_all_time_is_long_enough():
    assert months_after(NOW, 2**31) == datetime.max.replace(tzinfo=UTC)
    assert span("year", datetime.max.replace(tzinfo=UTC))[0].year == 9999


# No floats


def test_there_is_no_float_in_the_arithmetic():
    tree = ast.parse(inspect.getsource(terms))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Constant) or not isinstance(node.value, float)
        assert not isinstance(node, ast.Name) or node.id != "float"


@pytest.mark.parametrize(
    "broken",
    [
        lambda exact: round(float(exact)),
        lambda exact: int(exact + Fraction(1, 2)),  # halves go up
        int,
    ],
)
@pytest.mark.parametrize("check", [test_a_rate_is_rounded_once, test_parts_of_a_refund])
def test_teeth_other_ways_to_round(monkeypatch, broken, check):
    monkeypatch.setattr(terms, "round", broken, raising=False)
    with pytest.raises((AssertionError, ExceptionGroup)):
        check()


NAIVE = datetime(2000, 1, 2)  # noqa: DTZ001 - as on a site without time zones


@given(st.datetimes(NAIVE, NAIVE.replace(year=2090)), st.sampled_from(sorted(PERIODS)))
def test_a_period_is_the_same_where_there_are_no_time_zones(when, period):
    found = terms.span(period, when)
    aware = terms.span(period, when.astimezone(UTC))
    if aware is None:
        assert found is None
        return
    assert all(each.tzinfo is None for each in found)
    assert tuple(each.astimezone(UTC) for each in found) == aware
