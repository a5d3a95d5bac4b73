"""Split a commission by the rules that reports weigh touchpoints with.

AFFILIATE_ATTRIBUTION = "affiliations.attribution.policy.linear"

Each function here is a policy, as `affiliations.decisions` has it: the candidates in, the earliest
first and never none, and those out that earn something, each with its weight. The weights are
fractions that sum to 1. No Ibis in here: a site whose reports are made elsewhere can do without.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction
from typing import Any

from ..decisions import Candidate
from .conf import parameters
from .rules import RULES, Place

__all__ = ["first", "last", "linear", "position_based", "time_decay"]

Weighed = list[tuple[Candidate, Fraction]]


def last(candidates: Sequence[Candidate]) -> Weighed:
    """Credit the latest click."""
    return _split("last", candidates)


def first(candidates: Sequence[Candidate]) -> Weighed:
    """Credit the earliest click that is still within the window."""
    return _split("first", candidates)


def linear(candidates: Sequence[Candidate]) -> Weighed:
    """Credit every click alike."""
    return _split("linear", candidates)


def position_based(candidates: Sequence[Candidate]) -> Weighed:
    """Credit the first and the last click as AFFILIATE_ATTRIBUTION_POSITION says, 40 % each.

    The others have the rest, each the same. Of two, each gets half where both weights are the same.
    """
    return _split("position_based", candidates)


def time_decay(candidates: Sequence[Candidate]) -> Weighed:
    """Halve a click's weight for each AFFILIATE_ATTRIBUTION_HALF_LIFE that it lies before the last.

    The setting is seven days by default.
    """
    return _split("time_decay", candidates)


def _pick(condition: bool, a: Any, b: Any) -> Any:
    return a if condition else b


def _split(rule: str, candidates: Sequence[Candidate]) -> Weighed:
    count, latest, given = len(candidates), candidates[-1].clicked_on, parameters()
    weights = []
    for position, each in enumerate(candidates, 1):
        before_last = (latest - each.clicked_on) // timedelta(microseconds=1)
        # Somebody brought every one of them, and of leads nothing is known here.
        place = Place(position, count, before_last, last_named=count, lead=0)
        # A float is a fraction, and those sum to 1 whatever they are divided by.
        weights.append(Fraction(RULES[rule](place, given, _pick)))
    whole = sum(weights)
    # What rounds to nothing beside the others is left out where shares are made of the weights.
    return [(each, x / whole) for each, x in zip(candidates, weights, strict=True) if x]
