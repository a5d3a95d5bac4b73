"""Goals: what visitors are meant to do, and how somebody is found who has done it.

A goal is written as text: `trigger:Order placed`, `event:signup`, `transaction` for any of them, or
`transaction:Shop` for those that were told with this title.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from django.db import router

from .. import firing
from ..models import Conversion
from ..tracking.models import EventType, Hit
from ..tracking.models.hits import MAX_TITLE
from .exceptions import InvalidResults
from .models import Campaign

__all__ = ["EVENT", "TRANSACTION", "TRIGGER", "Goal", "goals_of"]

TRIGGER, EVENT, TRANSACTION = "trigger", "event", "transaction"
#: Of how many conversions, and hits of whatever type, the latest, it is seen what there is.
LATEST, LATEST_HITS = 1000, 5000
#: No database takes these, and each would say so by an error of its own.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class Goal(NamedTuple):
    """Something that visitors do: of a kind, and what it is called, "" for any of the kind."""

    kind: str
    name: str = ""
    #: What people call it.
    label: str = ""

    @classmethod
    def of(cls, text: str) -> Goal:
        """Return the goal that a text says; raises InvalidResults."""
        if not isinstance(text, str) or _UNSTORABLE.search(text):
            raise InvalidResults("goal: must be text without NUL and half letters")
        kind, _, name = text.partition(":")
        if kind not in (TRIGGER, EVENT, TRANSACTION) or not (name or kind == TRANSACTION):
            raise InvalidResults(
                "goal: must be trigger:<name>, event:<key or title>, transaction or "
                f"transaction:<title>, not {text!r:.80}"
            )
        if len(name) > MAX_TITLE:
            raise InvalidResults(f"goal: must have at most {MAX_TITLE} characters after the colon")
        return cls(kind, name, name)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


def goals_of(campaign: Campaign) -> list[Goal]:
    """Return the goals that there are to choose for a campaign, each once.

    The triggers of the settings, and those by which somebody converted of late; the event types of
    its property; any transaction; and what else events and transactions have been called of late.
    Three queries, none of which looks at more than some thousand rows.
    """
    found: dict[str, Goal] = {}
    for each in _goals(campaign):
        found.setdefault(str(each), each)
    return list(found.values())


def _goals(campaign: Campaign) -> Iterator[Goal]:
    using = router.db_for_read(Hit)
    converted = Conversion.objects.using(using).order_by("-created_on")
    latest = set(converted.values_list("trigger", flat=True)[:LATEST])
    for name in (*firing.subscribable(), *sorted(latest)):
        yield Goal(TRIGGER, name, name)
    types = EventType.objects.using(using).filter(property=campaign.property_id)
    for key, name in types.order_by("name", "pk").values_list("key", "name"):
        yield Goal(EVENT, key, name)
    yield Goal(TRANSACTION)
    hits = Hit.objects.using(using).filter(property=campaign.property_id)
    # By the index alone: of events only it would have to look at all pages in between.
    rows = hits.order_by("-happened_on").values_list("type", "event_type", "title")[:LATEST_HITS]
    for kind, event_type, title in sorted(
        {each for each in rows if each[2]}, key=lambda each: (each[0], each[2])
    ):
        if kind == Hit.Type.TRANSACTION or (kind == Hit.Type.EVENT and event_type is None):
            yield Goal(str(kind), title, title)
