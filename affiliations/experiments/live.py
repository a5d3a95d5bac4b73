"""Know what is in force in a property, without asking the database for each decision.

What is known is used for a second, and then it is asked whether anything has changed; only where
something has is it read and compiled again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from django.db import router
from django.utils import timezone

from ..remembered import Remembered
from . import bucketing, rules
from .models import Campaign, Environment
from .rules import Choice, Group, Keys
from .targeting import PREFIX

__all__ = ["InForce", "Live", "forget", "note_that_it_keeps", "of_property", "stamp_at"]


class InForce:
    """The campaigns that are shown from one moment on, until the next one begins or ends."""

    def __init__(
        self, campaigns: Sequence[rules.Campaign], stamp: int, until: datetime | None, keeps: bool
    ) -> None:
        self.campaigns = campaigns
        #: When this came into force, as clients are told: a Unix time, which no other state has.
        self.stamp = stamp
        self.until = until
        #: Whether somebody may have another variation than their bucket says.
        self.keeps = keeps or any(each.has_moved for each in campaigns)

    @cached_property
    def choices(self) -> dict[tuple[str, str], Choice]:
        """All variations, by the ids of their groups and their own."""
        return {
            (group.id, each): choice
            for campaign in self.campaigns
            for group in campaign.groups
            for each, choice in group.choices.items()
        }

    def is_bucket_of(self, keys: Keys, hashed_id: str) -> bool:
        """Tell whether a variation is what somebody's bucket says, or is not in force any more."""
        group = self._groups.get(keys.group)
        if group is None:
            return True
        owner = group.owners[group.bucket(hashed_id)]
        return isinstance(owner, Choice) and owner.keys == keys

    @cached_property
    def _groups(self) -> dict[int, Group]:
        return {
            choice.keys.group: group
            for campaign in self.campaigns
            for group in campaign.groups
            for choice in group.choices.values()
        }

    @cached_property
    def keys(self) -> frozenset[str]:
        """What conditions ask for."""
        return frozenset(
            condition.key
            for campaign in self.campaigns
            for group in campaign.groups
            for conditions in group.targeting
            for condition in conditions
        )

    @cached_property
    def asks_for_ours(self) -> bool:
        """Whether a condition asks for what only this suite knows."""
        return any(each.startswith(PREFIX) for each in self.keys)

    @cached_property
    def file(self) -> bytes:
        """What clients that decide by themselves are given."""
        return bucketing.file(self.campaigns)


class Live:
    """What a property's campaigns were when it was looked at last."""

    def __init__(self, environment: Environment | None, found: Iterable[Campaign]) -> None:
        self.panic = environment is not None and environment.panic
        self.seen = _seen(environment)
        self._environment = environment
        self._campaigns = [
            (
                each.starts_on,
                each.ends_on,
                rules.of_version(json.loads(current.rules), current.number),
            )
            for each in found
            if (current := each.current) is not None
        ]
        self._boundaries = [
            moment for each in self._campaigns for moment in each[:2] if moment is not None
        ]
        self._now: InForce | None = None

    def now(self) -> InForce:
        """Return what is in force at this moment."""
        known = self._now
        if known is not None and known.until is None:
            return known
        moment = timezone.now()
        if known is None or (known.until is not None and moment >= known.until):
            # Another thread may do the same, and comes to the same.
            self._now = known = self._at(moment)
        return known

    def _at(self, moment: datetime) -> InForce:
        shown = [
            campaign
            for starts_on, ends_on, campaign in self._campaigns
            if (starts_on is None or starts_on <= moment) and (ends_on is None or moment < ends_on)
        ]
        environment = self._environment
        return InForce(
            shown,
            _stamp(environment, self._boundaries, moment) if environment else 0,
            min((each for each in self._boundaries if each > moment), default=None),
            environment is not None and environment.keeps,
        )


def _seen(environment: Environment | None) -> tuple[Any, ...]:
    if environment is None:
        return ()
    return environment.stamp, environment.changed_on, environment.panic, environment.keeps


def _stamp(environment: Environment, boundaries: Iterable[datetime], moment: datetime) -> int:
    """Return by which second clients know what is in force at a moment.

    That of the last change, or of what has begun or ended since; each later than the one before,
    also where a change was put into the future because several came in one second.
    """
    stamp = environment.stamp
    for each in sorted(set(boundaries)):
        if environment.changed_on < each <= moment:
            # The next whole second, before which it was not yet so.
            stamp = max(-int(-each.timestamp() // 1), stamp + 1)
    return stamp


def note_that_it_keeps(property_id: int, using: str) -> None:
    """Have decisions look up what somebody has had; to be called in a transaction.

    Other processes do so within a second.
    """
    rows = Environment.objects.using(using).filter(property=property_id, keeps=False)
    if rows.update(keeps=True):
        forget()


def stamp_at(environment: Environment, moment: datetime) -> int:
    """Return by which second clients know what is in force at a moment; asks the database."""
    rows = Campaign.objects.using(environment._state.db)
    theirs = rows.filter(property=environment.property_id, state=Campaign.State.LIVE)
    bounds = theirs.values_list("starts_on", "ends_on")
    return _stamp(environment, [each for row in bounds for each in row if each], moment)


_compiled: dict[str, Live] = {}


def _ask(key: str) -> Live:
    property_id, using = int(key), router.db_for_read(Campaign)
    environment = Environment.objects.using(using).filter(property=property_id).first()
    known = _compiled.get(key)
    # The environment first: what changes after it was read is seen the next time.
    if known is not None and known.seen == _seen(environment):
        return known
    found = Campaign.objects.using(using).filter(property=property_id, state=Campaign.State.LIVE)
    made = Live(environment, found.select_related("current").order_by("pk"))
    if len(_compiled) >= MOST:
        _compiled.clear()
    _compiled[key] = made
    return made


#: Properties that are known at once; there are few.
MOST = 1000
_known = Remembered(_ask)


def of_property(property_id: int) -> Live:
    """Return what is known of a property's campaigns, right within a second of any change."""
    return _known.get(str(property_id))


def forget(**kwargs: Any) -> None:
    """Ask the database again; for tests, and for whoever has just changed something here."""
    _known.clear()
    _compiled.clear()
