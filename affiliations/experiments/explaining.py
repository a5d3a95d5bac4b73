"""Say why somebody sees what they see of a campaign, also where that is nothing.

    found = explain("visitor-1", campaign, context={"plan": "gold"})
    found.sees, found.because, [each.is_meant for each in found.groups]

Nothing is written, and nobody is given anything by asking.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from django.db import router
from django.utils import timezone

from ..tracking import properties
from ..tracking.identities import Name
from . import deciding, live, publishing, rules
from .deciding import Visitor, names_of
from .exceptions import InvalidCampaign
from .models import Assignment, Campaign, CampaignVersion, Environment
from .rules import Choice, Considered

__all__ = ["Because", "Explanation", "Stored", "explain"]


class Because(StrEnum):
    """Why a campaign is shown to nobody at all, or that it is shown."""

    SHOWN = "shown"
    INVALID = "invalid"
    DRAFT = "draft"
    PAUSED = "paused"
    ARCHIVED = "archived"
    PANIC = "panic"
    EARLY = "early"
    LATE = "late"


class Stored(NamedTuple):
    """What somebody was given, as it is stored."""

    row: Assignment
    #: The campaign as it was in force when that was decided; None where it is not known any more.
    by: rules.Campaign | None
    #: Whether under their own id, or under what they were called before they logged in.
    is_own: bool


class Explanation(NamedTuple):
    """Why somebody sees what they see."""

    because: Because
    #: The campaign that was asked, None where it is INVALID: then `problem` says why.
    campaign: rules.Campaign | None
    #: None where it has never been in force, and its rows were asked.
    version: int | None
    problem: str
    #: Whether by the campaigns that exclude each other they take part in this one.
    takes_part: bool
    #: The id that they are put into buckets by.
    hashed_id: str
    #: What was made of each group, up to that which decided.
    groups: Sequence[Considered]
    #: What they see, or would see if the campaign were shown.
    choice: Choice | None
    stored: Sequence[Stored]

    @property
    def sees(self) -> Choice | None:
        """What they see at this moment."""
        return self.choice if self.because == Because.SHOWN else None

    @property
    def is_kept(self) -> bool:
        """Whether they see it because they have seen it before."""
        return any(each.is_last and each.is_kept for each in self.groups)


def explain(
    visitor_id: str,
    campaign: Campaign,
    *,
    context: Mapping[str, Any] | None = None,
    anonymous_id: str = "",
) -> Explanation:
    """Explain what somebody sees of a campaign at this moment, in whatever state it is.

    `context` is what conditions are tested against. What has never been in force is explained as it
    would be if it were started now; everything else by the version that is in force or was last. At
    most six queries, and those of `publishing.preview` for a draft.
    """
    using = router.db_for_read(Campaign)
    row = Campaign.objects.using(using).select_related("current", "property").get(pk=campaign.pk)
    visitor = Visitor(visitor_id, names_of(visitor_id), anonymous_id, names_of(anonymous_id))
    stored = _stored(row, visitor, using)
    hashed_id = anonymous_id if anonymous_id and visitor.names else ""
    try:
        asked = _asked(row)
    except InvalidCampaign as error:
        return Explanation(
            because=Because.INVALID,
            campaign=None,
            version=None,
            problem=str(error),
            takes_part=False,
            hashed_id=hashed_id or visitor_id,
            groups=[],
            choice=None,
            stored=stored,
        )
    known = _known(row, asked, visitor, context or {})
    takes_part, groups = rules.considered(
        asked,
        known,
        visitor_id,
        hashed_id=hashed_id,
        kept=_kept(row, asked, visitor, using),
        among=[
            each
            for each in live.of_property(row.property_id).now().campaigns
            if each.id != asked.id
        ],
    )
    return Explanation(
        because=_because(row, using),
        campaign=asked,
        version=row.current.number if row.current else None,
        problem="",
        takes_part=takes_part,
        hashed_id=hashed_id or visitor_id,
        groups=groups,
        choice=next((each.choice for each in groups if each.is_last), None),
        stored=stored,
    )


def _known(
    row: Campaign, asked: rules.Campaign, visitor: Visitor, context: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return what conditions are tested against: what is told, and what only this suite knows."""
    prop = properties.find(row.property.public_key)
    if prop is None:
        return context
    return deciding.known_of(
        prop, visitor, context, live.InForce([asked], 0, None, keeps=False), {}
    )


def _asked(row: Campaign) -> rules.Campaign:
    if row.current is not None:
        return rules.of_version(json.loads(row.current.rules), row.current.number)
    return rules.of_version(publishing.preview(row), 1)


def _because(row: Campaign, using: str) -> Because:
    if row.state != Campaign.State.LIVE:
        return Because(row.state)
    now = timezone.now()
    if Environment.objects.using(using).filter(property=row.property_id, panic=True).exists():
        return Because.PANIC
    if row.starts_on is not None and now < row.starts_on:
        return Because.EARLY
    if row.ends_on is not None and now >= row.ends_on:
        return Because.LATE
    return Because.SHOWN


def _kept(
    row: Campaign, asked: rules.Campaign, visitor: Visitor, using: str
) -> dict[str, str] | None:
    """Return what is kept, where decisions look for it, too."""
    prop = properties.find(row.property.public_key)
    if prop is None or not visitor.names:
        return None
    if not (visitor.anonymous_id or asked.has_moved or _keeps(row.property_id, using)):
        return None
    own, before = deciding.kept_by(prop, visitor)
    return {**before, **own}


def _keeps(property_id: int, using: str) -> bool:
    environments = Environment.objects.using(using).filter(property=property_id, keeps=True)
    return environments.exists() or live.of_property(property_id).now().keeps


def _stored(row: Campaign, visitor: Visitor, using: str) -> list[Stored]:
    names = [*visitor.names, *visitor.anonymous_names]
    values = {each.value for each in names}
    if not values:
        return []
    rows = Assignment.objects.using(using).filter(
        campaign=row.pk, identity__property=row.property_id, identity__value__in=values
    )
    rows = rows.select_related("identity", "group", "variation").order_by("pk")
    # A database may take values for equal that are not.
    found = [each for each in rows if Name(each.identity.kind, each.identity.value) in names]
    versions = CampaignVersion.objects.using(using).filter(
        campaign=row.pk, number__in={each.version for each in found}
    )
    by = {each.number: rules.of_version(json.loads(each.rules), each.number) for each in versions}
    own = set(visitor.names)
    return [
        Stored(each, by.get(each.version), Name(each.identity.kind, each.identity.value) in own)
        for each in found
    ]
