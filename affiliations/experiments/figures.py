"""Work out every figure of a group's variations, or say why there is none. No Django in here.

Each variation is compared with the reference. Of several comparisons one may find something by
chance, so the daily looks are made at a level that is the higher the more there are (Bonferroni):
that any of them is wrong has the probability that one alone would have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias

from . import statistics
from .statistics import Estimate, Look, Mean, Rates, Revenue

__all__ = [
    "Missing",
    "RateFigures",
    "Reason",
    "RevenueFigures",
    "Verdict",
    "is_certain",
    "of_rates",
    "of_revenue",
    "verdict",
]


class Reason(StrEnum):
    """Why there is no figure."""

    #: It is the reference itself, which nothing is compared with.
    IS_REFERENCE = "is-reference"
    #: No variation is the reference.
    NO_REFERENCE = "no-reference"
    #: There is no other variation.
    ALONE = "alone"
    #: Nobody has seen it, or else the reference.
    NOBODY = "nobody"
    #: Too few have converted, or too few make up nearly all of the revenue.
    TOO_EARLY = "too-early"
    #: All visitors have brought in the same, such as nothing.
    NO_SPREAD = "no-spread"
    #: The reference has brought in nothing, or less.
    NO_BASE = "no-base"
    #: The reference may as well bring in nothing: of that everything is infinitely more.
    UNBOUNDED = "unbounded"
    #: By which shares visitors were shared out is not known.
    NO_SHARES = "no-shares"


Missing: TypeAlias = Mapping[str, Reason]


@dataclass(frozen=True, slots=True)
class RateFigures:
    """How many of a variation's visitors have converted; `missing` tells why a figure is None."""

    #: Visitors who have, each counted once.
    conversions: int
    rate: Estimate | None
    #: Against the reference, as the probability to beat it, and the look are.
    uplift: Estimate | None
    beats: float | None
    #: The probability that no other variation is better.
    best: float | None
    #: However often it is looked at; at a level for as many comparisons as there are.
    look: Look | None
    missing: Missing


@dataclass(frozen=True, slots=True)
class RevenueFigures:
    """What a variation's visitors have spent, in minor units; otherwise as for the rates."""

    total: int
    mean: Mean | None
    uplift: Estimate | None
    beats: float | None
    best: float | None
    look: Look | None
    missing: Missing


class Verdict(StrEnum):
    """What may be said of a group's variations, and no more than that."""

    #: Visitors were shared out wrongly: no figure can be trusted.
    MISMATCH = "mismatch"
    NOTHING_TO_COMPARE = "nothing-to-compare"
    NO_REFERENCE = "no-reference"
    TOO_EARLY = "too-early"
    #: Nothing is certain yet.
    UNDECIDED = "undecided"
    #: Some differ from the reference for certain: their looks leave out 0.
    DECIDED = "decided"


def of_rates(arms: Sequence[Rates], reference: int | None, level: float) -> list[RateFigures]:
    """Return the figures of each arm, of which that at the place `reference` is it, if any is."""
    found = _figures(
        arms,
        reference,
        level,
        name="rate",
        alone=statistics.conversion_rate,
        uplift=statistics.rate_uplift,
        best=statistics.rate_best,
        watch=statistics.watch_rates,
    )
    return [
        RateFigures(conversions=arm.conversions, **each)
        for arm, each in zip(arms, found, strict=True)
    ]


def of_revenue(
    arms: Sequence[Revenue], reference: int | None, level: float
) -> list[RevenueFigures]:
    """Return the same of what was spent."""
    found = _figures(
        arms,
        reference,
        level,
        name="mean",
        alone=statistics.mean_revenue,
        uplift=statistics.revenue_uplift,
        best=statistics.revenue_best,
        watch=statistics.watch_revenue,
    )
    return [RevenueFigures(total=arm.total, **each) for arm, each in zip(arms, found, strict=True)]


def _figures(
    arms: Sequence[Any],
    reference: int | None,
    level: float,
    *,
    name: str,
    alone: Callable[..., Any],
    uplift: Callable[..., Any],
    best: Callable[..., Any],
    watch: Callable[..., Any],
) -> list[dict[str, Any]]:
    """Return each figure by its name, as statistics' functions for them say it."""
    # Somebody has to have seen any of them, and each has a spread or none is compared.
    chances = best(arms) if len(arms) > 1 and any(each.visitors for each in arms) else None
    sharper = 1 - (1 - level) / max(len(arms) - 1, 1)
    found = []
    for place, arm in enumerate(arms):
        each: dict[str, Any] = dict.fromkeys((name, "uplift", "beats", "best", "look"))
        missing: dict[str, Reason] = {}
        if not arm.visitors:
            missing[name] = Reason.NOBODY
        elif (figure := alone(arm, level=level)) is None:
            missing[name] = Reason.NO_SPREAD
        else:
            each[name] = figure
        if chances is not None:
            each["best"] = chances[place]
        elif len(arms) < 2:
            missing["best"] = Reason.ALONE
        else:
            nobody = not all(each.visitors for each in arms)
            missing["best"] = Reason.NOBODY if nobody else Reason.NO_SPREAD
        base = None if reference is None else arms[reference]
        if reason := _why_not_compared(arm, base, place == reference):
            missing |= dict.fromkeys(("uplift", "beats", "look"), reason)
        else:
            each["uplift"] = uplift(arm, base, level=level)
            if each["uplift"] is None:
                # Of rates there always is one.
                missing["uplift"] = _why_no_uplift(arm, base)
            beats = best((arm, base))
            each["beats"] = beats and beats[0]
            if beats is None:
                missing["beats"] = Reason.NO_SPREAD
            each["look"] = watch(arm, base, level=sharper)
            if each["look"] is None:
                missing["look"] = Reason.TOO_EARLY
        found.append({**each, "missing": MappingProxyType(missing)})
    return found


def _why_not_compared(arm: Any, base: Any, is_reference: bool) -> Reason | None:
    if is_reference:
        return Reason.IS_REFERENCE
    if base is None:
        return Reason.NO_REFERENCE
    return None if arm.visitors and base.visitors else Reason.NOBODY


def _why_no_uplift(arm: Any, base: Any) -> Reason:
    if base.total <= 0:
        return Reason.NO_BASE
    has_spread = all(statistics.mean_revenue(each) is not None for each in (arm, base))
    return Reason.UNBOUNDED if has_spread else Reason.NO_SPREAD


def verdict(
    found: Sequence[RateFigures] | Sequence[RevenueFigures],
    *,
    reference: int | None,
    is_mismatch: bool,
) -> Verdict:
    """Return what may be said of variations with these figures."""
    if is_mismatch:
        return Verdict.MISMATCH
    if len(found) < 2:
        return Verdict.NOTHING_TO_COMPARE
    if reference is None:
        return Verdict.NO_REFERENCE
    looks = [each.look for each in found if each.look is not None]
    if not looks:
        return Verdict.TOO_EARLY
    return Verdict.DECIDED if any(map(is_certain, looks)) else Verdict.UNDECIDED


def is_certain(look: Look) -> bool:
    """Tell whether there is a difference, one way or the other."""
    return look.low > 0 or look.high < 0
