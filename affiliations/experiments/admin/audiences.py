"""Show groups: who is meant, who gets what share, and what each variation sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Count, Q
from django.utils.translation import gettext as _

from .. import modifications
from ..allocation import shares
from ..exceptions import InvalidModifications, InvalidTargeting
from ..models import Campaign, CampaignVersion, Variation, VariationGroup
from ..targeting import read
from . import wording
from .shares import bar, legend

__all__ = ["drawn", "flags_of", "of_rows", "of_rules", "published"]


def of_rows(campaign: Campaign) -> list[dict[str, Any]]:
    """Return a campaign's groups as they stand on its page: two queries."""
    return [_of_row(each) for each in campaign.groups.prefetch_related("variations")]


def _of_row(group: VariationGroup) -> dict[str, Any]:
    variations = [each for each in group.variations.all() if not each.retired]
    try:
        targeting = read(group.targeting)
    except InvalidTargeting:
        targeting = []
    named = [(each.name, each.allocation) for each in variations]
    return {
        "row": group,
        "name": group.name,
        "conditions": wording.conditions(targeting),
        **drawn(named, group.name),
        "variations": [
            {
                "name": each.name,
                "share": each.allocation,
                "is_reference": each.is_reference,
                "kind": each.get_kind_display(),
                "flags": flags_of(each),
            }
            for each in variations
        ],
        "retired": [each.name for each in group.variations.all() if each.retired],
    }


def of_rules(rules: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the groups of a version."""
    found = []
    for group in rules["groups"]:
        counted = shares(group["runs"])
        named = [(each["name"], counted.get(each["id"], 0)) for each in group["variations"]]
        kinds = dict(Variation.Kind.choices)
        found.append(
            {
                "name": group["name"],
                "conditions": wording.conditions(read(group["targeting"])),
                **drawn(named, group["name"]),
                "variations": [
                    {
                        "name": each["name"],
                        "share": counted.get(each["id"], 0),
                        "is_reference": each["reference"],
                        "kind": kinds.get(each["type"], each["type"]),
                        "flags": wording.flags(each["value"]),
                    }
                    for each in group["variations"]
                ],
                "retired": [],
            }
        )
    return found


def drawn(named: Sequence[tuple[str, int]], title: str) -> dict[str, Any]:
    """Return the bar of some shares, its legend, and whether they are too many to be drawn."""
    if sum(share for _name, share in named) > 100:
        return {"bar": "", "legend": [], "is_over": True}
    return {
        "bar": bar(named, title=title),
        "legend": legend(named, _("see nothing of it")),
        "is_over": False,
    }


def flags_of(variation: Variation) -> list[wording.Flag]:
    """Return what a variation sets; nothing where that cannot be read."""
    try:
        return wording.flags(modifications.read(variation.modifications))
    except InvalidModifications:
        return []


def published(campaign: Campaign, uids: Sequence[str]) -> set[str]:
    """Return which groups or variations have ever been in force, by their uids: one query.

    What was in force is what people have seen, or are just about to.
    """
    if not uids or campaign.pk is None:
        return set()
    counts = {
        f"n{i}": Count("pk", filter=Q(rules__contains=f'"{uid}"')) for i, uid in enumerate(uids)
    }
    found = CampaignVersion.objects.filter(campaign=campaign).aggregate(**counts)
    return {uid for i, uid in enumerate(uids) if found[f"n{i}"]}
