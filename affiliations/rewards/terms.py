"""What a rule pays for a conversion: exact arithmetic on minor units.

No Django in here. Every amount is rounded once, half to even, and what a division leaves over goes
to the largest remainders (`affiliations.money.apportion`), so that parts always sum to their whole.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import MAXYEAR, UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from ..money import apportion, number

__all__ = [
    "MAX_PERCENT",
    "PERIODS",
    "Claim",
    "Earned",
    "History",
    "Terms",
    "Tier",
    "earn",
    "months_after",
    "plain",
    "reversed_part",
    "span",
]

MAX_PERCENT = 100
#: How far a rule's volume and its caps reach back.
PERIODS = ("month", "quarter", "year", "ever")


@dataclass(frozen=True, slots=True)
class Tier:
    """What a rule pays once a partner has brought `start` in the period.

    `start` counts conversions, or minor units of the rule's currency, before the one in question;
    `rate` is what `Terms.rate` is.
    """

    start: int
    rate: Decimal | int


@dataclass(frozen=True, slots=True)
class Terms:
    """What a rule pays, as it was agreed; copied to what is earned by it, and never changed there.

    `rate` is a percentage of the amount as a Decimal, or a flat sum for each conversion as an int
    of minor units. `currency` is that of every sum in here, "" where there is none. Of the limits,
    `cap` and `period_cap` are in minor units, `times` and `months` count for each person whom the
    partner has sent, and None stands for no limit.
    """

    rate: Decimal | int
    currency: str = ""
    tiers: tuple[Tier, ...] = ()
    by_amount: bool = False
    period: str = "month"
    cap: int | None = None
    period_cap: int | None = None
    times: int | None = None
    months: int | None = None

    @property
    def is_flat(self) -> bool:
        """Tell whether it pays a sum for each conversion, and not a part of the amount."""
        return isinstance(self.rate, int)

    @property
    def looks_back(self) -> bool:
        """Tell whether what it pays depends on what the partner has brought before."""
        return bool(self.tiers) or any(
            limit is not None for limit in (self.period_cap, self.times, self.months)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return them as what `json.dumps` accepts: a percentage as text, a sum as a number."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        found["rate"] = plain(self.rate)
        found["tiers"] = [[tier.start, plain(tier.rate)] for tier in self.tiers]
        return found

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Terms:
        """Return what `as_dict` has made a dictionary of."""
        tiers = tuple(Tier(start, _rate(rate)) for start, rate in stored["tiers"])
        return cls(**{**stored, "rate": _rate(stored["rate"]), "tiers": tiers})


def plain(rate: Decimal | int) -> str | int:
    """Return a rate as what `json.dumps` accepts: a percentage as text, a sum as a number."""
    if isinstance(rate, int):
        return rate
    # Not by normalize(), which rounds to the precision of the caller's context.
    text = format(rate, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rate(stored: str | int) -> Decimal | int:
    return stored if isinstance(stored, int) else number(stored)


@dataclass(frozen=True, slots=True)
class History:
    """What a partner has brought under a rule before, as far as the rule's terms ask for it.

    `volume` is what tiers count and `earned` what was paid in minor units, both in the period;
    `times` is how often the same person has converted, and `first` when they first did. What was
    taken back whole, or rejected in review, is in none of them.
    """

    volume: int = 0
    earned: int = 0
    times: int = 0
    first: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as what `json.dumps` accepts."""
        first = self.first and self.first.isoformat()
        return {**{each.name: getattr(self, each.name) for each in fields(self)}, "first": first}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> History:
        """Return what `as_dict` has made a dictionary of."""
        first = stored["first"] and datetime.fromisoformat(stored["first"])
        return cls(**{**stored, "first": first})


@dataclass(frozen=True, slots=True)
class Claim:
    """One partner's part in a conversion, and the rule that it is paid by.

    `rule` tells rules apart, `base` is the part's amount in minor units, and `weight` how much of
    the conversion it is: those of a conversion sum to 1.
    """

    rule: Any
    terms: Terms
    base: int = 0
    weight: Decimal | Fraction | int = 1
    history: History = History()


@dataclass(frozen=True, slots=True)
class Earned:
    """What a claim earns, in minor units, by which rate, and what made it other than usual.

    `steps` are codes, in order: "times" or "months" where the person's time is over, "tier", "cap",
    "period_cap".
    """

    minor: int
    rate: Decimal | int
    steps: tuple[str, ...] = ()


