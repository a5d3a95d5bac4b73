"""Look at entries by themselves, and at what accounts were noted to come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.db import models

from ...sums import halves, joined
from ..models import Entry, Payout, Snapshot
from ..querysets import available
from .differences import BATCH, Difference


def of_entries(entries: Any, checked: Counter[str]) -> Iterator[Difference]:
    """Yield those that do not go together with others, and count those of payouts."""
    mixed = entries.exclude(account__currency=models.F("contra__currency"))
    for pk in mixed.values_list("pk", flat=True).iterator(BATCH):
        yield Difference("currency", f"entry {pk}", "its two accounts differ in currency")
    undoing = entries.filter(kind=Entry.Kind.REVERSAL)
    same = {"account": models.F("reverses__account"), "contra": models.F("reverses__contra")}
    for pk in undoing.exclude(**same).values_list("pk", flat=True).iterator(BATCH):
        text = "it is between other accounts than what it reverses"
        yield Difference("reversal", f"entry {pk}", text)
    paying = entries.filter(kind=Entry.Kind.PAYOUT).values_list("pk", "key")
    for pk, key in paying.iterator(BATCH):
        checked["payout entries"] += 1
        if not _names_a_payout(key, entries.db):
            yield Difference("payout", f"entry {pk}", f"{key} names no payout")


def _names_a_payout(key: str, using: str) -> bool:
    name, _, number = key.partition(":")
    if name != Entry.Kind.PAYOUT or not (number.isascii() and number.isdigit()):
        return False
    return Payout.objects.using(using).filter(pk=int(number)).exists()


def of_snapshots(batch: list[Snapshot]) -> Iterator[Difference]:
    """Yield those that are not the sum of their entries."""
    for snapshot in batch:
        entries = Entry.objects.using(snapshot._state.db).filter(
            account=snapshot.account_id, pk__lte=snapshot.last_entry
        )
        row = entries.aggregate(
            **halves("total", "minor"),
            **halves("now", "minor", filter=available(snapshot.taken_on)),
        )
        found = joined(row, "total"), joined(row, "now")
        noted = snapshot.total_minor, snapshot.available_minor
        if found != noted:
            text = f"noted are {noted}, total and available, but the entries sum to {found}"
            yield Difference("snapshot", f"snapshot {snapshot}", text)
