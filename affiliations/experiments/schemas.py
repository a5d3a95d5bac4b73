"""What the API of results answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, WithJsonSchema

from ..restfields import AnyProblem, ShownMoment, example
from .figures import Verdict
from .models import Campaign as Row

__all__ = ["Campaign", "Listing", "Problem", "Results"]

#: An amount, exact: in major units, as text.
Exact = Annotated[Decimal, WithJsonSchema({"type": "string"})]


class Campaign(BaseModel):
    """A campaign."""

    id: str
    slug: str
    name: str
    type: Literal[tuple(Row.Type.values)]  # type: ignore[valid-type]
    state: Literal[tuple(Row.State.values)]  # type: ignore[valid-type]
    property: str
    goals: list[str]


class Listing(BaseModel):
    """Campaigns, the latest first."""

    campaigns: list[Campaign]
    next: int | None


class Interval(BaseModel):
    """A figure, and the interval that it is in with the probability of `level`."""

    value: float
    low: float
    high: float


class Look(BaseModel):
    """The difference from the reference, as it may be looked at every day."""

    difference: float
    low: float
    high: float
    p: float


class Compared(BaseModel):
    """How a variation does beside the others; null where nothing can be said yet."""

    uplift: Interval | None
    beats: float | None
    best: float | None
    look: Look | None


class Rate(Compared):
    """How many of its visitors have reached the goal."""

    conversions: int
    rate: Interval | None


class Revenue(Compared):
    """What its visitors have spent; per visitor in major units."""

    total: Exact
    per_visitor: Interval | None


class Variation(BaseModel):
    """What came of a variation."""

    id: str
    name: str
    reference: bool
    retired: bool
    visitors: int
    expected: float | None
    conversion: Rate
    revenue: Revenue | None


class Group(BaseModel):
    """What came of an audience."""

    id: str
    name: str
    visitors: int
    mixed: int
    sample_ratio_p: float | None
    mismatch: bool
    verdict: Literal[tuple(Verdict)]  # type: ignore[valid-type]
    revenue_verdict: Literal[tuple(Verdict)] | None  # type: ignore[valid-type]
    other_currencies: dict[str, int]
    variations: list[Variation]


class Results(BaseModel):
    """What came of a campaign, and what was asked."""

    campaign: str
    goal: str
    since: ShownMoment | None
    until: ShownMoment | None
    days: int | None
    partner: str | None
    currency: str | None
    cap: Exact | None
    level: float
    groups: list[Group]


class Problem(AnyProblem):
    """An error, as RFC 9457 has it."""

    model_config = example(
        type="about:blank",
        title="Not Found",
        status=404,
        detail="campaign: there is none with this id or slug",
        code="unknown-campaign",
        errors=[],
    )
