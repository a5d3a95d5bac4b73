"""Figures are those of their formulas, of other programs, and of what others have published."""

from fractions import Fraction
from itertools import pairwise, permutations, product
from math import comb, exp, expm1, factorial, inf, log1p, nan, sqrt

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from affiliations.experiments import curves, statistics
from affiliations.experiments.curves import RateCurve, log_ratio, probabilities_best
from affiliations.experiments.statistics import (
    conversion_rate,
    mean_revenue,
    rate_beats,
    rate_best,
    rate_uplift,
    revenue_beats,
    revenue_best,
    revenue_uplift,
    sample_ratio,
    watch_rates,
    watch_revenue,
)

#: What a probability may be off by.
SAME = 1e-10
NOBODY = (0, 0)


@pytest.fixture(scope="module")
def scipy():
    """The other program that computes the same."""
    pytest.importorskip("scipy")
    return pytest.importorskip("scipy.stats")


# Polynomials of fractions: the density of Beta(a, b) is one, and so all of this has exact answers.


def density(a, b):
    of_one = factorial(a + b - 1) // (factorial(a - 1) * factorial(b - 1))
    return [Fraction(0)] * (a - 1) + [
        Fraction(of_one * (-1) ** k * comb(b - 1, k)) for k in range(b)
    ]


def integral(f):
    return [Fraction(0), *(each / (power + 1) for power, each in enumerate(f))]


def times(f, g):
    found = [Fraction(0)] * (len(f) + len(g) - 1)
    for (i, x), (j, y) in product(enumerate(f), enumerate(g)):
        found[i + j] += x * y
    return found


def value(f, x):
    return sum(each * x**power for power, each in enumerate(f))


def beta(arm):
    visitors, conversions = arm
    return conversions + 1, visitors - conversions + 1


def exactly_best(arms):
    found = []
    for place, arm in enumerate(arms):
        f = density(*beta(arm))
        for other in (*arms[:place], *arms[place + 1 :]):
            f = times(f, integral(density(*beta(other))))
        found.append(float(value(integral(f), 1)))
    return found


def exactly_at_most(arm, reference, ratio):
    """Return the probability that the arm's rate is at most so much of the reference's."""
    f, g = density(*beta(reference)), integral(density(*beta(arm)))
    edge = min(Fraction(1), 1 / ratio)
    both = times(f, [each * ratio**power for power, each in enumerate(g)])
    return float(value(integral(both), edge) + 1 - value(integral(f), edge))


# Conversion rates

