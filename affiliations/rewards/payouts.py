"""Draft what is paid out, and take each payout through its states, each of them once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from django.db import connections, models, router, transaction
from django.utils import timezone

from .. import faults
from ..exceptions import InvalidTransition
from ..money import Money
from ..savepoints import retried
from ..sums import halves, joined
from . import ledger
from .commissions import reversal_of
from .conf import minimum
from .models import Account, Destination, Entry, Payout, PayoutBatch, PayoutEntry
from .models.ledger import SITE
from .models.payouts import MAX_REASON, MAX_REFERENCE
from .querysets import EntryQuerySet
from .signals import entry_posted, payout_settled

__all__ = [
    "Totals",
    "approve",
    "approve_batch",
    "due",
    "fail",
    "make_payouts",
    "mark_paid",
    "mark_sent",
    "send_batch",
    "totals",
]

#: Accounts that are gone through in one transaction.
SLICE = 10_000

Progress = Callable[[int, int], None]


class Totals(NamedTuple):
    """To how many holders how much is paid."""

    holders: int
    money: Money


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
        site = models.Q((f"{path}__holder__startswith", SITE))
        return models.Q((f"{path}__currency", self.currency), ~site, **between)


# To draft


def make_payouts(
    *, currency: str, until: datetime | None = None, progress: Progress | None = None
) -> PayoutBatch | None:
    """Draft a payout for whoever has at least `minimum(currency)` available, or had it at `until`.

    Returns None where nobody has. Debts are netted, those since `until` as well, so that nobody is
    paid more than there is; what sums to less stays for another time. Some accounts at a time, each
    time in one transaction: after whatever has ended a run, another goes on with the rest. Runs at
    the same time take nothing twice. Sends `entry_posted`.

    `progress` is told how many accounts of how many are done. Raises InvalidMoney where the
    currency is none, ValueError where `until` is in the future or has no time zone.
    """
    until, least = _terms(currency, until)
    using = router.db_for_write(Payout)
    site = ledger.site_account(Entry.Kind.PAYOUT, currency)
    batch: PayoutBatch | None = None
    for part in _slices(currency, using):
        batch = retried(partial(_draft, part, batch, site, until, least, using), using)
        if faults.POINT:
            faults.reach("payouts-committed")
        if progress:
            progress(part.done, part.total)
    return batch


def due(
    *, currency: str, until: datetime | None = None, progress: Progress | None = None
) -> Totals:
    """Return what `make_payouts` would draft now; nothing is written."""
    until, least = _terms(currency, until)
    using = router.db_for_write(Payout)
    holders = minor = 0
    for part in _slices(currency, using):
        sums = [each for each in _sums(part, until, using).values() if each >= least]
        holders, minor = holders + len(sums), minor + sum(sums)
        if progress:
            progress(part.done, part.total)
    return Totals(holders, Money(minor, currency))


def totals(batch: PayoutBatch | None, currency: str) -> Totals:
    """Return what a batch comes to, whatever became of its payouts; no batch comes to nothing."""
    row = (
        _rows().filter(batch=batch).aggregate(holders=models.Count("pk"), **halves("all", "minor"))
    )
    return Totals(row["holders"], Money(joined(row, "all"), currency))


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
    accounts = accounts.exclude(holder__startswith=SITE).order_by("pk")
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
    sums = _sums(part, until, using)
    drafts = {account: minor for account, minor in sums.items() if minor >= least}
    if not drafts:
        return batch
    # Nobody spends what is about to be paid out: whoever has begun is waited for, and counted.
    ledger.lock(drafts, using)
    now = timezone.now()
    there = batch
    if batch is None:
        batch = PayoutBatch(currency=site.currency, until=until, created_on=now)
        batch.save(using=using)
    payouts = Payout.objects.using(using).bulk_create(
        [
            Payout(
                batch=batch,
                account_id=account,
                minor=Money(minor, site.currency).minor,
                created_on=now,
            )
            for account, minor in drafts.items()
        ]
    )
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
    entries = Entry.objects.using(using).bulk_create(
        [
            Entry(
                account_id=payout.account_id,
                contra=site,
                kind=Entry.Kind.PAYOUT,
                minor=-payout.minor,
                key=_key(payout),
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
    return batch


def _key(payout: Payout) -> str:
    return f"payout:{payout.pk}"


def _payable(part: Slice, until: datetime, using: str) -> EntryQuerySet:
    entries = Entry.objects.using(using).filter(part.of("account"))
    return entries.payable(until, timezone.now()).unpaid()


def _sums(part: Slice, until: datetime, using: str) -> dict[int, int]:
    """Return what each account of a slice may be paid, also where that is below zero."""
    rows = _payable(part, until, using).values("account").annotate(**halves("due", "minor"))
    return {row["account"]: joined(row, "due") for row in rows}


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
    low = {payout.pk for payout in drifted if payout.minor < least}
    PayoutEntry.objects.using(using).filter(payout__in=low).delete()
    Payout.objects.using(using).filter(pk__in=low).delete()
    rest = [payout for payout in drifted if payout.pk not in low]
    Payout.objects.using(using).bulk_update(rest, ["minor"], batch_size=500)
    return [payout for payout in payouts if payout.pk not in low]


# From draft to paid, or failed


def approve(payout: Payout) -> Payout:
    """Let a draft be sent. Raises InvalidTransition where it is none any more."""
    return _move(
        payout, Payout.State.DRAFT, state=Payout.State.APPROVED, approved_on=timezone.now()
    )


def approve_batch(batch: PayoutBatch) -> int:
    """Let what is still a draft of a batch be sent; return how many payouts that are."""
    drafts = _rows().filter(batch=batch, state=Payout.State.DRAFT)
    return drafts.update(state=Payout.State.APPROVED, approved_on=timezone.now())


def mark_sent(payout: Payout, provider_reference: str = "") -> Payout:
    """Note that an approved payout is about to be sent, which is noted before it is.

    Raises InvalidTransition where it is not approved, or was sent by somebody else.
    """
    changes = _referred(provider_reference)
    return _move(
        payout,
        Payout.State.APPROVED,
        state=Payout.State.SENT,
        sent_on=timezone.now(),
        **changes,
    )


def send_batch(batch: PayoutBatch, method: str) -> int:
    """Note that what is approved of a batch and goes by `method` is about to be sent.

    Returns how many payouts that are. Each keeps where it goes to, whatever becomes of its holder's
    destination, so that it is in the files of one provider and never in another's. Whoever has no
    destination is not among them.
    """
    holder = Account.objects.filter(pk=models.OuterRef(models.OuterRef("account_id")))
    # There is one at most of each, which Django wants said.
    theirs = Destination.objects.filter(holder=models.Subquery(holder.values("holder")[:1]))
    theirs = theirs.filter(method=method)
    rows = _rows().filter(models.Exists(theirs), batch=batch, state=Payout.State.APPROVED)
    return rows.update(
        state=Payout.State.SENT,
        sent_on=timezone.now(),
        method=method,
        name=models.Subquery(theirs.values("name")[:1]),
        email=models.Subquery(theirs.values("email")[:1]),
    )


def mark_paid(payout: Payout, provider_reference: str = "") -> Payout:
    """Note that what was sent has arrived. Sends `payout_settled`.

    Raises InvalidTransition where it was not sent, or is settled already.
    """
    changes = _referred(provider_reference)
    with transaction.atomic(using=router.db_for_write(Payout)):
        _move(
            payout, Payout.State.SENT, state=Payout.State.PAID, settled_on=timezone.now(), **changes
        )
        _announce(payout)
    return payout


def fail(payout: Payout, reason: str) -> Payout:
    """Note that nobody was paid, and give the entries back: what is owed is owed again.

    What was sent has failed only if the provider says so. Sends `entry_posted` and
    `payout_settled`. Raises InvalidTransition where it is settled already.
    """
    using = router.db_for_write(Payout)
    now = timezone.now()

    def give_back() -> None:
        _move(
            payout,
            *(Payout.State.DRAFT, Payout.State.APPROVED, Payout.State.SENT),
            state=Payout.State.FAILED,
            settled_on=now,
            reason=ledger.fitting(reason, MAX_REASON),
        )
        PayoutEntry.objects.using(using).filter(payout=payout).update(claimed=None)
        entry = Entry.objects.using(using).get(key=_key(payout))
        key = f"reversal:{entry.pk}:{payout.minor}"
        back = reversal_of(entry, entry.minor, key=key, now=now, memo=payout.reason)
        back.save(force_insert=True, using=using)
        entry_posted.announce(Entry, using=using, entry=back)
        _announce(payout)

    retried(give_back, using)
    return payout


def _rows() -> models.QuerySet[Payout]:
    return Payout.objects.using(router.db_for_write(Payout))


def _move(payout: Payout, *origins: str, **changes: Any) -> Payout:
    if not _rows().filter(pk=payout.pk, state__in=origins).update(**changes):
        raise InvalidTransition(f"payout: {payout} is not {' or '.join(map(str, origins))}")
    for name, value in changes.items():
        setattr(payout, name, value)
    return payout


def is_reference(text: str) -> bool:
    """Tell whether a provider's reference, or none, can be noted."""
    return len(text) <= MAX_REFERENCE and text.isprintable()


def _referred(reference: str) -> dict[str, str]:
    if not is_reference(reference):
        raise ValueError(
            f"provider_reference: must be at most {MAX_REFERENCE} characters, none a control one"
        )
    # What was known of it before is kept.
    return {"provider_reference": reference} if reference else {}


def _announce(payout: Payout) -> None:
    payout_settled.announce(Payout, using=router.db_for_write(Payout), payout=payout)
