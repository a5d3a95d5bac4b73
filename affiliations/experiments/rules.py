"""Decide which variations somebody sees, by what campaigns were published with.

Pure, and compiled once: a decision is a few tests and a hash for each campaign. What a version of a
campaign holds is described at `Version.rules`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .allocation import spread
from .hashing import BUCKETS, digest, encoded
from .targeting import Condition, Test, compiled, holds

__all__ = [
    "Campaign",
    "Choice",
    "Considered",
    "Exclusion",
    "Group",
    "Keys",
    "considered",
    "decide",
    "given",
    "of_version",
]


class Keys(NamedTuple):
    """The primary keys of a variation's rows."""

    campaign: int
    group: int
    variation: int


class Choice(NamedTuple):
    """A variation that somebody may see, with all that clients are told of it."""

    keys: Keys
    campaign_id: str
    campaign_name: str
    slug: str | None
    type: str
    group_id: str
    group_name: str
    variation_id: str
    variation_name: str
    is_reference: bool
    modification_type: str
    #: By flags; each a JSON value.
    value: dict[str, Any]
    #: Flags that its group has, and this variation has not.
    others: tuple[str, ...]
    #: The campaign as the decision API tells of it: every flag of the group, and its own alone.
    with_all_keys: str
    with_own_keys: str
    version: int


class Group(NamedTuple):
    """An audience, compiled."""

    id: str
    name: str
    prefix: bytes
    #: None where everybody is meant.
    test: Test | None
    targeting: Sequence[Sequence[Condition]]
    #: Whose each bucket is; False where nobody's any more, though later ones are somebody's.
    owners: Sequence[Choice | bool | None]
    choices: Mapping[str, Choice]
    #: Whether a bucket has changed hands since the campaign began.
    has_moved: bool

    def bucket(self, hashed_id: str) -> int:
        """Return into which bucket of it an id puts somebody."""
        return digest(self.prefix + encoded(hashed_id)) % BUCKETS


class Exclusion(NamedTuple):
    """Campaigns of which somebody takes part in one: what they are hashed with, and who does."""

    prefix: bytes
    buckets: frozenset[int]
    has_moved: bool


class Campaign(NamedTuple):
    """A campaign, compiled."""

    id: str
    slug: str | None
    name: str
    version: int
    groups: Sequence[Group]
    #: Of which group it excludes others, if of any.
    exclusion: Exclusion | None
    #: What each group decides by, put together once: to take it out of each costs as much again.
    plan: Sequence[tuple[Test | None, bytes, Sequence[Choice | bool | None], Group]]

    @property
    def has_moved(self) -> bool:
        """Whether somebody may have seen another variation than they would be given now."""
        moved = self.exclusion is not None and self.exclusion.has_moved
        return moved or any(each.has_moved for each in self.groups)


def of_version(rules: Mapping[str, Any], version: int) -> Campaign:
    """Compile what a version of a campaign holds."""
    exclusion = rules["exclusion"]
    groups = [_group(rules, each, version) for each in rules["groups"]]
    return Campaign(
        id=rules["id"],
        slug=rules["slug"],
        name=rules["name"],
        version=version,
        groups=groups,
        exclusion=exclusion
        and Exclusion(
            encoded(exclusion["id"]), frozenset(exclusion["buckets"]), exclusion["has_moved"]
        ),
        plan=[(each.test, each.prefix, each.owners, each) for each in groups],
    )


def _group(rules: Mapping[str, Any], group: Mapping[str, Any], version: int) -> Group:
    every = dict.fromkeys(key for each in group["variations"] for key in each["value"])
    choices = {
        each["id"]: _choice(rules, group, each, every, version) for each in group["variations"]
    }
    targeting = [[Condition(**each) for each in conditions] for conditions in group["targeting"]]
    return Group(
        id=group["id"],
        name=group["name"],
        prefix=encoded(group["id"]),
        test=compiled(targeting),
        targeting=targeting,
        owners=_owners(group["runs"], choices),
        choices=choices,
        has_moved=group["has_moved"],
    )


def _owners(runs: Any, choices: Mapping[str, Choice]) -> list[Choice | bool | None]:
    owners = spread(runs)
    last = max((i for i, each in enumerate(owners) if each is not None), default=-1)
    return [
        choices[each] if each is not None else False if i < last else None
        for i, each in enumerate(owners)
    ]


def _choice(
    rules: Mapping[str, Any],
    group: Mapping[str, Any],
    variation: Mapping[str, Any],
    every: Iterable[str],
    version: int,
) -> Choice:
    value = variation["value"]

    def told(value: Mapping[str, Any]) -> str:
        campaign = {
            "id": rules["id"],
            "name": rules["name"],
            "slug": rules["slug"],
            "type": rules["type"],
            "variationGroupId": group["id"],
            "variationGroupName": group["name"],
            "variation": {
                "id": variation["id"],
                "name": variation["name"],
                "modifications": {"type": variation["type"], "value": value},
                "reference": variation["reference"],
            },
        }
        return json.dumps(campaign, separators=(",", ":"))

    others = tuple(each for each in every if each not in value)
    return Choice(
        keys=Keys(rules["pk"], group["pk"], variation["pk"]),
        campaign_id=rules["id"],
        campaign_name=rules["name"],
        slug=rules["slug"],
        type=rules["type"],
        group_id=group["id"],
        group_name=group["name"],
        variation_id=variation["id"],
        variation_name=variation["name"],
        is_reference=variation["reference"],
        modification_type=variation["type"],
        value=value,
        others=others,
        with_all_keys=told({**value, **dict.fromkeys(others)}),
        with_own_keys=told({name: each for name, each in value.items() if each is not None}),
        version=version,
    )


