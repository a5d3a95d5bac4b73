"""How a campaign stands: what is in force, and what would be if its page were put into force."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from .. import bucketing, publishing
from ..exceptions import InvalidCampaign
from ..models import Campaign, Environment
from ..rules import of_version
from . import wording
from .changes import changes

__all__ = ["Standing", "digest", "in_panic", "standing"]


class Standing(NamedTuple):
    """How a campaign stands."""

    #: What its next version would hold, None where it cannot be shown as it is.
    rules: dict[str, Any] | None
    #: Why not, in words.
    problem: str
    #: Whether that differs from its last version.
    is_pending: bool
    #: How it differs, in words.
    changes: list[str]
    #: Why clients that decide by themselves do not get it, or not all of it.
    unservable: list[str]


def standing(campaign: Campaign) -> Standing:
    """Return how a campaign stands: a few queries, however much there is of it."""
    current = campaign.current
    before = json.loads(current.rules) if current is not None else None
    try:
        rules = publishing.preview(campaign)
    except InvalidCampaign as error:
        return Standing(None, wording.problem(error), before is not None, [], [])
    unservable = bucketing.unservable(of_version(rules, 0))
    if before is None or current is None:
        return Standing(rules, "", False, [], unservable)
    is_pending = json.dumps(rules) != current.rules
    said = changes(before, rules) if is_pending else []
    if is_pending and not said:
        said = [_("The order of something has changed.")]
    return Standing(rules, "", is_pending, said, unservable)


def digest(rules: str) -> str:
    """Return what changes with the rules that somebody has seen before they agreed."""
    return hashlib.sha256(rules.encode(errors="replace")).hexdigest()


def in_panic(property_id: int | None) -> bool:
    """Tell whether nobody sees any variation in a property."""
    return Environment.objects.filter(property=property_id, panic=True).exists()
