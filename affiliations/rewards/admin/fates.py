"""Say what became of commissions: how much is left of each, and where that is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from django.utils import timezone
from django.utils.translation import gettext as _

from ...money import Money
from ..commissions import NO_RULE, OWN
from ..models import Commission, Entry, Payout, PayoutEntry, Review
from .entries import day

NOTHING_EARNED = {
    OWN: lambda: _("nothing: it was one of the partner’s own people"),
    NO_RULE: lambda: _("nothing: no rule held for it"),
}


class Fate(NamedTuple):
    """What is left of a commission, and its state: a badge's colour, words, and its payout."""

    left: Money | None
    colour: str
    text: str
    payout: Payout | None = None


def fates(commissions: Iterable[Commission]) -> dict[int, Fate]:
    """Return by its key what became of each commission: three queries, however many there are."""
    rows = {commission.pk: commission for commission in commissions}
    posted: defaultdict[int, list[Entry]] = defaultdict(list)
    for entry in Entry.objects.filter(commission__in=rows).order_by("pk"):
        posted[entry.commission_id or 0].append(entry)
    earned = [entry.pk for each in posted.values() for entry in each if entry.reverses_id is None]
    items = PayoutEntry.objects.filter(claimed__in=earned).select_related("payout")
    paid = {item.entry_id: item.payout for item in items}
    opened = Review.objects.filter(entry__in=earned, outcome=Review.Outcome.OPEN)
    held = set(opened.values_list("entry", flat=True))
    return {pk: _fate(row, posted[pk], paid, held) for pk, row in rows.items()}


def _fate(
    commission: Commission, entries: list[Entry], paid: dict[int, Payout], held: set[int]
) -> Fate:
    if not commission.minor:
        why = NOTHING_EARNED.get(commission.record.get("why", ""))
        return Fate(commission.money, "", why() if why else _("nothing"))
    earned = next((entry for entry in entries if entry.reverses_id is None), None)
    if earned is None:
        return Fate(commission.money, "dead", _("in no account: see audit_ledger"))
    left = Money(sum(entry.minor for entry in entries), commission.currency)
    payout = paid.get(earned.pk)
    if not left.minor:
        rejected = any(entry.key.startswith("rejected:") for entry in entries)
        text = _("rejected") if rejected else _("taken back")
        return Fate(left, "dead", text, payout)
    if payout is not None:
        if payout.state == Payout.State.PAID:
            return Fate(left, "delivered", _("paid out"), payout)
        return Fate(left, "pending", payout.get_state_display(), payout)
    if earned.pk in held:
        return Fate(left, "pending", _("held for review"))
    if earned.available_on is not None and earned.available_on > timezone.now():
        return Fate(left, "pending", _("held until %(day)s") % {"day": day(earned.available_on)})
    return Fate(left, "delivered", _("available"))