def earn(claims: Sequence[Claim], when: datetime) -> list[Earned]:
    """Return what each partner with a part in one conversion at `when` earns.

    A percentage is taken of the amount, and a flat sum is earned whatever the amount, by each as
    much of it as their part is. Partners whom the same rule pays are paid as one, up to its cap,
    and share: that several had a part makes a conversion neither dearer nor cheaper. Nothing is
    earned from an amount below zero. The amounts are in the rules' currencies, where they have one.

    >>> from decimal import Decimal
    >>> now = datetime(2026, 11, 28, tzinfo=UTC)
    >>> [earned] = earn([Claim("a", Terms(Decimal("7.5")), base=4990)], now)
    >>> earned.minor  # 374.25 cents
    374
    >>> halves = [Claim("b", Terms(501, "EUR"), weight=Decimal("0.5"))] * 2
    >>> [each.minor for each in earn(halves, now)]
    [251, 250]
    """
    found = [_rate_of(claim, when) for claim in claims]
    minors = [0] * len(claims)
    steps = [list(codes) for _, codes in found]
    together: dict[Any, dict[int, Fraction]] = {}
    for position, (claim, (rate, _)) in enumerate(zip(claims, found, strict=True)):
        if rate is not None and (exact := _exact(claim, rate)):
            together.setdefault(claim.rule, {})[position] = exact
    for parts in together.values():
        total = round(sum(parts.values()))
        cap = claims[min(parts)].terms.cap
        if cap is not None and total > cap:
            total = cap
            for position in parts:
                steps[position].append("cap")
        for position, minor in zip(parts, apportion(total, [*parts.values()]), strict=True):
            minors[position] = minor
    for position, claim in enumerate(claims):
        limit = claim.terms.period_cap
        if limit is not None and minors[position] > (left := max(limit - claim.history.earned, 0)):
            minors[position] = left
            steps[position].append("period_cap")
    return [
        Earned(minor, claim.terms.rate if rate is None else rate, tuple(codes))
        for claim, minor, (rate, _), codes in zip(claims, minors, found, steps, strict=True)
    ]


def _exact(claim: Claim, rate: Decimal | int) -> Fraction:
    """Return what a claim earns by a rate, with whatever fraction of a minor unit that comes to."""
    if isinstance(rate, int):
        return rate * Fraction(claim.weight)
    return max(claim.base, 0) * Fraction(rate) / 100


def _rate_of(claim: Claim, when: datetime) -> tuple[Decimal | int | None, list[str]]:
    """Return the rate that a claim is paid by, None where it is paid nothing, and why."""
    terms, history = claim.terms, claim.history
    if terms.times is not None and history.times >= terms.times:
        return None, ["times"]
    first, months = history.first, terms.months
    if first is not None and months is not None and when >= months_after(first, months):
        return None, ["months"]
    reached = [tier for tier in terms.tiers if tier.start <= history.volume]
    if not reached:
        return terms.rate, []
    return max(reached, key=lambda tier: tier.start).rate, ["tier"]


def reversed_part(earned: int, base: int, standing: int) -> int:
    """Return how much of what was earned is gone once only `standing` of `base` still counts.

    Of all that was taken back until now, so that it matters neither in how many parts nor in which
    order: the whole of it takes back exactly what was earned.

    >>> [reversed_part(100, 300, left) for left in (200, 100, 0)]
    [33, 67, 100]
    """
    if standing <= 0 or base <= 0:
        return earned
    return round(Fraction(earned) * (base - standing) / base)


def span(period: str, when: datetime) -> tuple[datetime, datetime] | None:
    """Return the first moment of the period that `when` is in, by UTC, and the first one after it.

    Without a time zone where `when` has none, which is by the process's own clock then. None where
    it is all of the time there is.
    """
    if period == "ever":
        return None
    is_naive = when.tzinfo is None
    when = when.astimezone(UTC)
    months = {"month": 1, "quarter": 3, "year": 12}[period]
    first = when.month - (when.month - 1) % months
    start = datetime(when.year, first, 1, tzinfo=UTC)
    ends = start, months_after(start, months)
    if not is_naive:
        return ends
    # Where a site has no time zones, all its moments are by the process's own clock.
    begin, end = (each.astimezone().replace(tzinfo=None) for each in ends)
    return begin, end


def months_after(when: datetime, months: int) -> datetime:
    """Return the same day that many months later, or the last one of that month.

    What would be past the end of all years is the end of them.

    >>> months_after(datetime(2027, 11, 30, tzinfo=UTC), 3).date().isoformat()
    '2028-02-29'
    """
    whole = when.month - 1 + months
    year, month = when.year + whole // 12, whole % 12 + 1
    if year > MAXYEAR:
        return datetime.max.replace(tzinfo=when.tzinfo)
    return when.replace(year=year, month=month, day=min(when.day, monthrange(year, month)[1]))
