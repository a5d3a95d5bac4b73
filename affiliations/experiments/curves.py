"""Say what is believed of a figure by a curve, and compare curves by integrals.

A curve is the density of a posterior distribution: of a conversion rate, or of a mean of money. All
integrals are sums over a fixed number of points, so the same numbers give the same answer, always.
No Django in here, and nothing is drawn at random.

Source: that arms are compared by these integrals is Evan Miller, "Formulas for Bayesian A/B
Testing" (2015). He sums them up in closed form, by as many terms as there were conversions; here
the number of points does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import ceil, erfc, exp, expm1, fsum, inf, log, log1p, pi, prod, sqrt
from statistics import NormalDist
from typing import Protocol

__all__ = ["Curve", "MeanCurve", "RateCurve", "log_ratio", "probabilities_best"]

NORMAL = NormalDist()
#: By so much does the logarithm of a density fall from its top to where a curve ends.
FALL = 32.0
#: Cells to a curve's scale in which it is tabulated. With 16 a probability is right to 1e-10.
FINE = 16
#: When a quantile is near enough, and after how many steps it is so in any case.
NEAR, STEPS = 1e-12, 100
#: The least probability that is told from none.
LEAST = 1e-15
#: Cells to a scale over which is integrated, each by the five points of Gauss and Legendre.
COARSE = 3
#: Where they lie in a cell from -1 to 1, and what they weigh.
POINTS = (
    (0.0, 128 / 225),
    *(
        (sign * sqrt(5 + other * 2 * sqrt(10 / 7)) / 3, (322 - other * 13 * sqrt(70)) / 900)
        for sign in (-1, 1)
        for other in (-1, 1)
    ),
)


class Curve(Protocol):
    """The density of what is believed of a figure, over some axis."""

    #: Where it begins and ends: beyond is nothing that counts.
    low: float
    high: float
    #: About its standard deviation: within half of it, it is as smooth as can be.
    scale: float

    def density(self, at: float) -> float:
        """Return the density there."""

    def below(self, at: float) -> float:
        """Return the probability that the figure is less."""


class MeanCurve:
    """A normal distribution over an axis of money."""

    def __init__(self, mean: float, error: float) -> None:
        """Take the mean, and its standard error, which is more than 0."""
        self.mean, self.scale = mean, error
        reach = error * sqrt(2 * FALL)
        self.low, self.high = mean - reach, mean + reach

    def density(self, at: float) -> float:
        """Return the density there."""
        return exp(-(((at - self.mean) / self.scale) ** 2) / 2) / (self.scale * sqrt(2 * pi))

    def below(self, at: float) -> float:
        """Return the probability that the mean is less."""
        return erfc((self.mean - at) / (self.scale * sqrt(2))) / 2


class RateCurve:
    """The distribution Beta(a, b) of a rate, over an axis of the logarithm of its odds.

    On that axis the density a-th power of the rate times b-th power of the rest is smooth and has
    one top, whatever a and b are from 1 on; on the axis of the rate itself it may end in a cliff.
    """

    def __init__(self, a: int, b: int) -> None:
        """Tabulate; a and b are 1 at least."""
        self.a, self.b, self.n = a, b, a + b
        self.top = log(a / b)
        self.scale = sqrt(1 / a + 1 / b)
        left, right = self._edge(-1), self._edge(1)
        self.low, self.high = self.top + left, self.top + right
        self._begin = left
        self._count = ceil((right - left) / self.scale * FINE)
        self._width = (right - left) / self._count
        self._tabulate()

    def density(self, at: float) -> float:
        """Return the density there."""
        if not self.low < at < self.high:
            return 0.0
        return exp(self._log(at - self.top)) / self._whole

    def below(self, at: float) -> float:
        """Return the probability that the rate's log-odds are less."""
        place = (at - self.top - self._begin) / self._width
        if place <= 0:
            return 0.0
        if place >= self._count:
            return 1.0
        cell = int(place)
        u = place - cell
        c0, c1, c2, c3, c4, c5 = self._cells[cell]
        return c0 + u * (c1 + u * (c2 + u * (c3 + u * (c4 + u * c5))))

    def quantile(self, level: float) -> float:
        """Return the rate than which it is less with this probability."""
        return 1 / (1 + exp(-crossing(self.below, level, self.low, self.high)))

    @property
    def log_scale(self) -> float:
        """About the standard deviation of the rate's logarithm."""
        return self.scale * self.b / self.n

    def _log(self, t: float) -> float:
        """Return the logarithm of the density, t from the top, less that of the top."""
        # From the smaller side: that way no large numbers cancel one another.
        a, b = self.a, self.b
        if a > b:
            a, b, t = b, a, -t
        return a * t - self.n * log1p(a / self.n * expm1(t))

    def _edge(self, side: int) -> float:
        far = self.scale
        while self._log(side * far) > -FALL:
            far *= 2
        near = far / 2
        while far - near > self.scale / 100:
            middle = (near + far) / 2
            near, far = (middle, far) if self._log(side * middle) > -FALL else (near, middle)
        return side * far

    def _tabulate(self) -> None:
        """Integrate cell by cell, each by the density and two derivatives of it at both ends.

        Within a cell the probability is the polynomial of degree 5 that has the same value, density
        and slope at both ends (Hermite's).
        """
        a, b, h = self.a, self.b, self._width
        nodes = []
        for number in range(self._count + 1):
            t = self._begin + number * h
            odds = a * exp(t) / b
            # The first derivative of the density's logarithm, and the second one less its sign.
            lean, bend = -a * expm1(t) / (1 + odds), self.n * odds / (1 + odds) ** 2
            f = exp(self._log(t))
            nodes.append((h * f, h**2 * f * lean, h**3 * f * (lean**2 - bend)))
        areas = [
            (f0 + f1) / 2 + (d0 - d1) / 10 + (e0 + e1) / 120
            for (f0, d0, e0), (f1, d1, e1) in pairwise(nodes)
        ]
        self._whole = fsum(areas)
        self._cells = []
        sum_ = 0.0
        for area, (f0, d0, _), (f1, d1, _) in zip(areas, nodes, nodes[1:], strict=False):
            cubic = 10 * area - 6 * f0 - 4 * f1 - 1.5 * d0 + 0.5 * d1
            fourth = -15 * area + 8 * f0 + 7 * f1 + 1.5 * d0 - d1
            fifth = 6 * area - 3 * (f0 + f1) - 0.5 * (d0 - d1)
            self._cells.append(
                tuple(each / self._whole for each in (sum_, f0, d0 / 2, cubic, fourth, fifth))
            )
            sum_ += area


