"""What a site's own tests need to know of the ledger: that it is right.

    from affiliations.rewards.testing import assert_ledger_balanced

Nothing in here is imported by the package itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from . import ledger
from .models import Account, Commission, Entry, Payout, PayoutEntry, Snapshot

__all__ = ["assert_ledger_balanced"]

#: As many faults are named.
MOST = 20


def assert_ledger_balanced() -> None:
    """Assert that the whole ledger is right; raises AssertionError, naming the rows that are not.

    Each currency sums to zero; each commission is posted once, as it is; no more is taken back than
    there was; each payout is the sum of its entries; and snapshots are what they stand for.
    Everything is read: it is for the few rows of a test.
    """
    accounts = Account.objects.in_bulk()
    commissions = Commission.objects.in_bulk()
    entries = Entry.objects.in_bulk()
    faults = [
        *_currencies(accounts, commissions, entries),
        *_commissions(accounts, commissions, entries),
        *_reversals(entries),
        *_payouts(entries),
        *_snapshots(accounts),
    ]
    if faults:
        more = [f"and {len(faults) - MOST} more"] if len(faults) > MOST else []
        raise AssertionError("\n".join(["the ledger is wrong:", *faults[:MOST], *more]))


def _currencies(
    accounts: Mapping[int, Account],
    commissions: Mapping[int, Commission],
    entries: Mapping[int, Entry],
) -> Iterator[str]:
    sums: Counter[str] = Counter()
    for pk, entry in entries.items():
        account, contra = accounts[entry.account_id], accounts[entry.contra_id]
        sums[account.currency] += entry.minor
        sums[contra.currency] -= entry.minor
        if account.currency != contra.currency:
            yield f"entry {pk}: goes from {contra} to {account}"
        if entry.commission_id is not None:
            commission = commissions[entry.commission_id]
            if commission.currency != account.currency:
                yield f"entry {pk}: {account}, of a commission in {commission.currency!r}"
    for currency, total in sums.items():
        if total:
            yield f"currency {currency}: all accounts sum to {total}, not to 0"


def _commissions(
    accounts: Mapping[int, Account],
    commissions: Mapping[int, Commission],
    entries: Mapping[int, Entry],
) -> Iterator[str]:
    posted: defaultdict[int | None, list[Entry]] = defaultdict(list)
    for entry in entries.values():
        if entry.kind == Entry.Kind.COMMISSION:
            posted[entry.commission_id].append(entry)
    for pk, commission in commissions.items():
        its = posted[pk]
        if sum(each.minor for each in its) != commission.minor or len(its) > 1:
            said = ", ".join(f"{each.minor} (entry {each.pk})" for each in its) or "nothing"
            yield f"commission {pk}: of {commission.minor}, but posted is {said}"
        for entry in its:
            if accounts[entry.account_id].partner_id != commission.partner_id:
                yield f"entry {entry.pk}: not to the partner of commission {pk}"


def _reversals(entries: Mapping[int, Entry]) -> Iterator[str]:
    gone: Counter[int] = Counter()
    for pk, entry in entries.items():
        if entry.reverses_id is None:
            continue
        root = entries[entry.reverses_id]
        gone[root.pk] += entry.minor
        if (entry.minor > 0) == (root.minor > 0):
            yield f"entry {pk}: of {entry.minor}, reverses {root.minor} (entry {root.pk})"
        legs = (entry.account_id, entry.contra_id, entry.commission_id)
        if legs != (root.account_id, root.contra_id, root.commission_id):
            yield f"entry {pk}: between other accounts than entry {root.pk}, which it reverses"
    for pk, total in gone.items():
        if abs(total) > abs(entries[pk].minor):
            yield f"entry {pk}: of {entries[pk].minor}, but {total} of it is reversed"


def _payouts(entries: Mapping[int, Entry]) -> Iterator[str]:
    items: defaultdict[int, list[PayoutEntry]] = defaultdict(list)
    for item in PayoutEntry.objects.all():
        items[item.payout_id].append(item)
    for payout in Payout.objects.all():
        claimed = [entries[each.claimed] for each in items[payout.pk] if each.claimed is not None]
        total = sum(entry.minor for entry in claimed)
        if payout.state in Payout.GAVE_BACK:
            if claimed:
                yield f"payout {payout.pk}: has {payout.state}, and keeps {len(claimed)} entries"
        elif total != payout.minor:
            yield f"payout {payout.pk}: of {payout.minor}, but its entries sum to {total}"
        for entry in claimed:
            if entry.account_id != payout.account_id:
                yield f"payout {payout.pk}: pays entry {entry.pk}, of another account"


def _snapshots(accounts: Mapping[int, Account]) -> Iterator[str]:
    for snapshot in Snapshot.objects.all():
        account = accounts[snapshot.account_id]
        by_it, whole = (ledger.summed(account, None, each) for each in (snapshot, None))
        if by_it != whole:
            yield f"snapshot {snapshot.pk}: makes it {by_it}, and all entries are {whole}"
