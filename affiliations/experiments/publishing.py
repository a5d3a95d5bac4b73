"""Put campaigns into force, end them, and keep each of the ways in which they were in force.

    start(campaign=campaign)
    ...  # change its rows
    publish(campaign=campaign)

What is in force is a version, which never changes; the rows are what the next one is made of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import router
from django.utils import timezone

from ..exceptions import AffiliationsError, InvalidTransition
from ..savepoints import retried
from ..tracking.models import Property
from . import live, modifications, targeting
from .allocation import Runs, reallocated, spread
from .exceptions import InvalidCampaign
from .hashing import BUCKETS
from .models import (
    Campaign,
    CampaignVersion,
    Environment,
    Exclusion,
    Variation,
    VariationGroup,
)

__all__ = [
    "archive",
    "environment_of",
    "pause",
    "preview",
    "publish",
    "reschedule",
    "set_panic",
    "start",
]

State = Campaign.State
#: In which a campaign holds its part of an exclusion group.
HOLDING = (State.LIVE, State.PAUSED)


def start(*, campaign: Campaign, by: Any = None) -> Campaign:
    """Put a campaign into force as its rows are, and return it.

    Raises InvalidCampaign, which names the field, where it cannot be shown like this, and
    InvalidTransition where it is live already, or archived. `by` is the user who does so.
    """

    def act(using: str) -> None:
        _transition(campaign, (State.DRAFT, State.PAUSED), State.LIVE, using)
        _publish(campaign, by, using)

    return _acted(campaign, act)


def publish(*, campaign: Campaign, by: Any = None) -> Campaign:
    """Put the rows of a live campaign into force as they are now, and return it.

    Where that changes what anybody sees it is another version. Raises as `start` does.
    """

    def act(using: str) -> None:
        _transition(campaign, (State.LIVE,), State.LIVE, using)
        _publish(campaign, by, using)

    return _acted(campaign, act)


def pause(*, campaign: Campaign) -> Campaign:
    """Have nobody see a campaign until it is started again; raises InvalidTransition."""

    def act(using: str) -> None:
        _transition(campaign, (State.LIVE,), State.PAUSED, using)

    return _acted(campaign, act)


def archive(*, campaign: Campaign) -> Campaign:
    """End a campaign for good; raises InvalidTransition where it has ended already.

    What was seen of it stays.
    """

    def act(using: str) -> None:
        states = (State.DRAFT, State.LIVE, State.PAUSED)
        _transition(campaign, states, State.ARCHIVED, using)
        row = Campaign.objects.using(using).select_related("current").get(pk=campaign.pk)
        if held := _held_by(row):
            _leave(held["id"], row, using)

    return _acted(campaign, act)


def reschedule(
    *, campaign: Campaign, starts_on: datetime | None, ends_on: datetime | None
) -> Campaign:
    """Have a campaign begin and end at other times, if it is live at once, and return it."""

    def act(using: str) -> None:
        rows = Campaign.objects.using(using).filter(pk=campaign.pk)
        rows.update(starts_on=starts_on, ends_on=ends_on)

    return _acted(campaign, act)


def preview(campaign: Campaign) -> dict[str, Any]:
    """Return what the next version of a campaign would hold; writes nothing.

    As a live campaign's version holds it, unless something has been changed since. Raises
    InvalidCampaign where it cannot be shown as its rows are.
    """
    using = campaign._state.db or router.db_for_read(Campaign)
    row = Campaign.objects.using(using).select_related("current", "exclusion").get(pk=campaign.pk)
    exclusion = row.exclusion
    if exclusion is not None:
        exclusion.runs = _shared_out(exclusion, row, row.exclusion_share, using)
    before = json.loads(row.current.rules) if row.current else None
    return _rules(row, before, exclusion, using)


def set_panic(*, prop: Property, panic: bool) -> Environment:
    """Have nobody see any variation in a property, or end that; return its environment."""
    using = router.db_for_write(Campaign)

    def act() -> Environment:
        environment = _changed(prop.pk, using)
        environment.panic = panic
        environment.save(using=using, update_fields=["panic"])
        return environment

    done = retried(act, using)
    live.forget()
    return done


def environment_of(prop: Property, using: str) -> Environment:
    """Return what holds for all campaigns of a property, made if it is missing."""
    return Environment.objects.using(using).get_or_create(property=prop)[0]


def _acted(campaign: Campaign, act: Any) -> Campaign:
    using = router.db_for_write(Campaign)

    def both() -> None:
        _changed(campaign.property_id, using)
        act(using)

    retried(both, using)
    live.forget()
    campaign.refresh_from_db(using=using)
    return campaign


def _changed(property_id: int, using: str) -> Environment:
    """Lock a property's environment, and note that it changes; return it.

    So that no two changes are at the same second by what clients are told: they would miss one.
    """
    rows = Environment.objects.using(using)
    rows.get_or_create(property_id=property_id)
    environment = rows.select_for_update().get(property_id=property_id)
    now = timezone.now()
    environment.stamp = max(int(now.timestamp()), live.stamp_at(environment, now) + 1)
    environment.changed_on = now
    environment.save(using=using, update_fields=["stamp", "changed_on"])
    return environment


def _transition(campaign: Campaign, sources: Sequence[str], target: str, using: str) -> None:
    rows = Campaign.objects.using(using).filter(pk=campaign.pk, state__in=sources)
    if not rows.update(state=target):
        raise InvalidTransition("campaign: is not in a state that this begins with")


def _publish(campaign: Campaign, by: Any, using: str) -> None:
    row = Campaign.objects.using(using).select_related("current", "exclusion").get(pk=campaign.pk)
    before = json.loads(row.current.rules) if row.current else None
    held, exclusion = _held_by(row), row.exclusion
    if held and (exclusion is None or exclusion.uid != held["id"]):
        _leave(held["id"], row, using)
    if exclusion is not None:
        exclusion = Exclusion.objects.using(using).select_for_update().get(pk=exclusion.pk)
        exclusion.runs = _shared_out(exclusion, row, row.exclusion_share, using)
        exclusion.save(using=using, update_fields=["runs"])
    rules = _rules(row, before, exclusion, using)
    text = json.dumps(rules)
    if row.current is not None and row.current.rules == text:
        return
    number = row.current.number + 1 if row.current else 1
    row.current = CampaignVersion.objects.using(using).create(
        campaign=row, number=number, rules=text, created_by=by
    )
    row.save(using=using, update_fields=["current"])


def _held_by(campaign: Campaign) -> dict[str, Any] | None:
    """Return what a campaign holds of an exclusion group: not as its row says, but in force."""
    if campaign.current is None:
        return None
    found: dict[str, Any] | None = json.loads(campaign.current.rules)["exclusion"]
    return found


def _leave(uid: str, campaign: Campaign, using: str) -> None:
    """Give what a campaign holds of an exclusion group to whoever comes."""
    for exclusion in Exclusion.objects.using(using).select_for_update().filter(uid=uid):
        exclusion.runs = _shared_out(exclusion, campaign, 0, using)
        exclusion.save(using=using, update_fields=["runs"])


def _shared_out(exclusion: Exclusion, campaign: Campaign, share: int, using: str) -> Runs:
    """Return whose the buckets of an exclusion group are if a campaign has such a share.

    The others hold what they hold in force, whatever their rows say meanwhile. Raises
    InvalidCampaign where that is more than there is.
    """
    rows = Campaign.objects.using(using).exclude(pk=campaign.pk).select_related("current")
    others = rows.filter(property=exclusion.property_id, state__in=HOLDING).order_by("pk")
    wanted = {
        each.uid: len(held["buckets"])
        for each in others
        if (held := _held_by(each)) and held["id"] == exclusion.uid
    }
    left = BUCKETS - sum(wanted.values())
    if share > left:
        raise InvalidCampaign(
            f"exclusion_share: {exclusion.name} has {left} % left, and {share} % are wanted"
        )
    return reallocated(exclusion.runs, {**wanted, campaign.uid: share})


def _rules(
    campaign: Campaign, before: Mapping[str, Any] | None, group: Exclusion | None, using: str
) -> dict[str, Any]:
    exclusion = None
    if group is not None:
        owners = spread(group.runs)
        buckets = [i for i, owner in enumerate(owners) if owner == campaign.uid]
        held: dict[str, Any] = (before and before["exclusion"]) or {"buckets": []}
        moved = bool(held.get("has_moved")) or not {*held["buckets"]} <= {*buckets}
        moved = moved or held.get("id", group.uid) != group.uid
        exclusion = {"id": group.uid, "buckets": buckets, "has_moved": moved}
    earlier = {each["id"]: each for each in before["groups"]} if before else {}
    rows = VariationGroup.objects.using(using).filter(campaign=campaign)
    groups = [
        _group(each, variations, earlier.get(each.uid))
        for each in rows.prefetch_related("variations")
        if (variations := _shown(each)) is not None
    ]
    if not groups:
        raise InvalidCampaign("groups: there must be one at least")
    return {
        "pk": campaign.pk,
        "id": campaign.uid,
        "slug": campaign.slug,
        "name": campaign.name,
        "type": campaign.type,
        "exclusion": exclusion,
        "groups": groups,
    }


def _shown(group: VariationGroup) -> list[Variation] | None:
    """Return the variations of a group that are shown; None where all of them are retired."""
    every = list(group.variations.all())
    if not every:
        raise InvalidCampaign(f"variations: {group.name} must have one at least")
    return [each for each in every if not each.retired] or None


def _group(
    group: VariationGroup, variations: Sequence[Variation], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    if sum(each.is_reference for each in variations) > 1:
        raise InvalidCampaign(f"is_reference: only one variation of {group.name} can be it")
    wanted = {each.uid: each.allocation for each in variations}
    if sum(wanted.values()) > BUCKETS:
        raise InvalidCampaign(
            f"allocation: the shares of {group.name} come to {sum(wanted.values())} %, "
            "and there are 100"
        )
    earlier: Runs = [(owner, width) for owner, width in before["runs"]] if before else []
    runs = reallocated(earlier, wanted)
    moved = any(
        old is not None and old != new
        for old, new in zip(spread(earlier), spread(runs), strict=True)
    )
    try:
        targeting.read(group.targeting)
        values = [modifications.read(each.modifications) for each in variations]
    except AffiliationsError as error:
        field, _, text = str(error).partition(": ")
        raise InvalidCampaign(f"{field}: {group.name}: {text}") from None
    return {
        "pk": group.pk,
        "id": group.uid,
        "name": group.name,
        "targeting": group.targeting,
        "runs": runs,
        "has_moved": moved or bool(before and before["has_moved"]),
        "variations": [
            {
                "pk": each.pk,
                "id": each.uid,
                "name": each.name,
                "reference": each.is_reference,
                "type": each.kind,
                "value": value,
            }
            for each, value in zip(variations, values, strict=True)
        ],
    }