SIZES = [0, 1, 2, 10, 37, 1000, 10**5, 10**8]
ARMS = sorted(
    {
        (visitors, conversions)
        for visitors in SIZES
        for conversions in (0, 1, 3, visitors // 50, visitors // 2, visitors - 2, visitors)
        if 0 <= conversions <= visitors
    }
)
SMALL = st.integers(0, 25).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
FEW = SMALL.filter(lambda arm: arm[0] <= 10)
ANY = st.integers(0, 10**8).flatmap(
    lambda n: st.tuples(st.just(n), st.one_of(st.integers(0, n), st.integers(0, min(n, 20))))
)


@pytest.mark.parametrize("arm", ARMS)
def test_a_rate_is_distributed_as_scipy_has_it(scipy, arm):
    a, b = beta(arm)
    for level in (0.5, 0.95, 0.999):
        low, median, high = (
            scipy.beta.cdf(x, a, b) if x < 0.5 else scipy.beta.sf(1 - x, b, a)
            for x in _in_order(conversion_rate(arm, level=level))
        )
        # With so many visitors it is scipy that is off, as the formulas below show.
        assert [low, median, high] == pytest.approx(
            [(1 - level) / 2, 0.5, (1 + level) / 2], abs=1e-8 if arm[0] == 10**8 else SAME
        )


def _in_order(estimate):
    median, low, high = estimate
    return low, median, high


@pytest.mark.parametrize("visitors", SIZES)
def test_of_no_conversions_the_quantiles_have_a_formula(visitors):
    """As of nothing but conversions, from the other side."""

    def quantile(level):
        return -expm1(log1p(-level) / (visitors + 1))

    assert _in_order(conversion_rate((visitors, 0))) == pytest.approx(
        [quantile(each) for each in (0.025, 0.5, 0.975)], rel=1e-9
    )
    assert _in_order(conversion_rate((visitors, visitors))) == pytest.approx(
        [1 - quantile(each) for each in (0.975, 0.5, 0.025)], rel=1e-9
    )


@pytest.mark.parametrize("visitors", SIZES[2:])
def test_of_one_conversion_the_probabilities_have_a_formula(visitors):
    for level, rate in zip(
        (0.025, 0.5, 0.975), _in_order(conversion_rate((visitors, 1))), strict=True
    ):
        above = exp(visitors * log1p(-rate)) * (1 + visitors * rate)
        assert above == pytest.approx(1 - level, abs=SAME)


@given(st.lists(SMALL, min_size=1, max_size=4))
@settings(max_examples=60)
def test_who_is_best_is_what_polynomials_say(arms):
    assert rate_best(arms) == pytest.approx(exactly_best(arms), abs=SAME)


@given(FEW, FEW, st.sampled_from([0.5, 0.9, 0.95, 0.999]))
@settings(max_examples=60)
def test_an_uplift_is_what_polynomials_say(arm, reference, level):
    chances = [
        exactly_at_most(arm, reference, 1 + Fraction(each))
        for each in _in_order(rate_uplift(arm, reference, level=level))
    ]
    assert chances == pytest.approx([(1 - level) / 2, 0.5, (1 + level) / 2], abs=SAME)


def millers(arm, reference):
    """Return the probability that the arm beats the reference, by Evan Miller's closed form.

    "Formulas for Bayesian A/B Testing" (2015), the sum over i of B(a + i, b + d) / ((d + i) B(1 +
    i, d) B(a, b)), in fractions.
    """

    def function(a, b):
        return Fraction(factorial(a - 1) * factorial(b - 1), factorial(a + b - 1))

    (c, d), (a, b) = beta(arm), beta(reference)
    return sum(
        function(a + i, b + d) / ((d + i) * function(1 + i, d) * function(a, b)) for i in range(c)
    )


@pytest.mark.parametrize(
    ("arm", "reference"),
    [((1, 1), (1, 0)), ((100, 12), (90, 7)), ((40, 40), (50, 49)), ((150, 0), (60, 2))],
)
def test_the_closed_form_says_the_same(arm, reference):
    assert rate_beats(arm, reference) == pytest.approx(float(millers(arm, reference)), abs=SAME)


def test_teeth_the_closed_form_without_its_prior():
    assert rate_beats((100, 12), (90, 7)) != pytest.approx(
        float(millers((98, 11), (88, 6))), abs=1e-4
    )


@pytest.mark.parametrize(
    ("arm", "reference"), [((10**8, 10**7), (10**8, 10**7 + 5000)), ((10**6, 300), (10**8, 31_000))]
)
def test_large_arms_are_as_if_normal(scipy, arm, reference):
    (a, b), (c, d) = (map(float, beta(each)) for each in (arm, reference))
    spread = sqrt(scipy.beta.var(a, b) + scipy.beta.var(c, d))
    apart = scipy.beta.mean(a, b) - scipy.beta.mean(c, d)
    found = rate_beats(arm, reference)
    assert found == pytest.approx(scipy.norm.cdf(apart / spread), abs=0.01)
    # The ratio is 1 where one begins to beat the other.
    [edge] = log_ratio(RateCurve(*beta(arm)), RateCurve(*beta(reference)), [1 - found])
    assert abs(edge) < 1e-9


@given(ANY, ANY)
@settings(max_examples=40)
def test_one_of_two_is_better_and_it_is_the_same_from_both_sides(arm, reference):
    assert rate_beats(arm, reference) == pytest.approx(1 - rate_beats(reference, arm), abs=SAME)
    one, other = rate_uplift(arm, reference), rate_uplift(reference, arm)
    # The ratio the other way round, and so its interval.
    assert [1 / (1 + each) for each in one] == pytest.approx(
        [1 + other.median, 1 + other.high, 1 + other.low], rel=1e-7
    )


@given(ANY, ANY)
@settings(max_examples=40)
def test_an_interval_holds_the_median_and_a_wider_one_holds_it(arm, reference):
    for found in (conversion_rate, lambda arm, level: rate_uplift(arm, reference, level=level)):
        narrow, wide = found(arm, level=0.9), found(arm, level=0.99)
        assert wide.low < narrow.low < narrow.median < narrow.high < wide.high
        assert narrow.median == wide.median


@given(st.lists(ANY, min_size=1, max_size=6))
@settings(max_examples=40)
def test_somebody_is_best_for_certain(arms):
    found = rate_best(arms)
    assert sum(found) == pytest.approx(1, abs=1e-12)
    assert all(0 <= each <= 1 for each in found)


def test_the_order_of_the_arms_makes_no_difference():
    arms = [(0, 0), (10**8, 10**6), (50, 2), (1000, 11)]
    found = dict(zip(arms, rate_best(arms), strict=True))
    for turned in permutations(arms):
        assert rate_best(turned) == pytest.approx([found[each] for each in turned], abs=1e-9)


@pytest.mark.parametrize("arm", [(10, 3), (40, 40), (100, 0), (1000, 20)])
def test_more_of_the_same_narrows_the_intervals(arm):
    widths = [
        (each.high - each.low, uplift.high - uplift.low)
        for n in (1, 10, 100, 10_000)
        for each in [conversion_rate((n * arm[0], n * arm[1]))]
        for uplift in [rate_uplift((n * arm[0], n * arm[1]), (n * 50, n * 20))]
    ]
    for wider, narrower in pairwise(widths):
        assert narrower[0] < wider[0]
        assert narrower[1] < wider[1]


def test_nobody_came():
    assert conversion_rate(NOBODY) == pytest.approx((0.5, 0.025, 0.975), abs=SAME)
    assert rate_beats(NOBODY, NOBODY) == pytest.approx(0.5)
    assert rate_best([NOBODY] * 4) == pytest.approx([0.25] * 4)


def test_teeth_too_coarse_a_table(monkeypatch):
    """The exact answers tell a table that is a little too coarse."""
    arms = [(5, 2), (9, 5), (3, 0)]
    monkeypatch.setattr(curves, "FINE", 1)
    assert rate_best(arms) != pytest.approx(exactly_best(arms), abs=SAME)


def test_teeth_the_wider_of_two_for_the_narrower():
    """Integrated at points for the wider alone, the narrower one falls between them."""
    wide, narrow = RateCurve(3, 8), RateCurve(30 * 10**6, 80 * 10**6)
    points = curves._points([wide], wide.low, wide.high)
    careless = sum(weight * wide.density(at) * narrow.below(at) for at, weight in points)
    exact = wide.below(narrow.top)
    assert probabilities_best([narrow, wide])[1] == pytest.approx(1 - exact, abs=1e-4)
    assert careless != pytest.approx(exact, abs=1e-3)


# Revenue per visitor


def arm_of(*amounts):
    return len(amounts), sum(amounts), sum(each**2 for each in amounts)


MONEY = st.lists(st.integers(0, 10**6), min_size=3, max_size=30).filter(lambda x: len({*x}) > 1)


@given(MONEY)
def test_a_mean_is_as_scipy_has_it(amounts):
    stats = pytest.importorskip("scipy.stats")
    found = mean_revenue(arm_of(*amounts))
    assert found.mean == pytest.approx(sum(amounts) / len(amounts))
    assert found.standard_error == pytest.approx(stats.sem(amounts), rel=1e-9)
    assert (found.low, found.high) == pytest.approx(
        stats.norm.interval(0.95, found.mean, found.standard_error)
    )


@given(MONEY, MONEY, st.sampled_from([1, 7, 10**30]), st.integers(0, 10**30))
def test_no_digit_is_lost_of_large_sums(amounts, others, factor, shift):
    """A mean that is moved far from 0 keeps its error, and a difference of means keeps its size."""
    plain, moved = arm_of(*amounts), arm_of(*(each * factor + shift for each in amounts))
    other, other_moved = arm_of(*others), arm_of(*(each * factor + shift for each in others))
    assert mean_revenue(moved).standard_error == pytest.approx(
        factor * mean_revenue(plain).standard_error, rel=1e-12
    )
    assert revenue_best([moved, other_moved]) == pytest.approx(
        revenue_best([plain, other]), abs=1e-9
    )


def test_teeth_sums_as_floats():
    visitors, total, squares = arm_of(*(10**12 + each for each in (1, 2, 3)))
    assert mean_revenue((visitors, total, squares)).standard_error == pytest.approx(sqrt(1 / 3))
    careless = (float(squares) - float(total) ** 2 / visitors) / (visitors - 1) / visitors
    assert careless != pytest.approx(1 / 3, rel=0.1)


@given(MONEY, MONEY, st.integers(1, 10**25))
def test_another_unit_scales_what_is_money_and_nothing_else(amounts, others, factor):
    one, other = arm_of(*amounts), arm_of(*others)
    large, other_large = (arm_of(*(each * factor for each in x)) for x in (amounts, others))
    assert mean_revenue(large) == pytest.approx(
        [factor * each for each in mean_revenue(one)], rel=1e-9
    )
    assert revenue_beats(large, other_large) == pytest.approx(revenue_beats(one, other), abs=1e-9)
    uplift, same = revenue_uplift(one, other), revenue_uplift(large, other_large)
    assert (uplift is None) == (same is None)
    if uplift:
        assert same == pytest.approx(uplift, rel=1e-6, abs=1e-9)


@given(MONEY, MONEY)
def test_who_earns_more_is_as_scipy_has_it(amounts, others):
    stats = pytest.importorskip("scipy.stats")
    one, other = arm_of(*amounts), arm_of(*others)
    a, b = mean_revenue(one), mean_revenue(other)
    z = (a.mean - b.mean) / sqrt(a.standard_error**2 + b.standard_error**2)
    assert revenue_beats(one, other) == pytest.approx(stats.norm.cdf(z), abs=SAME)
    assert revenue_beats(other, one) == pytest.approx(stats.norm.cdf(-z), abs=SAME)


def test_many_arms_earn_as_much():
    arm = arm_of(0, 0, 500, 900)
    assert revenue_best([arm] * 5) == pytest.approx([0.2] * 5, abs=SAME)
    assert revenue_best([arm]) == (1.0,)


@given(MONEY, MONEY, st.sampled_from([0.8, 0.95]))
def test_at_the_ends_of_fiellers_interval_the_difference_is_at_its_limit(amounts, others, level):
    """That is how Fieller defines it: |arm - r · reference| is the reach times its error."""
    stats = pytest.importorskip("scipy.stats")
    one, other = arm_of(*amounts), arm_of(*others)
    found = revenue_uplift(one, other, level=level)
    a, b = mean_revenue(one), mean_revenue(other)
    reach = stats.norm.isf((1 - level) / 2)
    assert (found is None) == (b.mean <= reach * b.standard_error)
    assume(found and found.high < 1000)
    assert found.low < found.median < found.high
    for end in (found.low, found.high):
        ratio = 1 + end
        error = sqrt(a.standard_error**2 + ratio**2 * b.standard_error**2)
        assert abs(a.mean - ratio * b.mean) == pytest.approx(reach * error, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("arm", [(0, 0, 0), (1, 5, 25), (10, 0, 0), (10, 50, 250)])
def test_nothing_is_known_of_the_spread(arm):
    other = arm_of(0, 7, 9)
    assert mean_revenue(arm) is None
    assert revenue_uplift(arm, other) is revenue_uplift(other, arm) is None
    assert revenue_best([arm, other]) is revenue_beats(other, arm) is None


def test_what_is_taken_back_may_be_more_than_what_was_paid():
    arm = arm_of(-500, 0, 100, -50)
    assert mean_revenue(arm).mean == -112.5
    assert revenue_uplift(arm_of(1, 2, 3), arm) is None


# Looks every day


def test_the_interval_is_the_one_of_the_paper():
    """By the formula as it is printed, with rho as the root of what the module has."""
    t, alpha, rho = 8000, 0.05, sqrt(statistics.SHARPEST / 10_000)
    found = watch_rates((4000, 440), (4000, 400))
    error = sqrt((0.11 * 0.89 + 0.1 * 0.9) / 3999)
    sigma = error * sqrt(t)
    half = sigma * sqrt(2 * (t * rho**2 + 1) / (t**2 * rho**2) * _log(sqrt(t * rho**2 + 1) / alpha))
    assert found.difference == pytest.approx(0.01)
    assert (found.low, found.high) == pytest.approx((0.01 - half, 0.01 + half))


def _log(x):
    return log1p(x - 1)


def test_it_is_sharpest_where_it_says():
    special = pytest.importorskip("scipy.special")
    exact = -special.lambertw(-(0.05**2) * 2.718281828459045**-1, -1).real - 1
    assert pytest.approx(exact, rel=1e-12) == statistics.SHARPEST

    def width(visitors, sharpest_at):
        half = visitors // 2
        found = watch_rates((half, half // 5), (half, half // 5), sharpest_at=sharpest_at)
        return found.high - found.low

    at = 20_000
    best = width(at, at)
    assert all(best < width(at, other) for other in (at // 2, at * 9 // 10, at * 11 // 10, 2 * at))


LOOKS = st.tuples(st.integers(300, 10**6), st.floats(0.1, 0.9)).map(
    lambda x: (x[0], int(x[0] * x[1]))
)


@given(LOOKS, LOOKS, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_p_value_belongs_to_the_interval(arm, reference, level):
    found = watch_rates(arm, reference, level=level)
    assume(found is not None)
    assert 0 <= found.p <= 1
    outside = not found.low <= 0 <= found.high
    if abs(found.p - (1 - level)) > 1e-9:
        assert outside == (found.p < 1 - level)
    # It is the level at which the interval ends at 0.
    if 1e-6 < found.p < 0.99:
        edge = watch_rates(arm, reference, level=1 - found.p)
        assert min(abs(edge.low), abs(edge.high)) < 1e-6 * (edge.high - edge.low)


@given(LOOKS, LOOKS)
def test_a_look_from_the_other_side(arm, reference):
    found, other = watch_rates(arm, reference), watch_rates(reference, arm)
    assert (found is None) == (other is None)
    if found:
        assert other == pytest.approx((-found.difference, -found.high, -found.low, found.p))


@given(st.lists(st.integers(0, 50_000), min_size=60, max_size=90), st.integers(1, 10**20))
def test_a_look_at_money_in_another_unit(amounts, factor):
    half = len(amounts) // 2
    found, large = (
        watch_revenue(arm_of(*x[:half]), arm_of(*x[half:]))
        for x in (amounts, [each * factor for each in amounts])
    )
    assert (found is None) == (large is None)
    if found:
        assert large.p == pytest.approx(found.p)
        assert large[:3] == pytest.approx([factor * each for each in found[:3]], rel=1e-9)


def test_rates_are_money_of_one_unit():
    assert watch_rates((900, 90), (1000, 80)) == watch_revenue((900, 90, 90), (1000, 80, 80))


@pytest.mark.parametrize(
    ("arm", "reference", "says"),
    [
        ((0, 0), (0, 0), False),
        ((0, 0), (10**6, 10**5), False),
        ((1000, 0), (1000, 0), False),
        ((1000, 1000), (1000, 1000), False),
        ((1000, 24), (1000, 25), False),
        ((1000, 25), (1000, 25), True),
        # An arm in which nobody converts is told of.
        ((1000, 0), (1000, 50), True),
        ((1000, 975), (1000, 975), True),
        ((1000, 976), (1000, 975), False),
        # Of the smaller arm a tenth is due.
        ((100, 5), (900, 244), False),
        ((100, 6), (900, 244), True),
    ],
)
def test_too_few_to_say_anything(arm, reference, says):
    assert (watch_rates(arm, reference) is not None) == says


def test_one_large_order_does_not_make_many():
    many = (1000, 100 * 500, 100 * 500**2)
    whale = (1000, 100 * 500 + 10**6, 100 * 500**2 + 10**12)
    assert watch_revenue(many, many)
    assert watch_revenue(whale, many) is None


def test_all_brought_in_the_same():
    assert watch_revenue((100, 500, 2500), (100, 500, 2500)) is None
    assert watch_revenue((100, 500, 2500), (100, 400, 1600)) is None


def test_more_of_the_same_makes_it_surer():
    looks = [watch_rates((n * 500, n * 60), (n * 500, n * 50)) for n in (1, 3, 10, 100)]
    for earlier, later in pairwise(looks):
        assert later.p < earlier.p or earlier.p == 1
        assert later.high - later.low < earlier.high - earlier.low
    assert looks[-1].p < 1e-10


# Who is in which arm


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 20, 51])
def test_the_tail_of_chi_square_is_as_scipy_has_it(scipy, degrees):
    for value in (1e-12, 1e-3, 0.1, 0.5, 1, 2, 3.84, 7, 10.83, 20, 50, 100, 300, 1000):
        found = statistics.chi_square_tail(value, degrees)
        assert found == pytest.approx(scipy.chi2.sf(value, degrees), rel=1e-10, abs=1e-300)
    assert statistics.chi_square_tail(0.0, degrees) == 1
    assert statistics.chi_square_tail(1e8, degrees) == 0


@given(
    st.lists(st.tuples(st.integers(0, 10**8), st.floats(1e-3, 1e3)), min_size=2, max_size=8).filter(
        lambda arms: any(count for count, _ in arms)
    )
)
def test_a_ratio_is_tested_as_by_scipy(arms):
    stats = pytest.importorskip("scipy.stats")
    counts, shares = zip(*arms, strict=True)
    expected = [sum(counts) * share / sum(shares) for share in shares]
    exact = stats.chisquare(counts, [x * sum(counts) / sum(expected) for x in expected])
    found = sample_ratio(counts, shares)
    assert found.chi_square == pytest.approx(exact.statistic, rel=1e-8, abs=1e-6)
    assert found.p == pytest.approx(exact.pvalue, rel=1e-5, abs=SAME)
    assert found.degrees == len(arms) - 1


@pytest.mark.parametrize(
    ("visitors", "shares", "chi_square", "p"),
    [
        # Mendel's peas: 9 : 3 : 3 : 1, as in many a textbook.
        ((315, 101, 108, 32), (9, 3, 3, 1), "0.470", "0.925"),
        # James McCaffrey, "Chi-Square Test Using C#": requests to three servers.
        ((529, 241, 230), (50, 25, 25), "3.6060", "0.1648"),
        # Kohavi, Tang and Xu, "Trustworthy Online Controlled Experiments" (2020).
        ((821_588, 815_482), (0.5, 0.5), None, "1.8e-06"),
    ],
)
def test_what_others_have_published(visitors, shares, chi_square, p):
    found = sample_ratio(visitors, shares)
    if chi_square:
        assert f"{found.chi_square:.{len(chi_square) - 2}f}" == chi_square
    assert (f"{found.p:.1e}" if "e" in p else f"{found.p:.{len(p) - 2}f}") == p
    assert found.is_mismatch == (found.p < 0.001)


@pytest.mark.parametrize(
    ("visitors", "shares", "p", "is_mismatch"),
    [
        ((0, 0), (1, 1), 1, False),
        ((10, 0), (1, 0), 1, False),
        ((10, 1), (1, 0), 0, True),
        ((500, 500, 0), (1, 1, 0), 1, False),
        ((500, 500, 1), (1, 1, 0), 0, True),
        ((10**9,), (0.3,), 1, False),
        ((10**30, 10**30), (0.1, 0.1), 1, False),
        ((10**30, 10**30 + 10**20), (0.1, 0.1), 0, True),
    ],
)
def test_ratios_at_the_edges(visitors, shares, p, is_mismatch):
    found = sample_ratio(visitors, shares)
    assert (found.p, found.is_mismatch) == (p, is_mismatch)
    assert (found.chi_square == inf) == (is_mismatch and 0 in shares)


def test_a_few_visitors_are_no_mismatch_yet():
    """Of ten one came where one in a thousand should: that is rare, and not as rare as p says."""
    found = sample_ratio((9, 1), (999, 1))
    assert found.p < 1e-20
    assert not found.is_mismatch
    assert sample_ratio((90_000, 10_000), (999, 1)).is_mismatch


# What comes in


@pytest.mark.parametrize(
    ("arm", "named"),
    [
        ((10, 11), "conversions: are more than visitors"),
        ((-1, 0), "visitors: is negative"),
        ((10, -1), "conversions: is negative"),
        ((True, 0), "visitors: is no int"),
        ((10, False), "conversions: is no int"),
        ((10.0, 1), "visitors: is no int"),
        ((10, "1"), "conversions: is no int"),
        ((10, None), "conversions: is no int"),
    ],
)
def test_rates_that_cannot_be(arm, named):
    other = (10, 1)
    for call in (
        lambda: conversion_rate(arm),
        lambda: rate_uplift(arm, other),
        lambda: rate_uplift(other, arm),
        lambda: rate_beats(other, arm),
        lambda: rate_best([other, arm]),
        lambda: watch_rates(arm, other),
        lambda: watch_rates(other, arm),
    ):
        with pytest.raises(ValueError, match=named):
            call()


@pytest.mark.parametrize(
    ("arm", "named"),
    [
        ((-1, 0, 0), "visitors: is negative"),
        ((True, 1, 1), "visitors: is no int"),
        ((2, 1.0, 1), "total: is no int"),
        ((2, True, 1), "total: is no int"),
        ((2, 1, -1), "squares: is negative"),
        ((2, 1, Fraction(1)), "squares: is no int"),
        ((2, 4, 7), "squares: cannot be"),
        ((0, 1, 1), "squares: cannot be"),
        ((0, 0, 1), "squares: cannot be"),
    ],
)
def test_revenue_that_cannot_be(arm, named):
    other = (3, 3, 5)
    for call in (
        lambda: mean_revenue(arm),
        lambda: revenue_uplift(arm, other),
        lambda: revenue_uplift(other, arm),
        lambda: revenue_beats(other, arm),
        lambda: revenue_best([other, arm]),
        lambda: watch_revenue(arm, other),
        lambda: watch_revenue(other, arm),
    ):
        with pytest.raises(ValueError, match=named):
            call()


@pytest.mark.parametrize("level", [0, 1, -0.5, 1.5, nan, inf, 95, True, 1 - 1e-12])
def test_levels_that_cannot_be(level):
    rates, money = (100, 30), (100, 3000, 200_000)
    for call in (
        lambda: conversion_rate(rates, level=level),
        lambda: rate_uplift(rates, rates, level=level),
        lambda: watch_rates(rates, rates, level=level),
        lambda: mean_revenue(money, level=level),
        lambda: revenue_uplift(money, money, level=level),
        lambda: watch_revenue(money, money, level=level),
    ):
        with pytest.raises(ValueError, match="level: "):
            call()


@pytest.mark.parametrize("sharpest_at", [0, -1, 1.5, True])
def test_sharpest_nowhere(sharpest_at):
    with pytest.raises(ValueError, match="sharpest_at: "):
        watch_rates((100, 30), (100, 30), sharpest_at=sharpest_at)


@pytest.mark.parametrize(
    ("visitors", "shares", "named"),
    [
        ([], [], "visitors: there are none"),
        ([1, 2], [1], "shares: are not as many"),
        ([1, -2], [1, 1], "visitors: is negative"),
        ([1, True], [1, 1], "visitors: is no int"),
        ([1, 2], [1, -1], "shares: has one"),
        ([1, 2], [1, nan], "shares: has one"),
        ([1, 2], [1, inf], "shares: has one"),
        ([1, 2], [1, True], "shares: has one"),
        ([1, 2], [0, 0], "shares: are all 0"),
    ],
)
def test_ratios_that_cannot_be(visitors, shares, named):
    with pytest.raises(ValueError, match=named):
        sample_ratio(visitors, shares)


def test_no_arms():
    for call in (rate_best, revenue_best):
        with pytest.raises(ValueError, match="arms: there are none"):
            call([])