def probabilities_best(curves: Sequence[Curve]) -> tuple[float, ...]:
    """Return for each curve, all over one axis, the probability that its figure is the largest.

    That of the i-th is the integral of its density times the probabilities that each of the others
    is less. They sum to 1.
    """
    # Below where the last of them begins one is less for certain, so none of the others is best.
    start, end = max(each.low for each in curves), max(each.high for each in curves)
    parts: list[list[float]] = [[] for _ in curves]
    for at, weight in _points(curves, start, end):
        below = [each.below(at) for each in curves]
        for place, each in enumerate(curves):
            if density := each.density(at):
                others = prod(below[:place]) * prod(below[place + 1 :])
                parts[place].append(weight * density * others)
    sums = [fsum(each) for each in parts]
    return tuple(each / fsum(sums) for each in sums)


def log_ratio(arm: RateCurve, reference: RateCurve, levels: Sequence[float]) -> list[float]:
    """Return quantiles of the logarithm of the arm's rate divided by that of the reference."""
    # Over the narrower of the two, so that the other one is smooth between the points.
    over, other, sign = (
        (reference, arm, 1) if reference.log_scale < arm.log_scale else (arm, reference, -1)
    )

    def below(logarithm: float) -> float:
        shift = sign * logarithm
        # The other rate would be more than 1 from here on, and its probability has an edge.
        edge = _log_odds(-shift) if shift > 0 else inf
        parts = [
            weight * over.density(at) * other.below(_log_odds(shift - log1p(exp(-at))))
            for at, weight in _points([over], over.low, over.high, edge)
        ]
        return fsum(parts) if sign > 0 else 1 - fsum(parts)

    low = -log1p(exp(-arm.low)) + log1p(exp(-reference.high))
    high = -log1p(exp(-arm.high)) + log1p(exp(-reference.low))
    return [crossing(below, level, low, high) for level in levels]


def crossing(below: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Return where a rising probability is `level`, between low and high.

    By the method of false position with the step of Illinois (Dowell and Jarratt, 1971), on the
    scale of the normal distribution, on which a probability is close to a straight line.
    """
    aim = NORMAL.inv_cdf(level)

    def over(at: float) -> float:
        return NORMAL.inv_cdf(min(max(below(at), LEAST), 1 - LEAST)) - aim

    left, right = over(low), over(high)
    wide, side, at = high - low, 0, low
    for _ in range(STEPS):
        at = high - right * (high - low) / (right - left)
        found = over(at)
        if abs(found) < NEAR or high - low < NEAR * wide:
            break
        # An end that stays where it is for a second time counts for half.
        if found < 0:
            low, left, right = at, found, right / (2 if side < 0 else 1)
            side = -1
        else:
            high, right, left = at, found, left / (2 if side > 0 else 1)
            side = 1
    return at


def _log_odds(logarithm: float) -> float:
    """Return the log-odds of a rate whose logarithm is given; infinite from 1 on."""
    return inf if logarithm >= 0 else logarithm - log(-expm1(logarithm))


def _points(
    curves: Sequence[Curve], start: float, end: float, edge: float = inf
) -> Iterator[tuple[float, float]]:
    """Yield points from start to end, and their weights, close enough for each of the curves.

    No cell goes over the end of a curve, nor over the edge.
    """
    bounds = {start, end, edge, *(each.low for each in curves), *(each.high for each in curves)}
    for left, right in pairwise(sorted(each for each in bounds if start <= each <= end)):
        scale = min(each.scale for each in curves if each.low < right and left < each.high)
        count = ceil((right - left) / scale * COARSE)
        half = (right - left) / count / 2
        for number in range(count):
            middle = left + (2 * number + 1) * half
            for place, weight in POINTS:
                yield middle + half * place, half * weight
