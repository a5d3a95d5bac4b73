"""Whoever looks every day is misled no oftener than whoever looks once."""

from functools import cache
from itertools import accumulate
from math import comb, exp, log, log1p, sqrt
from random import Random
from typing import NamedTuple

import pytest

from affiliations.experiments import statistics
from affiliations.experiments.statistics import Look, Revenue, watch_revenue

LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
ALPHA = 1 - statistics.LEVEL
#: So seldom does a test that is right fail all the same.
FAR = 1e-4
FEW, MANY = 200, 3000


class Shop(NamedTuple):
    """What happens to an experiment."""

    days: int
    #: Visitors a day.
    arm: int
    reference: int
    #: Of the arm's and the reference's visitors so many buy.
    rate: float
    base: float
    #: Whether each buys for something else, rarely for much; else all count 1.
    is_money: bool = False

    @property
    def difference(self):
        """The true one, of money for a mean of 1 an order."""
        return self.rate - self.base


SAME = {
    "rates": Shop(28, 100, 100, 0.1, 0.1),
    "rare": Shop(60, 60, 60, 0.015, 0.015),
    "a small arm": Shop(60, 30, 270, 0.03, 0.03),
    "money": Shop(60, 50, 50, 0.1, 0.1, True),
    "a small arm's money": Shop(60, 30, 270, 0.06, 0.06, True),
}
BETTER = {
    "rates": Shop(28, 100, 100, 0.15, 0.1),
    "money": Shop(60, 100, 100, 0.16, 0.1, True),
}
#: Of the arm a twentieth, and few who buy.
EARLY = {
    "rates": Shop(60, 10, 190, 0.02, 0.02),
    "money": Shop(60, 10, 190, 0.04, 0.04, True),
}
#: What an order of 1 is in minor units.
UNIT = 10_000


def day(draw, visitors, rate, is_money):
    """Return the sums of a day."""
    bought = sum(draw.random() < rate for _ in range(visitors))
    # With a mean of 1, and one in a thousand of more than 13.
    each = [round(UNIT * draw.lognormvariate(-0.5, 1)) if is_money else 1 for _ in range(bought)]
    return Revenue(visitors, sum(each), sum(amount**2 for amount in each))


def so_far(days):
    return accumulate(days, lambda a, b: Revenue(*map(sum, zip(a, b, strict=True))))


@cache
def histories(shop, runs):
    """Return for each run what the arm and the reference are found to be on each of the days."""
    draw = Random(f"{shop} {runs}")
    return [
        list(
            zip(
                so_far(day(draw, shop.arm, shop.rate, shop.is_money) for _ in range(shop.days)),
                so_far(
                    day(draw, shop.reference, shop.base, shop.is_money) for _ in range(shop.days)
                ),
                strict=True,
            )
        )
        for _ in range(runs)
    ]


def misled(watch, shop, runs):
    """Return in how many runs the interval of any day leaves the true difference out."""
    true = shop.difference * (UNIT if shop.is_money else 1)
    return sum(
        any(
            not look.low <= true <= look.high
            for arm, reference in history
            if (look := watch(arm, reference))
        )
        for history in histories(shop, runs)
    )


def finds(watch, shop, runs):
    """Return in how many runs the p-value of any day says that there is a difference."""
    return sum(
        any(look.p <= ALPHA for sums in history if (look := watch(*sums)))
        for history in histories(shop, runs)
    )


def chance(successes, runs, part):
    """Return the probability of so many successes or more."""
    return sum(
        exp(log(comb(runs, k)) + k * log(part) + (runs - k) * log1p(-part))
        for k in range(successes, runs + 1)
    )


def is_too_often(times, runs):
    """Return whether it was oftener than ALPHA, beyond what may happen by chance."""
    return chance(times, runs, ALPHA) < FAR


def is_too_seldom(times, runs, power=0.8):
    """Return whether it was in less than `power` of the runs, beyond what may happen by chance."""
    return chance(runs - times, runs, 1 - power) < FAR


def once(arm, reference):
    """Look as by a test that is meant for one look: the broken variant."""
    (n, total, squares), (m, others, their_squares) = arm, reference
    mean, base = total / n, others / m
    spread = (squares / n - mean**2) / (n - 1) + (their_squares / m - base**2) / (m - 1)
    if spread <= 0:
        return None
    half = 1.96 * sqrt(spread)
    low, high = mean - base - half, mean - base + half
    return Look(mean - base, low, high, 1.0 if low <= 0 <= high else ALPHA / 2)


@pytest.mark.parametrize("shop", SAME.values(), ids=SAME)
@pytest.mark.parametrize("runs", [FEW, pytest.param(MANY, marks=LONG)])
def test_who_looks_daily_sees_no_difference_that_is_none(shop, runs):
    # Of what says nothing none of this would be worth anything.
    seen = [any(watch_revenue(*sums) for sums in each[-15:]) for each in histories(shop, runs)]
    assert sum(seen) > 0.9 * runs
    assert not is_too_often(finds(watch_revenue, shop, runs), runs)
    assert not is_too_often(misled(watch_revenue, shop, runs), runs)


@pytest.mark.parametrize("shop", BETTER.values(), ids=BETTER)
@pytest.mark.parametrize("runs", [FEW, pytest.param(MANY, marks=LONG)])
def test_intervals_hold_a_difference_that_is_one_on_all_days(shop, runs):
    assert not is_too_often(misled(watch_revenue, shop, runs), runs)


@pytest.mark.parametrize("shop", BETTER.values(), ids=BETTER)
@pytest.mark.parametrize("runs", [FEW, pytest.param(MANY, marks=LONG)])
def test_who_looks_daily_sees_a_difference_that_is_one(shop, runs):
    assert not is_too_seldom(finds(watch_revenue, shop, runs), runs)


@pytest.mark.parametrize(
    "shop", [*SAME.values(), *BETTER.values()], ids=[*SAME, *(f"better {x}" for x in BETTER)]
)
def test_teeth_a_test_for_one_look_that_is_looked_at_daily(shop):
    assert is_too_often(misled(once, shop, FEW), FEW)
    if not shop.difference:
        assert is_too_often(finds(once, shop, FEW), FEW)


def test_a_test_for_one_look_is_right_if_it_is_looked_at_once():
    """So it is the looking that the others fail by."""
    shop = SAME["rates"]
    last = sum(once(*history[-1]).p <= ALPHA for history in histories(shop, FEW))
    assert not is_too_often(last, FEW)


@pytest.mark.parametrize("shop", EARLY.values(), ids=EARLY)
def test_teeth_looks_before_there_are_enough(monkeypatch, shop):
    assert not is_too_often(finds(watch_revenue, shop, FEW), FEW)
    monkeypatch.setattr(statistics, "FEWEST", 0)
    assert is_too_often(finds(watch_revenue, shop, FEW), FEW)


@pytest.mark.parametrize("shop", BETTER.values(), ids=BETTER)
def test_teeth_an_interval_that_is_right_and_much_too_wide(shop):
    def cautious(arm, reference):
        return watch_revenue(arm, reference, sharpest_at=10**8)

    assert not is_too_often(misled(cautious, shop, FEW), FEW)
    assert is_too_seldom(finds(cautious, shop, FEW), FEW)
