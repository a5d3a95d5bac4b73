"""Post to the ledger, and say what is in it.

Nothing is ever changed in it. What an account comes to is a sum of entries, at any moment there
has been; snapshots keep the sum short.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

from django.conf import settings
from django.db import IntegrityError, connections, models, router, transaction
from django.utils import timezone

from ..exceptions import InvalidMoney, InvalidTransition
from ..isolation import hold_to
from ..models import Partner
from ..money import Money
from ..savepoints import retried
from ..sums import halves, joined
from .exceptions import InsufficientBalance
from .models import Account, Entry, Review, Snapshot
from .models.ledger import MAX_MEMO
from .models.ledger import SITE as SITES
from .querysets import EntryQuerySet, available
from .signals import entry_posted

__all__ = [
    "Balance",
    "account_of",
    "balance",
    "balances",
    "post",
    "reverse",
    "site_account",
    "spend",
    "take_snapshot",
]

#: What anybody may post; the rest follows from conversions and payouts.
FREE = (Entry.Kind.CREDIT, Entry.Kind.ADJUSTMENT)
KEY = re.compile(r"[!-~]{1,80}")
HOLDER = re.compile(r"[a-z][a-z0-9_.-]*:[!-~]{1,60}")
#: What the names begin with that nobody else gives.
OURS = ("partner:", SITES)
#: What the keys that callers give begin with, so that none is ever one of the ledger's own.
POSTED = "posted:"
#: What has to be the same where the same key posts again.
SAME = ("account_id", "kind", "minor")
#: By then an entry is committed, or has failed, whatever is done around it.
LATE = timedelta(hours=1)
#: Accounts that are summed in one query.
TOGETHER = 200

#: The site's own accounts, by what they are the other side of.
SITE = {
    Entry.Kind.COMMISSION: "site:commissions",
    Entry.Kind.CREDIT: "site:credits",
    Entry.Kind.ADJUSTMENT: "site:adjustments",
    Entry.Kind.PAYOUT: "site:payouts",
}


class Balance(NamedTuple):
    """What an account comes to, in minor units: `total` is owed, `available` may be paid out."""

    total: int
    available: int
    currency: str

    @property
    def held(self) -> int:
        """What is not to be paid out yet."""
        return self.total - self.available


def holder_of(partner_id: int) -> str:
    """Return what the holder of a partner's accounts is called."""
    return f"partner:{partner_id}"


def account_of(holder: str | Partner, currency: str) -> Account:
    """Return the account of a partner, or of whom another app calls `holder`; made if need be.

    `holder` names whose it is and which one, as "member:7" does. `currency` is an ISO 4217 code in
    capitals; raises InvalidMoney for any other, and ValueError for a holder that is no such name,
    or one of ours.
    """
    if isinstance(holder, Partner):
        return _account(holder_of(holder.pk), currency, holder)
    if not _matches(HOLDER, holder) or holder.startswith(OURS):
        raise ValueError(
            f"holder: must be a Partner, or a name such as member:7, not {holder!r:.80}"
        )
    return _account(holder, currency)


def site_account(kind: str, currency: str) -> Account:
    """Return the site's own account that is the other side of entries of a kind."""
    return _account(SITE[Entry.Kind(kind)], currency)


def _account(holder: str, currency: str, partner: Partner | None = None) -> Account:
    Money(0, currency)
    accounts = Account.objects.using(router.db_for_write(Account))
    # Looked for first: nearly always it is there, and to try to insert it would lock it.
    account, _made = accounts.get_or_create(
        holder=holder, currency=currency, defaults={"partner": partner}
    )
    return account


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def fitting(text: str, length: int) -> str:
    """Return as much of a text as fits, without what no database takes: it only explains."""
    return text.replace("\0", "").encode(errors="replace").decode()[:length]


def lock(account_ids: Iterable[int], using: str) -> None:
    """Let nobody else count on what is in these accounts, until the transaction is over.

    Raises ImproperlyConfigured on a connection where that would be in vain, see isolation.py.
    """
    hold_to(connections[using])
    # In the same order everywhere. Who only posts is not in the way, where that is possible.
    no_key = connections[using].features.has_select_for_no_key_update
    accounts = Account.objects.using(using).filter(pk__in=account_ids).order_by("pk")
    list(accounts.select_for_update(no_key=no_key))


def wait_for(account_id: int, using: str) -> None:
    """Let whoever has locked an account go first, where to post to it would wait for them anyway.

    To be called before anything is written that they may need.
    """
    if not connections[using].features.has_select_for_no_key_update:
        lock([account_id], using)


