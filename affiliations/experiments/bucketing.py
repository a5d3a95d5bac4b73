"""Write the file by which Flagship's clients decide by themselves, as we would.

Pure. What they cannot decide as we do is left out: from the first such group on a campaign has
none, so that nobody is given another variation than here. A variation whose buckets are in several
places stands there several times, under ids of its own, `<id>.1` and so on; and where buckets
in between are nobody's, they are a variation's without flags.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby, product
from typing import Any

from .rules import Campaign, Choice, Group
from .targeting import ALL_USERS, PREFIX, SHARED, USERS, Condition

__all__ = ["ACCOUNT_SETTINGS", "PANIC", "file", "unservable", "variation_of"]

#: That whoever logs in goes on with what they saw; and that they may see several campaigns.
ACCOUNT_SETTINGS = {"enabledXPC": True, "enabled1V1T": False, "troubleshooting": None}
PANIC = b'{"panic":true,"campaigns":[]}'
#: Lists of conditions that one with several values may become.
MOST = 64
_ORDER = frozenset(
    {
        "GREATER_THAN",
        "LOWER_THAN",
        "GREATER_THAN_OR_EQUALS",
        "LOWER_THAN_OR_EQUALS",
        "STARTS_WITH",
        "ENDS_WITH",
    }
)


class _Unservable(Exception):
    """Clients would not decide as we do; says why."""


def variation_of(told: str) -> str:
    """Return the id of the variation that clients know by an id of the file."""
    return told.partition(".")[0]


def file(campaigns: Iterable[Campaign]) -> bytes:
    """Return the file, as JSON."""
    told = {
        "panic": False,
        "accountSettings": ACCOUNT_SETTINGS,
        "campaigns": [found for each in campaigns if (found := _campaign(each)) is not None],
    }
    return json.dumps(told, separators=(",", ":")).encode()


def unservable(campaign: Campaign) -> list[str]:
    """Return why clients that decide by themselves see nothing of a campaign, or not all of it."""
    if campaign.exclusion is not None:
        return ["it excludes other campaigns"]
    found = []
    for group in campaign.groups:
        try:
            _targeting(group)
        except _Unservable as reason:
            found.append(f"{group.name}: {reason}")
            break
    return found


def _campaign(campaign: Campaign) -> dict[str, Any] | None:
    if campaign.exclusion is not None:
        return None
    groups = []
    for group in campaign.groups:
        try:
            groups.append(_group(group))
        except _Unservable:
            break
    if not groups:
        return None
    first = next(iter(campaign.groups[0].choices.values()))
    return {
        "id": campaign.id,
        "name": campaign.name,
        "slug": campaign.slug,
        "type": first.type,
        "bucketRanges": [{"r": [0, 100]}],
        "variationGroups": groups,
    }


def _group(group: Group) -> dict[str, Any]:
    targeting = _targeting(group)
    variations: list[dict[str, Any]] = []
    times: dict[str, int] = {}
    for owner, run in groupby(group.owners):
        if owner is None:
            break
        key = owner.variation_id if isinstance(owner, Choice) else group.id
        times[key] = times.get(key, -1) + 1
        # What is nobody's has no id without a number: no variation is called so.
        number = times[key] if isinstance(owner, Choice) else times[key] + 1
        variations.append(_variation(owner, f"{key}.{number}" if number else key, len(list(run))))
    for choice in group.choices.values():
        if choice.variation_id not in times:
            # Whoever has seen it keeps it.
            variations.append(_variation(choice, choice.variation_id, 0))
    return {
        "id": group.id,
        "name": group.name,
        "targeting": {"targetingGroups": targeting},
        "variations": variations,
    }


def _variation(owner: Choice | bool, told: str, allocation: int) -> dict[str, Any]:
    shown = {"id": told, "allocation": allocation}
    if not isinstance(owner, Choice):
        nothing = {"type": "FLAG", "value": {}}
        return {**shown, "name": "", "reference": False, "modifications": nothing}
    modifications = {"type": owner.modification_type, "value": owner.value}
    return {
        **shown,
        "name": owner.variation_name,
        "reference": owner.is_reference,
        "modifications": modifications,
    }


def _targeting(group: Group) -> list[dict[str, Any]]:
    if group.test is None:
        return [{"targetings": [{"operator": "EQUALS", "key": ALL_USERS, "value": ""}]}]
    lists: list[Sequence[dict[str, Any]]] = []
    for conditions in group.targeting:
        told = [_told(each) for each in conditions if each.key != ALL_USERS]
        lists += product(*told)
        if len(lists) > MOST:
            raise _Unservable("its conditions have too many values")
    return [{"targetings": list(each)} for each in lists]


def _told(condition: Condition) -> list[dict[str, Any]]:
    """Return the conditions of which one has to hold, as clients have them."""
    key, operator, value = condition
    if key == USERS:
        raise _Unservable(f"{USERS} is not known to clients")
    if key.startswith(PREFIX):
        raise _Unservable(f"{key} is not known to clients")
    if key.startswith("fs_"):
        raise _Unservable(f"{key} is not the same for all clients")
    if operator not in SHARED:
        raise _Unservable(f"{operator} is not known to clients")
    values = value if isinstance(value, list) else [value]
    if operator not in _ORDER:
        # As a list: 3.0.1 takes a text that is JSON for no text.
        told: Any = values if any(map(_is_json, values)) else value
        return [{"key": key, "operator": operator, "value": told}]
    if any(map(_is_json, values)):
        raise _Unservable(f"{operator} with a text that is JSON is not known to all clients")
    # Each by itself: 2.1.5 takes several values for none.
    return [{"key": key, "operator": operator, "value": each} for each in values]


def _is_json(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True
