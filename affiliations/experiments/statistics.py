"""Say what an experiment has found, of the visitors of its arms and of what they did.

There are four kinds of answers: on conversion rates, on the revenue per visitor, on the difference
between two arms that is looked at every day, and on whether the visitors were shared out as they
ought to be. Sums in, figures out; no Django in here. What each figure means, and how it is worked
out by hand, is told in docs/explanation/experiment-statistics.md.

An arm of rates is a pair (visitors, conversions), in which a visitor converts once at most. An arm
of revenue is a triple (visitors, total, squares): the sum of what each visitor brought in, in minor
units, and the sum of the squares of that, both after whatever was capped. All are int, of any size.
A `level` is the probability with which an interval holds the truth, 0.95 by default. Whatever is
not so raises a ValueError that begins with the name of what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import erfc, exp, expm1, isfinite, lgamma, log, log1p, sqrt
from statistics import NormalDist
from typing import NamedTuple, TypeVar

from .curves import MeanCurve, RateCurve, log_ratio, probabilities_best

__all__ = [
    "Estimate",
    "Look",
    "Mean",
    "Rates",
    "Revenue",
    "SampleRatio",
    "conversion_rate",
    "mean_revenue",
    "rate_beats",
    "rate_best",
    "rate_uplift",
    "revenue_beats",
    "revenue_best",
    "revenue_uplift",
    "sample_ratio",
    "watch_rates",
    "watch_revenue",
]

#: What a conversion rate is thought of before anybody came: Beta(1, 1), each rate as likely.
PRIOR = (1, 1)
#: The probability that an interval holds the truth.
LEVEL = 0.95
#: The highest level that figures are exact enough for.
HIGHEST = 0.999_999
#: What each arm must be due of visitors with a conversion, before a difference is spoken of.
FEWEST = 25
#: Visitors of both arms at which the interval of a daily look is as narrow as can be …
SHARPEST_AT = 10_000
#: … and rho² times them: the x for which x - ln(1 + x) = -2 ln 0.05.
SHARPEST = 8.211_968_062_068_253
#: Visitors are shared out wrongly if p is less, as GrowthBook has it by default.
MISMATCH = 0.001
#: An arm that fewer are expected in is too small for the chi-square distribution (Cochran, 1954).
EXPECTED = 5


T = TypeVar("T")


class Rates(NamedTuple):
    """An arm of which is known who converted."""

    visitors: int
    #: Visitors who converted, each counted once.
    conversions: int


class Revenue(NamedTuple):
    """An arm of which is known what its visitors brought in."""

    visitors: int
    #: The sum over the visitors, in minor units; who brought in nothing is a 0.
    total: int
    #: The sum of the squares of what each visitor brought in.
    squares: int


class Estimate(NamedTuple):
    """A figure, and the interval that holds the true one with the level's probability.

    Of a rate they are from 0 to 1; of an uplift 0.1 is 10 % more than the reference.
    """

    #: Half of what is believed lies below it.
    median: float
    low: float
    high: float


class Mean(NamedTuple):
    """What a visitor brings in on average, in minor units."""

    mean: float
    standard_error: float
    low: float
    high: float


class Look(NamedTuple):
    """A look at the difference between an arm and the reference, which may be one of many."""

    #: The arm's mean less the reference's: of rates as a part of 1, of revenue in minor units.
    difference: float
    #: The interval that holds the true difference at all looks, with the level's probability.
    low: float
    high: float
    #: Always valid: where there is no difference it ever is P or less with a probability of P.
    p: float


class SampleRatio(NamedTuple):
    """How well the visitors of the arms fit the shares that they ought to have."""

    #: Pearson's chi-square; infinite where somebody is in an arm that nobody should be in.
    chi_square: float
    #: Arms that somebody should be in, less one.
    degrees: int
    #: The probability of a misfit such as this, or a worse one, if all is well.
    p: float
    #: Whether to distrust the experiment: p is less than 0.001, and enough have come to say so.
    is_mismatch: bool


# Conversion rates


def conversion_rate(arm: Rates, *, level: float = LEVEL) -> Estimate:
    """Return the median of an arm's rate, and its credible interval with equal tails.

    The rate has the distribution Beta(1 + conversions, 1 + visitors - conversions), since before
    anybody came it was Beta(1, 1): Gelman et al., "Bayesian Data Analysis" (3rd edition, 2013),
    section 2.1, with the uniform prior of Bayes and Laplace. Raises ValueError.
    """
    tail = _tail(level)
    curve = _rate_curve(arm)
    return Estimate(*(curve.quantile(each) for each in (0.5, tail, 1 - tail)))


def rate_uplift(arm: Rates, reference: Rates, *, level: float = LEVEL) -> Estimate:
    """Return how much higher the arm's rate is than that of the reference, as a part of the latter.

    That is the arm's rate / the reference's - 1, of two independent rates that are distributed as
    for `conversion_rate`; the quantiles are found by numerical integration. Raises ValueError.
    """
    tail = _tail(level)
    curves = _rate_curve(arm), _rate_curve(reference)
    return Estimate(*(expm1(each) for each in log_ratio(*curves, (0.5, tail, 1 - tail))))


def rate_best(arms: Sequence[Rates]) -> tuple[float, ...]:
    """Return for each of the arms the probability that its rate is the highest; they sum to 1.

    See Evan Miller, "Formulas for Bayesian A/B Testing" (2015); the integral is that of
    `curves.probabilities_best`, right to 1e-10. Raises ValueError, also if there are no arms.
    """
    return probabilities_best([_rate_curve(each) for each in _some(arms)])


def rate_beats(arm: Rates, reference: Rates) -> float:
    """Return the probability that the arm's rate is higher than that of the reference.

    As `rate_best` of the two. Raises ValueError.
    """
    return rate_best((arm, reference))[0]


# Revenue per visitor


def mean_revenue(arm: Revenue, *, level: float = LEVEL) -> Mean | None:
    """Return what a visitor brings in on average, in minor units, and its credible interval.

    The mean is taken to be distributed normally around that of the sample, with the standard error
    for a standard deviation: that is the posterior of large samples (Gelman et al., "Bayesian Data
    Analysis", 3rd edition, 2013, section 4.1). Sums are exact, so nothing cancels. None where the
    spread is not known: with less than two visitors, or if all brought in the same, such as
    nothing. Raises ValueError.
    """
    reach = -NormalDist().inv_cdf(_tail(level))
    mean, variance = _moments(arm)
    if not variance:
        return None
    error = sqrt(variance)
    return Mean(float(mean), error, float(mean) - reach * error, float(mean) + reach * error)


def revenue_uplift(arm: Revenue, reference: Revenue, *, level: float = LEVEL) -> Estimate | None:
    """Return how much more the arm's visitors bring in, as a part of the reference's mean.

    The interval is Fieller's, "Some problems in interval estimation" (Journal of the Royal
    Statistical Society B 16, 1954): of the ratios r for which arm - r · reference may be 0 it is
    the exact one, for two independent means that are distributed normally. None where it has no
    bounds, which is if the reference's own interval holds 0; where its mean is less; and where a
    spread is not known. Raises ValueError.
    """
    reach = -NormalDist().inv_cdf(_tail(level))
    (mean, variance), (base, base_variance) = _moments(arm), _moments(reference)
    # How far the reference's mean is from 0, squared, in units of the reach.
    if base <= 0 or not variance or not base_variance:
        return None
    doubt = reach**2 * float(base_variance / base**2)
    if doubt >= 1:
        return None
    uplift, ratio = float((mean - base) / base), float(mean / base)
    half = reach * sqrt(
        float(variance / base**2) * (1 - doubt) + ratio**2 * float(base_variance / base**2)
    )
    middle = uplift + doubt
    return Estimate(uplift, (middle - half) / (1 - doubt), (middle + half) / (1 - doubt))


def revenue_best(arms: Sequence[Revenue]) -> tuple[float, ...] | None:
    """Return for each of the arms the probability that its mean is the highest; they sum to 1.

    Of means that are distributed as for `mean_revenue`, by the integral of
    `curves.probabilities_best`. None where the spread of an arm is not known. Raises ValueError,
    also if there are no arms.
    """
    found = [_moments(each) for each in _some(arms)]
    # From the first mean: of two large ones that are close to each other floats know too little.
    origin = found[0][0]
    curves = [
        MeanCurve(float(mean - origin), sqrt(variance)) for mean, variance in found if variance
    ]
    return probabilities_best(curves) if len(curves) == len(arms) else None


def revenue_beats(arm: Revenue, reference: Revenue) -> float | None:
    """Return the probability that the arm's mean is higher than that of the reference, or None.

    As `revenue_best` of the two. Raises ValueError.
    """
    found = revenue_best((arm, reference))
    return None if found is None else found[0]


# Looks every day


def watch_rates(
    arm: Rates, reference: Rates, *, level: float = LEVEL, sharpest_at: int = SHARPEST_AT
) -> Look | None:
    """Return how the arm's rate differs from the reference's, however often it is looked at.

    As `watch_revenue` of visitors who bring in 1 if they convert, and 0 if not. None also if
    nearly all convert, by the same rule for those who do not. Raises ValueError.
    """
    pairs = [_rates(each) for each in (arm, reference)]
    others = [Revenue(visitors, visitors - won, visitors - won) for visitors, won in pairs]
    sums = [Revenue(visitors, won, won) for visitors, won in pairs]
    found = watch_revenue(*sums, level=level, sharpest_at=sharpest_at)
    return found if _are_enough(*others) else None


def watch_revenue(
    arm: Revenue, reference: Revenue, *, level: float = LEVEL, sharpest_at: int = SHARPEST_AT
) -> Look | None:
    """Return how the arm's mean differs from the reference's, however often it is looked at.

    The interval is one of an asymptotic confidence sequence: Waudby-Smith, Arbour, Sinha, Kennedy
    and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences" (Annals of
    Statistics 52, 2024), theorem 2.2, for the influence function of a difference of means in a
    randomized experiment, theirs in section 3. With t visitors in both arms and a standard error s
    of the difference, its half width is s · sqrt((x + 1) / x · ln((x + 1) / alpha²)) with x = t
    rho² and alpha = 1 - level. The p-value is the alpha for which it ends at 0.

    rho² is 8.212 / `sharpest_at`: there, in visitors of both arms, an interval of 95 % is as
    narrow as it can be, and nowhere is it wrong. It must be chosen before the first look and kept.
    The p-value is the same for any level.

    None where it is too early to say anything: `visitors who count` × `share of the smaller arm` <
    25, where total² / squares of both arms is how many equal visitors would count as much as those
    who brought something in (Kish, "Survey Sampling", 1965). Then a sum is far from
    normal. None also if all brought in the same. Raises ValueError.
    """
    alpha = 2 * _tail(level)
    if _count("sharpest_at", sharpest_at) == 0:
        raise ValueError("sharpest_at: is 0")
    (mean, variance), (base, base_variance) = _moments(arm), _moments(reference)
    if not _are_enough(arm, reference) or variance is None or base_variance is None:
        return None
    if not (spread := float(variance + base_variance)):
        return None
    x = (arm[0] + reference[0]) / sharpest_at * SHARPEST
    difference = float(mean - base)
    half = sqrt(spread * (x + 1) / x * (log1p(x) - 2 * log(alpha)))
    p = exp((log1p(x) - difference**2 / spread * x / (x + 1)) / 2)
    return Look(difference, difference - half, difference + half, min(p, 1.0))


# Who is in which arm


def sample_ratio(visitors: Sequence[int], shares: Sequence[float]) -> SampleRatio:
    """Return how well the visitors of the arms fit the shares, which need not sum to 1.

    By Pearson's chi-square test, as Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online
    Controlled Experiments" (KDD 2019), do. The threshold of 0.001 is the default of GrowthBook.
    Somebody in an arm with a share of 0 is a mismatch for certain. Else an arm in which fewer than
    5 are expected is none yet. Raises ValueError.
    """
    counts = [_count("visitors", each) for each in _some(visitors, "visitors")]
    if len(counts) != len(shares):
        raise ValueError("shares: are not as many as visitors")
    if any(isinstance(each, bool) or not isfinite(each) or each < 0 for each in shares):
        raise ValueError("shares: has one that is no number from 0 on")
    exact = [Fraction(each) for each in shares]
    whole, number = sum(exact), sum(counts)
    if not whole:
        raise ValueError("shares: are all 0")
    degrees = sum(share > 0 for share in exact) - 1
    if any(count and not share for count, share in zip(counts, exact, strict=True)):
        return SampleRatio(float("inf"), degrees, 0.0, True)
    expected = [number * share / whole for share in exact]
    chi_square = float(
        sum((count - due) ** 2 / due for count, due in zip(counts, expected, strict=True) if due)
    )
    p = chi_square_tail(chi_square, degrees)
    are_enough = all(due >= EXPECTED for due in expected if due) and number > 0
    return SampleRatio(chi_square, degrees, p, are_enough and p < MISMATCH)


def chi_square_tail(value: float, degrees: int) -> float:
    """Return the probability that a chi-square of so many degrees of freedom is more.

    The regularised incomplete gamma function Q(degrees / 2, value / 2), for which of a whole or a
    half number there is a sum without an end that is cut off: NIST, "Digital Library of
    Mathematical Functions", 8.8.6, from 8.4.6 or e^-z on. With 0 degrees nothing can misfit: 1.
    """
    if degrees == 0 or value <= 0:
        return 1.0
    z, a = value / 2, degrees % 2 / 2
    found = erfc(sqrt(z)) if a else 0.0
    while a < degrees / 2:
        found += exp(a * log(z) - z - lgamma(a + 1))
        a += 1
    return min(found, 1.0)


# What came in


def _some(arms: Sequence[T], name: str = "arms") -> Sequence[T]:
    if not arms:
        raise ValueError(f"{name}: there are none")
    return arms


def _tail(level: float) -> float:
    if not 0 < level <= HIGHEST:
        raise ValueError(f"level: is not above 0 and at most {HIGHEST}")
    return (1 - level) / 2


def _whole(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}: is no int")
    return value


def _count(name: str, value: int) -> int:
    if _whole(name, value) < 0:
        raise ValueError(f"{name}: is negative")
    return value


def _rates(arm: Rates) -> Rates:
    visitors, conversions = arm
    if _count("conversions", conversions) > _count("visitors", visitors):
        raise ValueError("conversions: are more than visitors")
    return Rates(visitors, conversions)


def _rate_curve(arm: Rates) -> RateCurve:
    visitors, conversions = _rates(arm)
    return RateCurve(PRIOR[0] + conversions, PRIOR[1] + visitors - conversions)


def _moments(arm: Revenue) -> tuple[Fraction, Fraction | None]:
    """Return the mean, and its squared standard error, which nothing is known of below two."""
    visitors, total, squares = arm
    _count("visitors", visitors), _whole("total", total), _count("squares", squares)
    around = visitors * squares - total**2
    if around < 0 or (squares and not visitors):
        raise ValueError("squares: cannot be those of so many visitors with this total")
    mean = Fraction(total, visitors or 1)
    return mean, Fraction(around, visitors**2 * (visitors - 1)) if visitors > 1 else None


def _are_enough(*arms: Revenue) -> bool:
    """Return whether each arm is due FEWEST of those who brought something in."""
    visitors, totals, squares = zip(*arms, strict=True)
    # Multiplied out, so that all of it is whole numbers.
    return bool(sum(totals)) and (
        sum(totals) ** 2 * min(visitors) >= FEWEST * sum(squares) * sum(visitors)
    )