def post(
    account: Account,
    money: Money,
    *,
    kind: str,
    key: str,
    memo: str = "",
    available_on: datetime | None = None,
    promised: bool = False,
) -> Entry:
    """Post what is owed to an account's holder, or, below zero, what they owe; once for each `key`.

    `kind` is "credit" or "adjustment": commissions, their reversals and payouts post themselves.
    `key` has up to 80 characters of ASCII. Available at once, unless `available_on` says when or it
    is `promised` only: then it is held until `reverse` takes it back. The same again returns the
    entry that is there. Everything is written in the caller's transaction. Sends `entry_posted`.

    Raises InvalidMoney where it is no Money, or the currency is not the account's or the sum is
    zero, ValueError for anything else that is no such thing or an account of the site's own, and
    InvalidTransition where the key has posted something else: another sum, another kind, or to
    another account.
    """
    _check(account, money, key, memo)
    if kind not in FREE:
        raise ValueError(f"kind: must be one of {', '.join(map(str, FREE))}, not {kind!r:.40}")
    if available_on is not None and not is_moment(available_on):
        raise ValueError(
            f"available_on: must be a moment as the site has them, not {available_on!r:.60}"
        )
    if not money.minor:
        raise InvalidMoney("money: must not be zero")
    using = router.db_for_write(Entry)
    now = timezone.now()
    entry = Entry(
        account=account,
        contra=site_account(kind, account.currency),
        kind=kind,
        minor=money.minor,
        key=_posted(key),
        memo=fitting(memo, MAX_MEMO),
        available_on=None if promised else max(available_on or now, now),
        created_on=now,
    )
    return _posted_once(entry, using)


def reverse(entry: Entry, memo: str = "") -> Entry:
    """Take all of a credit or an adjustment back, once; return the entry that does it.

    It is held as long as what it takes back. The same again returns the entry that is there.
    Everything is written in the caller's transaction. Sends `entry_posted`. Raises ValueError for
    any other kind: commissions and payouts are taken back by what becomes of them.
    """
    if entry.kind not in FREE:
        raise ValueError(f"entry: a {entry.kind} is not taken back by itself")
    using = router.db_for_write(Entry)
    key = f"reversal:{entry.pk}:{entry.minor}"
    text = fitting(memo, MAX_MEMO)
    reversal = reversal_of(entry, entry.minor, key=key, now=timezone.now(), memo=text)
    return _posted_once(reversal, using)


def reversal_of(entry: Entry, minor: int, *, key: str, now: datetime, memo: str = "") -> Entry:
    """Return the entry that takes `minor` units of another one back, held as long as that is."""
    held_until = entry.available_on
    if held_until is not None:
        # What was never held is not held by a clock either that is behind the one it was posted by.
        held_until = max(held_until, now) if held_until > entry.created_on else now
    return Entry(
        account_id=entry.account_id,
        contra_id=entry.contra_id,
        kind=Entry.Kind.REVERSAL,
        minor=-minor,
        key=key,
        commission_id=entry.commission_id,
        reverses=entry,
        memo=memo,
        available_on=held_until,
        created_on=now,
    )


def _posted_once(entry: Entry, using: str) -> Entry:
    """Post an entry; return the one that has its key where there is one.

    Raises InvalidTransition where that is another sum, another kind, or in another account.
    """
    try:
        with transaction.atomic(using=using):
            entry.save(force_insert=True, using=using)
            entry_posted.announce(Entry, using=using, entry=entry)
    except IntegrityError:
        there = Entry.objects.using(using).filter(key=entry.key).first()
        if there is None:
            raise
        if any(getattr(there, name) != getattr(entry, name) for name in SAME):
            key = entry.key.removeprefix(POSTED)
            raise InvalidTransition(f"key: {key!r} has posted something else") from None
        return there
    return entry


def _check(account: object, money: object, key: object, memo: object) -> None:
    """Refuse what nothing can be posted with; raises InvalidMoney and ValueError."""
    if not isinstance(account, Account):
        raise ValueError(f"account: must be an Account, not {account!r:.40}")
    if account.is_site:
        raise ValueError(f"account: {account} is the site's own, the other side of all others")
    if not isinstance(money, Money):
        raise InvalidMoney(f"money: must be Money, not {money!r:.40}")
    if money.currency != account.currency:
        raise InvalidMoney(f"money: the account is in {account.currency}, not {money.currency}")
    if not _matches(KEY, key):
        raise ValueError("key: must be 1 to 80 visible characters of ASCII")
    if not isinstance(memo, str):
        raise ValueError(f"memo: must be text, not {memo!r:.40}")


