"""What the page about the figures works out by hand is what they are.

The tables are read from the page, both what came in and what came out, so that neither can go
astray.
"""

from fractions import Fraction
from math import log, sqrt
from pathlib import Path

import pytest

from affiliations.experiments import statistics
from affiliations.experiments.statistics import (
    conversion_rate,
    mean_revenue,
    rate_beats,
    rate_best,
    rate_uplift,
    revenue_beats,
    revenue_uplift,
    sample_ratio,
    watch_rates,
)
from tests.attribution.test_worked_examples import tables

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "experiment-statistics.md"


def table(*head):
    """Return the rows of the one table whose head begins so."""
    [found] = [each for each in tables(PAGE) if tuple(each[0])[: len(head)] == head]
    return found


def same(found, cell):
    """Return whether a figure is the one of a cell, to as many digits as that has."""
    digits = len(cell.partition(".")[2])
    return f"{found:.{digits}f}" == cell.replace(",", "")


def whole(cell):
    return int(cell.replace(",", ""))


def test_a_reader_would_see_a_digit_that_is_wrong():
    assert same(0.06697, "0.0670")
    assert not same(0.06697, "0.0671")
    assert not same(0.0670, "0.067001")


def test_the_rate():
    [row] = table("visitors", "conversions", "low")
    found = conversion_rate((whole(row["visitors"]), whole(row["conversions"])))
    for name in ("low", "median", "high"):
        assert same(getattr(found, name), row[name])


def test_the_probability_to_be_best():
    arms = [
        (whole(row["visitors"]), whole(row["conversions"]))
        for row in table("arm", "visitors", "conversions")
    ]
    shown = [
        Fraction(row["probability to be best"]) for row in table("arm", "probability to be best")
    ]
    assert sum(shown) == 1
    assert rate_best(arms) == pytest.approx([float(each) for each in shown], abs=1e-10)
    assert rate_beats(arms[1], arms[0]) == pytest.approx(5 / 6, abs=1e-10)
    assert "`4/3 - 1/2 = 5/6`" in PAGE.read_text(encoding="utf-8")


def test_the_uplift():
    [row] = table("", "low", "median", "high")
    found = rate_uplift((1, 1), (0, 0))
    for name in ("low", "median", "high"):
        assert same(getattr(found, name), row[name])
    assert found == pytest.approx((1 / 3, sqrt(0.075) - 1, 80 / 3 - 1), abs=1e-9)


def test_three_arms():
    rows = table("arm", "visitors", "converted")
    arms = [(whole(row["visitors"]), whole(row["converted"])) for row in rows]
    for row, arm, best in zip(rows, arms, rate_best(arms), strict=True):
        assert same(conversion_rate(arm).median, row["rate"])
        assert same(best, row["is best"])
        if arm != arms[0]:
            found = rate_uplift(arm, arms[0])
            assert same(found.low, row["uplift from"])
            assert same(found.high, row["uplift to"])
            assert same(rate_beats(arm, arms[0]), row["beats the reference"])


def test_revenue():
    rows = table("of", "visitors", "total")
    reference, arm = arms = [
        tuple(whole(row[name]) for name in ("visitors", "total", "squares")) for row in rows
    ]
    for row, each in zip(rows, arms, strict=True):
        found = mean_revenue(each)
        for name in ("mean", "standard_error", "low", "high"):
            assert same(getattr(found, name), row[name.replace("_", " ")])
    [row] = table("uplift", "uplift low")
    found = revenue_uplift(arm, reference)
    for name, cell in zip(("median", "low", "high"), list(row.values())[:3], strict=True):
        assert same(getattr(found, name), cell)
    assert same(revenue_beats(arm, reference), row["arm beats"])


def test_the_daily_look():
    [row] = table("of 5,000 each", "difference")
    converted, base = (int(each) for each in row["of 5,000 each"].split(" and "))
    found = watch_rates((5000, converted), (5000, base))
    for name, cell in zip(found._fields, list(row.values())[1:], strict=True):
        assert same(getattr(found, name), cell)


def test_how_far_it_reaches():
    for row in table("visitors, as a part of that number"):
        visitors, reach = list(row.values())
        x = statistics.SHARPEST * float(visitors)
        assert same(sqrt((x + 1) / x * (log(x + 1) - 2 * log(0.05))), reach)
        # The same is what a look has.
        half = round(float(visitors) * 10**6) // 2
        arm = (half, half // 10)
        found = watch_rates(arm, arm, sharpest_at=10**6)
        spread = sqrt(2 * 0.1 * 0.9 / (half - 1))
        assert same((found.high - found.low) / 2 / spread, reach)


def test_orders_that_count():
    for row in table("orders of 50.00 EUR"):
        orders, more, total, squares, count_as = row.values()
        assert whole(total) == 5000 * whole(orders) + whole(more)
        assert whole(squares) == 5000**2 * whole(orders) + whole(more) ** 2
        assert same(whole(total) ** 2 / whole(squares), count_as)


def test_the_sample_ratio():
    [row] = table("came to one", "came to the other")
    found = sample_ratio([whole(row["came to one"]), whole(row["came to the other"])], [1, 1])
    assert same(found.chi_square, row["chi-square"])
    assert same(found.p, row["p-value"])
    assert found.is_mismatch


def test_what_the_page_says_of_constants():
    text = PAGE.read_text(encoding="utf-8")
    assert f"We call it a mismatch below {statistics.MISMATCH}." in text
    assert f"fewer than {statistics.EXPECTED} visitors" in text
    assert f"until each arm is due {statistics.FEWEST} visitors with a conversion" in text
    assert f"We take {statistics.SHARPEST_AT:,}." in text
    assert f"Levels go up to {statistics.HIGHEST}." in text
    assert f"`x = {statistics.SHARPEST:.3f} t / {statistics.SHARPEST_AT:,}`" in text
