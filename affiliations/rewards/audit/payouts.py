"""Look at what was paid out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from django.db import models, router, transaction

from ...sums import halves, joined
from .. import ledger
from ..models import Entry, Payout, PayoutEntry
from .differences import Difference


def of_payouts(batch: list[Payout]) -> Iterator[Difference]:
    """Yield those that are not what was taken, and posted, for them."""
    suspects = _problems(batch)
    for payout in batch:
        if payout.pk in suspects:
            using = payout._state.db
            with transaction.atomic(using=using):
                # Nobody is in the middle of settling it.
                rows = Payout.objects.using(using).select_for_update()
                still = _problems([rows.get(pk=payout.pk)])
            for text in still[payout.pk]:
                yield Difference("payout", f"payout {payout.uid}", text)


def _problems(payouts: Sequence[Payout]) -> dict[int, list[str]]:
    """Return what is wrong with those payouts with which anything is."""
    using = router.db_for_write(Entry)
    keys = {f"{Entry.Kind.PAYOUT}:{payout.pk}": payout.pk for payout in payouts}
    posted = Entry.objects.using(using).filter(key__in=keys).select_related("contra")
    entries = {keys[entry.key]: entry for entry in posted}
    undone = Entry.objects.using(using).filter(reverses__in=posted).order_by()
    sums = undone.values("reverses").annotate(**halves("back", "minor"))
    back = {row["reverses"]: joined(row, "back") for row in sums}
    items = PayoutEntry.objects.using(using).filter(payout__in=payouts).order_by()
    foreign = ~models.Q(entry__account=models.F("payout__account"))
    rows = items.values("payout").annotate(
        number=models.Count("pk"),
        claims=models.Count("claimed"),
        foreign=models.Count("pk", filter=foreign),
        **halves("paid", "entry__minor"),
    )
    claimed = {row["payout"]: row for row in rows}
    found: dict[int, list[str]] = defaultdict(list)
    for payout in payouts:
        entry, row = entries.get(payout.pk), claimed.get(payout.pk)
        paid = joined(row, "paid") if row else 0
        if paid != payout.minor:
            found[payout.pk].append(f"its entries sum to {paid}, not to {payout.minor}")
        if row and row["foreign"]:
            found[payout.pk].append(f"{row['foreign']} of its entries are another account's")
        gave_back = payout.state in Payout.GAVE_BACK
        if row and row["claims"] != (0 if gave_back else row["number"]):
            found[payout.pk].append(
                f"it is {payout.state}, and has {row['claims']} of {row['number']} entries taken"
            )
        if entry is None:
            found[payout.pk].append("nothing is posted for it")
            continue
        if (entry.minor, entry.account_id) != (-payout.minor, payout.account_id):
            found[payout.pk].append(f"posted is {entry.minor}, or to another account")
        if (entry.kind, entry.contra.holder) != (
            Entry.Kind.PAYOUT,
            ledger.SITE[Entry.Kind.PAYOUT],
        ):
            found[payout.pk].append(f"it is posted from the account {entry.contra}")
        undone_minor = back.get(entry.pk, 0)
        if undone_minor != (-entry.minor if gave_back else 0):
            found[payout.pk].append(f"it is {payout.state}, and {undone_minor} of it is reversed")
    return found