def is_moment(value: object) -> bool:
    return isinstance(value, datetime) and timezone.is_aware(value) == settings.USE_TZ


def spend(account: Account, money: Money, *, key: str, memo: str = "") -> Entry:
    """Take what a holder spends off an account, once for each `key`, if that much is available.

    For credits that pay for something. The same again returns the entry that is there. Everything
    is written in the caller's transaction. Sends `entry_posted`. Raises InsufficientBalance, and
    what `post` raises; then nothing has changed.
    """
    _check(account, money, key, memo)
    if money.minor <= 0:
        raise InvalidMoney("money: must be above zero")
    using = router.db_for_write(Entry)

    def once() -> Entry:
        lock([account.pk], using)
        if not has_posted(key):
            available = balance(account).available
            if available < money.minor:
                left = Money(max(available, 0), account.currency)
                raise InsufficientBalance(f"money: only {left} are available, not {money}")
        return post(account, -money, kind=Entry.Kind.CREDIT, key=key, memo=memo)

    return retried(once, using)


def has_posted(key: str) -> bool:
    """Tell whether `post` was given this key before."""
    using = router.db_for_write(Entry)
    return Entry.objects.using(using).filter(key=_posted(key)).exists()


def _posted(key: str) -> str:
    return f"{POSTED}{key}"


def balance(account: Account, *, as_of: datetime | None = None) -> Balance:
    """Return what an account comes to, now or at any moment in the past.

    Now is all that is committed, whatever the clocks of the hosts that posted it said. One query
    sums the entries since the last snapshot before that moment, or else all of them.
    """
    if account.is_site:
        entries = _posted_by(as_of).filter(contra=account)
        row = entries.aggregate(**halves("total", "minor"))
        return Balance(-joined(row, "total"), -joined(row, "total"), account.currency)
    snapshots = Snapshot.objects.using(router.db_for_write(Snapshot)).filter(account=account)
    before = snapshots.filter(taken_on__lte=as_of or timezone.now()).order_by("-taken_on").first()
    return summed(account, as_of, before)


def _posted_by(as_of: datetime | None) -> EntryQuerySet:
    entries = Entry.objects.using(router.db_for_write(Entry)).all()
    return entries if as_of is None else entries.filter(created_on__lte=as_of)


def balances(accounts: Iterable[Account]) -> dict[int, Balance]:
    """Return by its key what each holder's account comes to now; of the site's own say nothing.

    At most four queries for up to 200 accounts, and one for 200 more; of each account only the
    entries since its last snapshot are summed, as `balance` does it.
    """
    rows = {account.pk: account for account in accounts if not account.is_site}
    snapshots = Snapshot.objects.using(router.db_for_write(Snapshot)).filter(account__in=rows)
    same = snapshots.filter(account=models.OuterRef("account"), taken_on__lte=timezone.now())
    latest = same.order_by("-taken_on").values("taken_on")[:1]
    noted = {each.account_id: each for each in snapshots.filter(taken_on=models.Subquery(latest))}
    entries = _posted_by(None)
    new = entries.filter(account__in=rows.keys() - noted.keys())
    sums = [_by_account(new, None)]
    if noted:
        roots = _decided(noted.values(), None, entries.db)
        changed = [
            _by_account(_changed(entries.filter(account=pk), each, roots[pk]), each)
            for pk, each in noted.items()
        ]
        # Each as it would be asked for alone, by the same indexes, and many in one query: of more
        # SQLite says that they are too many.
        for first in range(0, len(changed), TOGETHER):
            some = changed[first : first + TOGETHER]
            sums.append(some[0].union(*some[1:], all=True))
    found = {row["account"]: row for row in chain(*sums)}
    return {
        # Where there is no row, nothing has changed.
        pk: _balance(found.get(pk, Counter()), noted.get(pk), account.currency)
        for pk, account in rows.items()
    }


def summed(
    account: Account, as_of: datetime | None, snapshot: Snapshot | None, last: int | None = None
) -> Balance:
    """Return what a holder's entries come to, from where a snapshot before that has left off.

    Of the entries up to number `last`, if there is one.
    """
    entries = _posted_by(as_of).filter(account=account)
    if last is not None:
        entries = entries.filter(pk__lte=last)
    if snapshot is not None:
        roots = _decided([snapshot], as_of, entries.db)
        entries = _changed(entries, snapshot, roots[account.pk])
    return _balance(entries.aggregate(**_sums(as_of, snapshot)), snapshot, account.currency)


