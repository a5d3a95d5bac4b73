"""Weigh the touchpoints on the path to a conversion, by rules that look at that path alone.

A rule is one expression of a touchpoint's place. Given columns of Ibis it is a column, on every
engine; given numbers it is a number, by which a policy splits a commission. No Django and no Ibis
in here.

Sources: the formulas are those that web analytics have published: for last and first interaction,
last non-direct, linear and position-based with 40/20/40 see Matomo's Multi Channel Conversion
Attribution; for time decay with a half-life of a week see Google Ads' AttributionModel; for the W
shape, with the conversion in place of the opportunity, see Adobe Marketo Measure, formerly Bizible.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["OF_ONE", "RULES", "Parameters", "Place", "Rule"]

#: Half-lives after which a weight is next to nothing, and stays what it is.
FAINTEST = 1000.0
#: Chooses: pick(condition, a, b) is a where the condition holds, else b.
Pick = Callable[[Any, Any, Any], Any]


class Place(NamedTuple):
    """Where on a path a touchpoint stands: numbers, or columns of them."""

    #: From 1, the earliest.
    position: Any
    #: How many there are on the path.
    count: Any
    #: Microseconds from this one to the last one of the path.
    before_last: Any
    #: The position of the last one by which somebody was brought, 0 where nobody was.
    last_named: Any
    #: The position of the last one before the lead, 0 where there was no lead.
    lead: Any


class Parameters(NamedTuple):
    """What a site may choose of the rules."""

    #: Of the first and of the last touchpoint, for `position_based`.
    first: float = 0.4
    last: float = 0.4
    #: Microseconds in which a touchpoint loses half of its weight.
    half_life: int = 7 * 86_400_000_000


Rule = Callable[[Place, Parameters, Pick], Any]


def last(at: Place, given: Parameters, pick: Pick) -> Any:
    """Give everything to the last touchpoint."""
    return pick(at.position == at.count, 1.0, 0.0)


def last_non_direct(at: Place, given: Parameters, pick: Pick) -> Any:
    """Give everything to the last touchpoint that was no direct visit, or else to the last one."""
    return pick(at.position == pick(at.last_named > 0, at.last_named, at.count), 1.0, 0.0)


def first(at: Place, given: Parameters, pick: Pick) -> Any:
    """Give everything to the first touchpoint."""
    return pick(at.position == 1, 1.0, 0.0)


def linear(at: Place, given: Parameters, pick: Pick) -> Any:
    """Give each touchpoint the same."""
    return pick(at.position > 0, 1.0, 0.0)


def position_based(at: Place, given: Parameters, pick: Pick) -> Any:
    """Give 40 % to the first, 40 % to the last, and the rest to those between, each the same.

    Of two, each gets half where both weights are the same. This is the U shape.
    """
    # Not 1 - first - last: of 0.8 and 0.2 that leaves less than nothing.
    between = (1 - (given.first + given.last)) / pick(at.count > 2, at.count - 2, 1)
    ends = pick(at.position == 1, given.first, pick(at.position == at.count, given.last, between))
    return pick(at.count == 1, 1.0, ends)


def time_decay(at: Place, given: Parameters, pick: Pick) -> Any:
    """Halve the weight for each half-life that a touchpoint lies before the last one."""
    # Of the last one, not of the conversion: the shares are the same, and it never is 0 for all.
    halvings = at.before_last / float(given.half_life)
    # Of a number too small for a float, PostgreSQL makes an error.
    return 2.0 ** -pick(halvings < FAINTEST, halvings, FAINTEST)


def w_shaped(at: Place, given: Parameters, pick: Pick) -> Any:
    """Give 30 % each to the first, the last before the lead, and the last; 10 % to the others.

    The lead is a conversion of another trigger, a registration say. Where two of the three are one
    touchpoint it gets both parts; where there are no others their part is the three's. A path
    without a lead is weighed as a U, by `position_based`.
    """
    rest = (
        at.count
        - 1
        - pick(at.count > 1, 1, 0)
        - pick(at.lead > 1, pick(at.lead < at.count, 1, 0), 0)
    )
    is_one = pick(
        at.position == 1, 1, pick(at.position == at.count, 1, pick(at.position == at.lead, 1, 0))
    )
    parts = (
        pick(at.position == 1, 0.3, 0.0)
        + pick(at.position == at.lead, 0.3, 0.0)
        + pick(at.position == at.count, 0.3, 0.0)
    )
    others = 0.1 / pick(rest > 0, rest, 1)
    w = pick(is_one == 1, parts, others)
    return pick(at.lead > 0, w, position_based(at, given, pick))


#: Rules that weigh one touchpoint 1, and all others 0.
OF_ONE = ("last", "last_non_direct", "first")
#: By the names that reports, and settings, know them by.
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        each.__name__: each
        for each in (
            last,
            last_non_direct,
            first,
            linear,
            position_based,
            time_decay,
            w_shaped,
        )
    }
)
