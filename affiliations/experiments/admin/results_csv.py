"""Lay results out as a table for a spreadsheet: a row for each variation, and all its figures."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ...money import DECIMAL_PLACES
from ..figures import RateFigures, RevenueFigures
from ..results import Results

__all__ = ["HEADING", "laid"]

#: Of numbers that are no amounts of money, and no p-values, which may be far smaller.
DIGITS = 6
_ESTIMATE = ("", "_low", "_high")
HEADING = [
    "group",
    "variation",
    "name",
    "reference",
    "visitors",
    "expected",
    "mixed",
    "sample_ratio_p",
    "conversions",
    *(f"rate{end}" for end in _ESTIMATE),
    *(f"uplift{end}" for end in _ESTIMATE),
    "beats",
    "best",
    *(f"difference{end}" for end in _ESTIMATE),
    "p",
    "currency",
    "revenue",
    *(f"revenue_per_visitor{end}" for end in _ESTIMATE),
    *(f"revenue_uplift{end}" for end in _ESTIMATE),
    "revenue_beats",
    "revenue_best",
    *(f"revenue_difference{end}" for end in _ESTIMATE),
    "revenue_p",
]


def laid(found: Results) -> list[list[Any]]:
    """Return a row for each variation; rates are from 0 to 1, amounts major units."""
    rows = []
    for group in found.groups:
        ratio = group.sample_ratio
        expected = group.expected or [None] * len(group.variations)
        for each, due in zip(group.variations, expected, strict=True):
            rate = each.rates.rate
            row = [
                group.name,
                each.id,
                each.name,
                int(each.is_reference),
                each.visitors,
                _rounded(due),
                group.mixed,
                None if ratio is None else ratio.p,
                each.rates.conversions,
                *_three(rate and (rate.median, rate.low, rate.high)),
                *_compared(each.rates),
            ]
            rows.append([*row, *_earned(each.revenue, found.currency)])
    return rows


def _earned(figures: RevenueFigures | None, currency: str) -> list[Any]:
    if figures is None:
        return [None] * (len(HEADING) - HEADING.index("currency"))
    places = DECIMAL_PLACES.get(currency, 0)
    unit: int = 10**places
    mean = figures.mean
    return [
        currency,
        Decimal(f"{figures.total}E-{places}"),
        *_three(mean and (mean.mean / unit, mean.low / unit, mean.high / unit)),
        *_compared(figures, unit),
    ]


def _compared(figures: RateFigures | RevenueFigures, unit: int = 1) -> list[Any]:
    uplift, look = figures.uplift, figures.look
    return [
        *_three(uplift and (uplift.median, uplift.low, uplift.high)),
        _rounded(figures.beats),
        _rounded(figures.best),
        *_three(look and (look.difference / unit, look.low / unit, look.high / unit)),
        None if look is None else look.p,
    ]


def _three(figures: tuple[float, float, float] | None) -> list[float | None]:
    return [None] * 3 if figures is None else [_rounded(each) for each in figures]


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, DIGITS)
