"""What the experiments hold on a person: show it, and erase it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .models import Assignment

__all__ = ["export", "forget"]

#: Names whose assignments are erased by one query.
BATCH = 500


def forget(*, identities: Sequence[int], counts: dict[str, int], using: str, **kwargs: Any) -> None:
    """Erase what was seen under names that are erased."""
    counts["assignments"] = 0
    for start in range(0, len(identities), BATCH):
        rows = Assignment.objects.using(using).filter(
            identity__in=identities[start : start + BATCH]
        )
        counts["assignments"] += rows._raw_delete(using)


def export(*, identities: Sequence[int], shown: dict[str, Any], using: str, **kwargs: Any) -> None:
    """Add what somebody has seen to what is told of them."""
    rows = Assignment.objects.using(using).filter(identity__in=identities)
    rows = rows.select_related("campaign", "variation", "identity").order_by("pk")
    shown["variations"] = [
        {
            "name": each.identity.value,
            "campaign": each.campaign.name,
            "variation": each.variation.name,
            "assigned_on": each.assigned_on.isoformat(),
            "seen_on": each.exposed_on and each.exposed_on.isoformat(),
        }
        for each in rows
    ]
