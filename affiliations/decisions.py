"""Decide whom a conversion is credited to, and say why.

No Django in here: candidates in, shares and a record out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from .exceptions import InvalidShares
from .money import apportion

__all__ = ["Candidate", "Decision", "Policy", "Share", "decide", "explain", "first", "last"]

#: Weights are kept to six decimals.
PARTS = 10**6
TOLERANCE = Fraction(1, 10**9)

KNOWN_FROM = {
    "session": "in the browser's session",
    "cookie": "by the browser's cookie",
    "user": "as an earlier visit of the same user",
    "transaction": "by the click through a link that the purchase fulfils",
    "caller": "named by the trigger itself",
}
DROPPED = {
    "inactive": "there is no active deal with the partner",
    "not subscribed": "the partner is not subscribed to this trigger",
    "outside the window": "the last click was too long ago",
    "ended": "the visit was successful already, and ends with that",
    "another user": "the visit belongs to another user",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A visit that came into question: known from where, and dropped for what, "" if it was not."""

    visitor_id: int
    partner_uid: str
    clicked_on: datetime
    known_from: str
    dropped: str = ""


class Share(NamedTuple):
    """How much of the conversion one visitor earns, 0 < weight <= 1."""

    visitor_id: int
    weight: Decimal


#: Gets the candidates that may be credited, the earliest click first, never empty; answers with
#: (candidate, weight) pairs whose weights sum to 1.
Policy = Callable[[Sequence[Candidate]], Iterable[tuple[Candidate, Any]]]


class Decision(NamedTuple):
    """The shares, largest first, and the record that is stored with the conversion."""

    shares: list[Share]
    record: dict[str, Any]


def last(candidates: Sequence[Candidate]) -> list[tuple[Candidate, int]]:
    """Credit the latest click."""
    return [(candidates[-1], 1)]


def first(candidates: Sequence[Candidate]) -> list[tuple[Candidate, int]]:
    """Credit the earliest click that is still within the window."""
    return [(candidates[0], 1)]


def decide(candidates: Iterable[Candidate], name: str, policy: Policy) -> Decision | None:
    """Return who is credited under `policy`, known as `name`, or None if nobody can be.

    Raises InvalidShares where the policy answers with anything but weights above 0 that sum to 1,
    each for another one of the candidates that it was given.
    """
    considered = sorted(candidates, key=lambda each: (each.clicked_on, each.visitor_id))
    eligible = [each for each in considered if not each.dropped]
    if not eligible:
        return None
    answer = list(policy(eligible))
    shares = _shares(answer, {each.visitor_id for each in eligible}, name)
    weights = {share.visitor_id: str(share.weight) for share in shares}
    record = {
        "policy": name,
        "candidates": [
            {
                "visitor": each.visitor_id,
                "partner": each.partner_uid,
                "clicked_on": each.clicked_on.isoformat(),
                "known_from": each.known_from,
                "dropped": each.dropped,
                "weight": weights.get(each.visitor_id, "0"),
            }
            for each in considered
        ],
    }
    return Decision(shares, record)


def _shares(answer: list[Any], allowed: set[int], name: str) -> list[Share]:
    try:
        ids = [candidate.visitor_id for candidate, _ in answer]
        weights = [Fraction(weight) for _, weight in answer]
    except (TypeError, ValueError, OverflowError, AttributeError, ArithmeticError) as error:
        raise InvalidShares(
            f"the policy {name} must answer with (candidate, weight) pairs, not {answer!r}"
        ) from error
    if len(set(ids)) != len(ids) or not set(ids) <= allowed:
        raise InvalidShares(
            f"the policy {name} names a visitor twice, or one that it was not given"
        )
    if any(weight <= 0 for weight in weights) or abs(sum(weights, Fraction()) - 1) > TOLERANCE:
        raise InvalidShares(f"the policy {name} must answer with weights above 0 that sum to 1")
    parts = apportion(PARTS, weights)
    shares = [
        Share(visitor_id, Decimal(part).scaleb(-6))
        for visitor_id, part in zip(ids, parts, strict=True)
        if part
    ]
    return sorted(shares, key=lambda share: -share.weight)


#: What decided, in words: a rule, or one of the attribution's policies by the same name.
RULES = {
    "last": "The latest click earns the conversion.",
    "first": "The earliest click within the window earns the conversion.",
    "linear": "Each click within the window earns the same part of the conversion.",
    "position_based": "Each click earns a part of the conversion, by its position.",
    "time_decay": "Each click earns a part of the conversion, the less the longer ago it was.",
    "transaction": "The most recent click through a link to what was bought earns it.",
}


def explain(record: Mapping[str, Any]) -> str:
    """Say in words why a conversion was credited as its stored `record` tells, a line a visit."""
    policy = record.get("policy", "")
    rule = RULES.get(policy.removeprefix("affiliations.attribution.policy."))
    rule = rule or (f"The site's own policy {policy} decided." if policy else "No record was kept.")
    return "\n".join([rule, *(_line(each) for each in record.get("candidates", []))])


def _line(candidate: Mapping[str, Any]) -> str:
    weight = Fraction(candidate["weight"])
    if weight:
        verdict = "credited" if weight == 1 else f"credited with {float(weight):.2%}"
    else:
        reason = DROPPED.get(candidate["dropped"], candidate["dropped"])
        verdict = f"not credited: {reason}" if reason else "not credited: another click won"
    known = KNOWN_FROM.get(candidate["known_from"], candidate["known_from"])
    return (
        f"Visitor {candidate['visitor']} of partner {candidate['partner']}, who clicked on "
        f"{candidate['clicked_on'][:16].replace('T', ' at ')} UTC, found {known}: {verdict}."
    )
