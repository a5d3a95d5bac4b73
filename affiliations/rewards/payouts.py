"""Draft what is paid out, each entry once; what becomes of it then is in settling.py."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import NamedTuple, TypeVar

from django.db import connections, models, router
from django.utils import timezone

from .. import faults
from ..money import MAX_MINOR, Money
from ..savepoints import retried
from ..sums import halves, joined
from . import ledger
from .conf import minimum
from .models import Account, Entry, Payout, PayoutBatch, PayoutDestination, PayoutEntry
from .querysets import EntryQuerySet
from .settling import (
    approve,
    approve_batch,
    dropping,
    fail,
    key_of,
    mark_paid,
    mark_returned,
    mark_sent,
    send_batch,
    sendable,
)
from .signals import entry_posted

__all__ = [
    "Due",
    "Totals",
    "approve",
    "approve_batch",
    "drafting",
    "dropping",
    "due",
    "fail",
    "make_payouts",
    "mark_paid",
    "mark_returned",
    "mark_sent",
    "send_batch",
    "sendable",
    "summing",
    "totals",
]

logger = logging.getLogger(__name__)

#: Accounts that are gone through in one transaction.
SLICE = 10_000

T = TypeVar("T")
Progress = Callable[[int, int], None]


class Totals(NamedTuple):
    """To how many holders how much is paid, in minor units: also more than any Money is."""

    holders: int
    minor: int


class Due(NamedTuple):
    """To how many holders how much would be paid now, in minor units.

    `low` counts those who are owed less than the minimum, `lost` those of the holders of whom
    nobody has said where they are paid.
    """

    holders: int
    minor: int
    low: int
    lost: int


class Slice(NamedTuple):
    """Some accounts of a currency, and how many there are up to them."""

    currency: str
    first: int
    last: int
    done: int
    total: int

    def of(self, path: str) -> models.Q:
        """Return the condition that the account at `path` is one of them."""
        between = {f"{path}__gte": self.first, f"{path}__lte": self.last}
        # Others have numbers between theirs.
        return models.Q((f"{path}__currency", self.currency), _is_paid(f"{path}__"), **between)


def _is_paid(path: str = "") -> models.Q:
    """Return the condition that what an account's holder is owed is paid out: `path` leads to it.

    To partners it is, also while nobody has said where. What another app credits its own holders
    with, as for a referral, is theirs to spend, unless somebody has said where they are paid.
    """
    theirs = PayoutDestination.objects.filter(holder=models.OuterRef(f"{path}holder"))
    return models.Q(models.Exists(theirs)) | models.Q((f"{path}partner__isnull", False))


# To draft


def make_payouts(
    *, currency: str, until: datetime | None = None, progress: Progress | None = None
) -> PayoutBatch | None:
    """Draft a payout for whoever has at least `minimum(currency)` available, or had it at `until`.

    That is partners, and who else has a destination.

    Returns None where nobody has. Debts are netted, those since `until` as well, so that nobody is
    paid more than there is; what sums to less stays for another time. Some accounts at a time, each
    time in one transaction: after whatever has ended a run, another goes on with the rest. Runs at
    the same time take nothing twice. Sends `entry_posted`.

    `progress` is told how many accounts of how many are done. Raises InvalidMoney where the
    currency is none, ValueError where `until` is in the future or has no time zone.
    """
    return _run(drafting(currency=currency, until=until), progress)


def drafting(
    *, currency: str, until: datetime | None = None
) -> Generator[tuple[int, int], None, PayoutBatch | None]:
    """Do what `make_payouts` does, and yield its progress, each time with all of it committed."""
    until, least = _terms(currency, until)
    using = router.db_for_write(Payout)
    site = ledger.site_account(Entry.Kind.PAYOUT, currency)
    batch: PayoutBatch | None = None
    for part in _slices(currency, using):
        batch = retried(partial(_draft, part, batch, site, until, least, using), using)
        if faults.POINT:
            faults.reach("payouts-committed")
        yield part.done, part.total
    return batch


def due(*, currency: str, until: datetime | None = None, progress: Progress | None = None) -> Due:
    """Return what `make_payouts` would draft now; nothing is written."""
    return _run(summing(currency=currency, until=until), progress)


def summing(
    *, currency: str, until: datetime | None = None
) -> Generator[tuple[int, int], None, Due]:
    """Do what `due` does, and yield its progress."""
    until, least = _terms(currency, until)
    using = router.db_for_write(Payout)
    holders = minor = low = lost = 0
    for part in _slices(currency, using):
        sums = _sums(part, until, using)
        drafts = _payouts_of(sums, least)
        holders, minor = holders + len(drafts), minor + sum(drafts.values())
        low += sum(0 < each < least for each in sums.values())
        lost += len(_lost(part, using) & drafts.keys())
        yield part.done, part.total
    return Due(holders, minor, low, lost)


def _run(steps: Generator[tuple[int, int], None, T], progress: Progress | None) -> T:
    while True:
        try:
            far = next(steps)
        except StopIteration as stop:
            found: T = stop.value
            return found
        if progress:
            progress(*far)


def _lost(part: Slice, using: str) -> set[int]:
    """Return those accounts of a slice of which nobody has said where their holders are paid."""
    theirs = PayoutDestination.objects.filter(holder=models.OuterRef("holder"))
    accounts = Account.objects.using(using).filter(
        ~models.Exists(theirs), pk__gte=part.first, pk__lte=part.last, currency=part.currency
    )
    return set(accounts.values_list("pk", flat=True))


def totals(batch: PayoutBatch | None) -> Totals:
    """Return what a batch comes to, whatever became of its payouts; no batch comes to nothing."""
    rows = Payout.objects.using(router.db_for_write(Payout)).filter(batch=batch)
    row = rows.aggregate(holders=models.Count("pk"), **halves("all", "minor"))
    return Totals(row["holders"], joined(row, "all"))


def _terms(currency: str, until: datetime | None) -> tuple[datetime, int]:
    Money(0, currency)
    now = timezone.now()
    until = until or now
    if timezone.is_aware(until) != timezone.is_aware(now):
        raise ValueError("until: must have a time zone where the site has one")
    if until > now:
        raise ValueError("until: must not be in the future")
    # Also where there is no minimum nobody is paid nothing.
    return until, max(minimum(currency).minor, 1)


def _slices(currency: str, using: str) -> Iterator[Slice]:
    accounts = Account.objects.using(using).filter(currency=currency)
    accounts = accounts.filter(_is_paid()).order_by("pk")
    last, done, number = 0, 0, accounts.count()
    while True:
        row = accounts.filter(pk__gt=last)[:SLICE].aggregate(
            first=models.Min("pk"), last=models.Max("pk"), number=models.Count("pk")
        )
        if not row["number"]:
            return
        last, done = row["last"], done + row["number"]
        yield Slice(currency, row["first"], last, done, max(number, done))


def _draft(
    part: Slice,
    batch: PayoutBatch | None,
    site: Account,
    until: datetime,
    least: int,
    using: str,
) -> PayoutBatch | None:
    """Draft the payouts of a slice, in the transaction around; return their batch."""
    # One run at a time.
    ledger.lock([site.pk], using)
    if faults.POINT:
        faults.reach("payouts-locked")
    drafts = _locked(part, until, least, using)
    if not drafts:
        return batch
    now = timezone.now()
    there = batch
    if batch is None:
        batch = PayoutBatch(currency=site.currency, until=until, created_on=now)
        batch.save(using=using)
    made = [
        Payout(batch=batch, account_id=account, minor=minor, created_on=now)
        for account, minor in drafts.items()
    ]
    payouts = Payout.objects.using(using).bulk_create(made)
    if faults.POINT:
        faults.reach("payouts-drafted")
    _claim(part, batch, until, using)
    if faults.POINT:
        faults.reach("payouts-claimed")
    payouts = _corrected(payouts, _claimed(part, batch, using), least, using)
    if faults.POINT:
        faults.reach("payouts-summed")
    if not payouts:
        if there is None:
            batch.delete(using=using)
        return there
    _post(payouts, site, now, using)
    return batch


def _locked(part: Slice, until: datetime, least: int, using: str) -> dict[int, int]:
    """Return by account what is drafted of a slice, once nobody else can spend it."""
    sums = _sums(part, until, using)
    drafts = _payouts_of(sums, least)
    for account in sorted(sums.keys() - drafts.keys()):
        if sums[account] > MAX_MINOR:
            logger.error("account %s is owed more than a payout can be of: it is left out", account)
    # In the order of `lock`, as the foreign keys of payouts lock accounts where they are checked at
    # once: from then on nobody spends what is about to be paid out. Elsewhere that takes a lock.
    if drafts and connections[using].features.has_select_for_no_key_update:
        ledger.lock(drafts, using)
    return drafts


def _post(payouts: list[Payout], site: Account, now: datetime, using: str) -> None:
    """Take what is paid out from its accounts, and announce that."""
    entries = Entry.objects.using(using).bulk_create(
        [
            Entry(
                account_id=payout.account_id,
                contra=site,
                kind=Entry.Kind.PAYOUT,
                minor=-payout.minor,
                key=key_of(payout),
                available_on=now,
                created_on=now,
            )
            for payout in payouts
        ]
    )
    if faults.POINT:
        faults.reach("payouts-posted")
    for entry in entries:
        entry_posted.announce(Entry, using=using, entry=entry)


def _payable(part: Slice, until: datetime, using: str) -> EntryQuerySet:
    entries = Entry.objects.using(using).filter(part.of("account"))
    return entries.payable(until, timezone.now()).unpaid()


def _sums(part: Slice, until: datetime, using: str) -> dict[int, int]:
    """Return what each account of a slice may be paid, also where that is below zero."""
    rows = _payable(part, until, using).values("account").annotate(**halves("due", "minor"))
    return {row["account"]: joined(row, "due") for row in rows}


def _payouts_of(sums: Mapping[int, int], least: int) -> dict[int, int]:
    """Return by account what is drafted, in the order of their numbers."""
    return {each: minor for each, minor in sorted(sums.items()) if least <= minor <= MAX_MINOR}


def _claim(part: Slice, batch: PayoutBatch, until: datetime, using: str) -> None:
    """Put what may be paid of the accounts into their payouts: one statement."""
    rows = (
        _payable(part, until, using)
        .filter(account__payouts__batch=batch)
        .annotate(payout=models.F("account__payouts"), claimed=models.F("pk"))
        .values_list("payout", "pk", "claimed")
        # By what no index has, so that all is read before the first claim is written: PostgreSQL
        # may go through the claims once for each entry where there were none when it made its plan.
        .order_by("minor")
    )
    connection = connections[using]
    select, values = rows.query.get_compiler(using).as_sql()
    quote = connection.ops.quote_name
    table = quote(PayoutEntry._meta.db_table)
    columns = ", ".join(map(quote, ("payout_id", "entry_id", "claimed")))
    with connection.cursor() as cursor:
        # Names of ours alone stand in it, and what Django has compiled.
        cursor.execute(f"INSERT INTO {table} ({columns}) {select}", values)


def _claimed(part: Slice, batch: PayoutBatch, using: str) -> dict[int, int]:
    """Return what each payout of a slice has claimed."""
    items = PayoutEntry.objects.using(using).filter(
        payout__batch=batch,
        payout__account__gte=part.first,
        payout__account__lte=part.last,
    )
    rows = items.values("payout").annotate(**halves("claimed", "entry__minor"))
    return {row["payout"]: joined(row, "claimed") for row in rows}


def _corrected(
    payouts: list[Payout], claimed: Mapping[int, int], least: int, using: str
) -> list[Payout]:
    """Return the payouts, each of what it has claimed; without those for which that is too little.

    Between the sums and the claims others may have committed an entry, or decided on one.
    """
    drifted = [payout for payout in payouts if claimed.get(payout.pk, 0) != payout.minor]
    if not drifted:
        return payouts
    for payout in drifted:
        payout.minor = claimed.get(payout.pk, 0)
    low = {payout.pk for payout in drifted if not least <= payout.minor <= MAX_MINOR}
    PayoutEntry.objects.using(using).filter(payout__in=low).delete()
    Payout.objects.using(using).filter(pk__in=low).delete()
    rest = [payout for payout in drifted if payout.pk not in low]
    Payout.objects.using(using).bulk_update(rest, ["minor"], batch_size=500)
    return [payout for payout in payouts if payout.pk not in low]
