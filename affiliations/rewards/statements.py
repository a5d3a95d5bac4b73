"""Read an account as a statement: what came into it and went out of it, and what it then came to.

In the order of the entries' numbers, in which it is told exactly what came before what. Snapshots
keep it from adding up an account's whole past, wherever in it somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from django.db import models, router
from django.utils import timezone

from ..sums import halves, joined
from .ledger import LATE
from .models import Account, Entry, Review, Snapshot
from .querysets import EntryQuerySet

__all__ = ["Line", "Page", "Period", "legs", "lines", "next_available", "page", "up_to", "within"]

PAGE = 50
READ_AT_ONCE = 2000
#: What the words about an entry are made of.
RELATED = ("commission__conversion", "reverses", "account__partner")


class Period(NamedTuple):
    """From a moment on, and until before another; without both it is all time."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, moment: datetime) -> bool:
        """Tell whether a moment is in it."""
        begun = self.since is None or moment >= self.since
        return begun and (self.until is None or moment < self.until)


ALWAYS = Period()


class Line(NamedTuple):
    """An entry as an account sees it, in minor units: what it added, and what there was then."""

    entry: Entry
    minor: int
    balance: int


class Page(NamedTuple):
    """Some lines, the newest first, and whether there are newer and older ones."""

    lines: Sequence[Line]
    has_newer: bool
    has_older: bool


def legs(account: Account) -> EntryQuerySet:
    """Return the entries of an account; of the site's own those that it is the other side of."""
    entries = Entry.objects.using(router.db_for_write(Entry))
    return entries.filter(contra=account) if account.is_site else entries.filter(account=account)


def signed(account: Account, minor: int) -> int:
    """Return what an entry of so much adds to an account, from whose view it is told."""
    return -minor if account.is_site else minor


def within(account: Account, period: Period = ALWAYS) -> EntryQuerySet:
    """Return the entries that were posted in a period.

    There is no index by which they are found, but snapshots tell between which numbers they are.
    """
    rows, snapshots = legs(account), _snapshots(account)
    if period.since is not None:
        rows = rows.filter(created_on__gte=period.since)
        before = snapshots.filter(taken_on__lt=period.since).order_by("-taken_on").first()
        if before is not None:
            rows = rows.filter(pk__gt=before.last_entry)
    if period.until is not None:
        rows = rows.filter(created_on__lt=period.until)
        # What has a higher number than a snapshot's may be that much older than it, see there.
        behind = snapshots.filter(taken_on__gte=period.until + LATE).order_by("taken_on").first()
        if behind is not None:
            rows = rows.filter(pk__lte=behind.last_entry)
    return rows


def up_to(account: Account, last: int) -> int:
    """Return what the entries up to number `last` come to, from the nearest snapshot."""
    rows, snapshots = legs(account), _snapshots(account)
    below = snapshots.filter(last_entry__lte=last).order_by("-last_entry").first()
    above = snapshots.filter(last_entry__gt=last).order_by("last_entry").first()
    start, total = (below.last_entry, below.total_minor) if below else (0, 0)
    if above is not None and above.last_entry - last < last - start:
        return above.total_minor - _sum(rows.filter(pk__gt=last, pk__lte=above.last_entry))
    return total + signed(account, _sum(rows.filter(pk__gt=start, pk__lte=last)))


def page(
    account: Account,
    *,
    before: int | None = None,
    after: int | None = None,
    period: Period = ALWAYS,
) -> Page:
    """Return the lines of a period before an entry's number, or after it, or else the newest ones.

    So that the hundred-thousandth page takes as long as the first.
    """
    rows = within(account, period)
    entries: list[Entry] = []
    if after is not None:
        entries = [*rows.filter(pk__gt=after).prefetch_related(*RELATED).order_by("pk")[:PAGE]]
        entries.reverse()
    if len(entries) < PAGE:
        # Also where so few are newer that the first page has them all.
        older = rows if before is None or after is not None else rows.filter(pk__lt=before)
        entries = [*older.prefetch_related(*RELATED).order_by("-pk")[:PAGE]]
    if not entries:
        return Page([], rows.exists(), False)
    newest, oldest = entries[0].pk, entries[-1].pk
    there = {entry.pk: entry for entry in entries}
    amounts = [(entry.pk, entry.minor) for entry in entries]
    if period != ALWAYS:
        # What lies between them by its number, but not by its date, counts all the same.
        between = legs(account).filter(pk__gt=oldest, pk__lt=newest).exclude(pk__in=there)
        others = between.order_by("-pk").values_list("pk", "minor")
        amounts = sorted(chain(amounts, others), reverse=True)
    balance = up_to(account, newest)
    found = []
    for pk, minor in amounts:
        moved = signed(account, minor)
        if pk in there:
            found.append(Line(there[pk], moved, balance))
        balance -= moved
    return Page(found, rows.filter(pk__gt=newest).exists(), rows.filter(pk__lt=oldest).exists())


def lines(account: Account, period: Period = ALWAYS) -> Iterator[Line]:
    """Yield all lines of a period, the oldest first, reading them as it goes."""
    rows, balance = legs(account), 0
    if period != ALWAYS:
        ends = within(account, period).aggregate(first=models.Min("pk"), last=models.Max("pk"))
        if ends["first"] is None:
            return
        balance = up_to(account, ends["first"] - 1)
        rows = rows.filter(pk__gte=ends["first"], pk__lte=ends["last"])
    rows = rows.prefetch_related(*RELATED).order_by("pk")
    for entry in rows.iterator(chunk_size=READ_AT_ONCE):
        moved = signed(account, entry.minor)
        balance += moved
        if period.holds(entry.created_on):
            yield Line(entry, moved, balance)


def next_available(account: Account) -> datetime | None:
    """Return when the next of what is held by its date alone is held no longer, if any is."""
    entries = Entry.objects.using(router.db_for_write(Entry))
    opened = Review.objects.filter(entry=models.OuterRef("pk"), outcome=Review.Outcome.OPEN)
    held = entries.filter(account=account, available_on__gt=timezone.now(), minor__gt=0)
    rows = held.filter(~models.Exists(opened)).order_by("available_on")
    return rows.values_list("available_on", flat=True).first()


def _snapshots(account: Account) -> models.QuerySet[Snapshot]:
    return Snapshot.objects.using(router.db_for_write(Snapshot)).filter(account=account)


def _sum(rows: EntryQuerySet) -> int:
    return joined(rows.aggregate(**halves("sum", "minor")), "sum")