def decide(
    campaigns: Iterable[Campaign],
    known: Mapping[str, Any],
    visitor_id: str,
    *,
    hashed_id: str = "",
    kept: Mapping[str, str] | None = None,
) -> list[Choice]:
    """Return what somebody sees, at most one variation of each campaign.

    `known` is what conditions are tested against. Somebody is put into buckets by `hashed_id` if
    there is one, else by the visitor's id; and `kept` has the ids of variations by those of groups
    which they have seen, and so see again. The first group decides that means them, and has a
    bucket for them. Of campaigns that exclude each other somebody takes part in the one that they
    have seen, or else in the one that has their bucket.
    """
    found = []
    told = encoded(hashed_id or visitor_id)
    seen_of = _seen_of(campaigns, kept) if kept else {}
    for campaign in campaigns:
        exclusion = campaign.exclusion
        takes_part = exclusion is None or _takes_part(campaign, exclusion, told, seen_of)
        if not takes_part:
            continue
        for test, prefix, owners, group in campaign.plan:
            if test is not None and not test(known, visitor_id):
                continue
            if kept and (seen := kept.get(group.id)) is not None:
                if seen in group.choices:
                    found.append(group.choices[seen])
                # Whoever has seen one that is no more sees none: another would spoil what it tells.
                break
            owner = owners[digest(prefix + told) % BUCKETS]
            if owner is None:
                continue
            if owner:
                found.append(owner)  # type: ignore[arg-type]
            break
    return found


def _seen_of(campaigns: Iterable[Campaign], kept: Mapping[str, str]) -> dict[bytes, str]:
    """Return of those that exclude each other the first that somebody has seen."""
    found: dict[bytes, str] = {}
    for each in campaigns:
        if each.exclusion is not None and any(group.id in kept for group in each.groups):
            found.setdefault(each.exclusion.prefix, each.id)
    return found


def _takes_part(
    campaign: Campaign, exclusion: Exclusion, told: bytes, seen_of: Mapping[bytes, str]
) -> bool:
    if seen := seen_of.get(exclusion.prefix):
        return seen == campaign.id
    return digest(exclusion.prefix + told) % BUCKETS in exclusion.buckets


def given(campaigns: Iterable[Campaign], variations: Collection[str]) -> dict[str, str]:
    """Return which of some variations is each group's, the first one of it, by the groups' ids."""
    return {
        group.id: each
        for campaign in campaigns
        for group in campaign.groups
        for each in reversed([*group.choices])
        if each in variations
    }


class Considered(NamedTuple):
    """What was made of a group for somebody."""

    group: Group
    #: Each list of conditions, and whether each of them holds.
    conditions: list[list[tuple[Condition, bool]]]
    is_meant: bool
    bucket: int
    #: What the bucket is, or was kept; None where nothing.
    choice: Choice | None
    is_kept: bool
    #: Whether no later group is asked.
    is_last: bool


def considered(
    campaign: Campaign,
    known: Mapping[str, Any],
    visitor_id: str,
    *,
    hashed_id: str = "",
    kept: Mapping[str, str] | None = None,
    among: Sequence[Campaign] = (),
) -> tuple[bool, list[Considered]]:
    """Return how `decide` comes to what it says of one campaign, `among` all that there are.

    Whether somebody takes part, by the campaigns that exclude each other; and what was made of each
    group up to that which decided.
    """
    told = encoded(hashed_id or visitor_id)
    exclusion = campaign.exclusion
    seen_of = _seen_of([*among, campaign], kept or {})
    takes_part = exclusion is None or _takes_part(campaign, exclusion, told, seen_of)
    found = []
    for group in campaign.groups:
        bucket = group.bucket(hashed_id or visitor_id)
        conditions = [
            [(each, holds(each, known, visitor_id)) for each in listed]
            for listed in group.targeting
        ]
        is_meant = group.test is None or group.test(known, visitor_id)
        seen = (kept or {}).get(group.id) if is_meant and takes_part else None
        owner = group.owners[bucket] if takes_part else None
        choice = group.choices.get(seen) if seen is not None else owner or None
        is_last = is_meant and (seen is not None or owner is not None)
        found.append(
            Considered(
                group,
                conditions,
                is_meant,
                bucket,
                choice if is_meant else None,  # type: ignore[arg-type]
                seen is not None,
                is_last,
            )
        )
        if is_last:
            break
    return takes_part, found