def _by_account(entries: EntryQuerySet, snapshot: Snapshot | None) -> Any:
    return entries.order_by().values("account").annotate(**_sums(None, snapshot))


def _sums(as_of: datetime | None, snapshot: Snapshot | None) -> dict[str, Any]:
    """Return what to aggregate of the entries that a snapshot, or none, knows nothing of."""
    now = available(as_of)
    if snapshot is None:
        return {**halves("total", "minor"), **halves("now", "minor", filter=now)}
    then = available(snapshot.taken_on) & models.Q(pk__lte=snapshot.last_entry)
    return {
        **halves("total", "minor", filter=models.Q(pk__gt=snapshot.last_entry)),
        **halves("now", "minor", filter=now),
        **halves("then", "minor", filter=then),
    }


def _balance(row: Mapping[str, Any], snapshot: Snapshot | None, currency: str) -> Balance:
    total, now = joined(row, "total"), joined(row, "now")
    if snapshot is None:
        return Balance(total, now, currency)
    available = snapshot.available_minor + now - joined(row, "then")
    return Balance(snapshot.total_minor + total, available, currency)


def _changed(entries: EntryQuerySet, snapshot: Snapshot, roots: list[int]) -> EntryQuerySet:
    """Keep the entries that a snapshot knows nothing of, and what was held or let go since.

    `roots` are those that were decided on since.
    """
    changed = models.Q(pk__gt=snapshot.last_entry) | models.Q(available_on__gt=snapshot.taken_on)
    if roots:
        changed |= models.Q(pk__in=roots) | models.Q(reverses__in=roots)
    return entries.filter(changed)


def _decided(
    snapshots: Iterable[Snapshot], as_of: datetime | None, using: str
) -> defaultdict[int, list[int]]:
    """Return by account the entries whose reviews were opened or resolved since its snapshot."""
    since = models.Q()
    for each in snapshots:
        opened = models.Q(opened_on__gt=each.taken_on)
        resolved = models.Q(resolved_on__gt=each.taken_on)
        if as_of is not None:
            opened &= models.Q(opened_on__lte=as_of)
            resolved &= models.Q(resolved_on__lte=as_of)
        since |= models.Q(entry__account=each.account_id) & (opened | resolved)
    # As numbers, of which there are few: beside a subquery no index would be used for the others.
    rows = Review.objects.using(using).filter(since).values_list("entry__account", "entry")
    found: defaultdict[int, list[int]] = defaultdict(list)
    for account, entry in rows.distinct():
        found[account].append(entry)
    return found


def take_snapshot(account: Account) -> Snapshot | None:
    """Note what an account came to an hour ago; None where that was noted before.

    Raises InvalidMoney where that is more than anybody is ever owed: beyond 63 bits.

    What it holds is told by the entries' numbers: all up to one before the first that is younger,
    as numbers and moments need not be in the same order. Two things keep an entry with a lower
    number from being seen only later. Whoever posts to the account at this moment is waited for;
    and whoever has a number, but has not got as far as the account, has it since less than an hour.
    """
    using = router.db_for_write(Snapshot)
    with transaction.atomic(using=using):
        # Whoever inserts an entry has a lock on it; see also protection.py.
        Account.objects.using(using).select_for_update().get(pk=account.pk)
        taken_on = timezone.now() - LATE
        snapshots = Snapshot.objects.using(using).filter(account=account)
        before = snapshots.order_by("-last_entry").first()
        entries = Entry.objects.using(using).filter(account=account)
        if before is not None and before.taken_on >= taken_on:
            return None
        new = entries.filter(pk__gt=before.last_entry) if before else entries
        younger = new.filter(created_on__gt=taken_on).order_by("pk").values_list("pk", flat=True)
        old = new.filter(pk__lt=first) if (first := younger.first()) else new
        last = old.aggregate(last=models.Max("pk"))["last"]
        if last is None:
            return None
        found = summed(account, taken_on, before, last)
        return snapshots.create(
            account=account,
            taken_on=taken_on,
            last_entry=last,
            total_minor=Money(found.total, account.currency).minor,
            available_minor=Money(found.available, account.currency).minor,
        )
