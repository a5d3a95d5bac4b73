"""Recompute all that was earned, posted and paid out, and say what differs.

Nothing is taken for granted but conversions, their shares and published rules. Who belonged to a
group, or to a partner's own people, at some moment in the past is nowhere kept, so that of these
the commissions' own records are believed; and so is what a partner had brought until then.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connections, models, router, transaction

from ..models import Conversion, Partner, Share
from ..savepoints import retried
from ..sums import halves, joined
from . import commissions, ledger, protection, terms
from .commissions import LESS_SPECIFIC, NO_RULE, OWN, Part
from .models import (
    Account,
    Commission,
    CommissionRule,
    Entry,
    Payout,
    PayoutEntry,
    Review,
    Snapshot,
)
from .querysets import available_at
from .terms import Claim, History, Terms

__all__ = ["Audit", "Difference", "post_missing"]

#: Rows that are looked at together.
BATCH = 500
#: What AFFILIATE_HOLD can be at most: what it was at the time is nowhere kept.
LONGEST_HOLD = timedelta(days=3650)
#: What reading a record that somebody has tampered with may raise.
UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

#: What is shown how far an audit is: what is looked at, how many are done, and of how many.
Progress = Callable[[str, int, int], None]


class Problem(NamedTuple):
    """What is wrong with a row: a code, and in words."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it should be; `posted` tells that this was put right just now.

    `kind` is "protection", "missing", "part", "rule", "amount", "entry", "reversal", "payout",
    "snapshot" or "currency".
    """

    kind: str
    subject: str
    text: str
    posted: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}: {self.text}{' (posted now)' if self.posted else ''}"


@dataclass
class Audit:
    """One run, over everything, or over what concerns a partner.

    `since` leaves out conversions before it. Otherwise they are those that have commissions, and
    all since the first rule was published: before that nothing could be earned, however old the
    site. With `post_missing`, what conversions have earned or lost and was not posted is posted.
    `checked` counts what was looked at.
    """

    partner: Partner | None = None
    since: datetime | None = None
    post_missing: bool = False
    progress: Progress = lambda unit, done, total: None
    checked: Counter[str] = field(default_factory=Counter)

    def differences(self) -> Iterator[Difference]:
        """Look at everything, a batch after the other, and yield what differs."""
        using = router.db_for_write(Entry)
        if not protection.is_installed(connections[using]):
            text = "the database lets entries and commissions be changed; run migrate"
            yield Difference("protection", "triggers", text)
        conversions = self._conversions(using)
        yield from self._streamed("conversions", conversions, self._of_conversions)
        yield from self._legs(using)
        payouts = Payout.objects.using(using)
        yield from self._streamed("payouts", self._own(payouts, "account"), self._of_payouts)
        snapshots = Snapshot.objects.using(using).select_related("account")
        yield from self._streamed("snapshots", self._own(snapshots, "account"), _of_snapshots)

    def _own(self, rows: Any, account: str) -> Any:
        return (
            rows if self.partner is None else rows.filter(**{f"{account}__partner": self.partner})
        )

    def _streamed(
        self, unit: str, rows: Any, look: Callable[[list[Any]], Iterator[Difference]]
    ) -> Iterator[Difference]:
        total, last = rows.count(), 0
        while batch := list(rows.filter(pk__gt=last).order_by("pk")[:BATCH]):
            yield from look(batch)
            last = batch[-1].pk
            self.checked[unit] += len(batch)
            self.progress(unit, self.checked[unit], total)

    def _conversions(self, using: str) -> Any:
        rows = Conversion.objects.using(using)
        if self.partner is not None:
            shares = Share.objects.filter(visitor__partner=self.partner)
            rows = rows.filter(models.Exists(shares.filter(conversion=models.OuterRef("pk"))))
        if self.since is not None:
            return rows.filter(created_on__gte=self.since)
        written = Commission.objects.filter(conversion=models.OuterRef("pk"))
        meant = models.Q(models.Exists(written))
        published = CommissionRule.objects.using(using).aggregate(on=models.Min("published_on"))
        if published["on"] is not None:
            meant |= models.Q(created_on__gte=published["on"])
        return rows.filter(meant)

    def _of_conversions(self, batch: list[Conversion]) -> Iterator[Difference]:
        suspects = _Book(batch)
        for conversion in batch:
            if not suspects.problems(conversion):
                continue
            # Somebody may have taken it back in the midst of this. Alone, it stands still.
            problems = _problems_alone(conversion)
            failure, left = "", problems
            if self.post_missing and any(kind in ("missing", "reversal") for kind, _ in problems):
                try:
                    post_missing(conversion)
                except Exception as error:  # noqa: BLE001 - that of one must not keep the others back
                    failure = f"; to post it failed: {error}"
                left = _problems_alone(conversion)
            for each in problems:
                yield Difference(
                    each.kind,
                    f"conversion {conversion.pk}",
                    f"{each.text}{failure}",
                    posted=each not in left,
                )

    def _legs(self, using: str) -> Iterator[Difference]:
        """Yield entries between accounts that do not go together."""
        entries = self._own(Entry.objects.using(using), "account")
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
            self.checked["payout entries"] += 1
            if not _names_a_payout(key, using):
                yield Difference("payout", f"entry {pk}", f"{key} names no payout")

    def _of_payouts(self, batch: list[Payout]) -> Iterator[Difference]:
        suspects = _problems_of_payouts(batch)
        for payout in batch:
            if payout.pk in suspects:
                using = payout._state.db
                with transaction.atomic(using=using):
                    # Nobody is in the middle of settling it.
                    rows = Payout.objects.using(using).select_for_update()
                    still = _problems_of_payouts([rows.get(pk=payout.pk)])
                for text in still[payout.pk]:
                    yield Difference("payout", f"payout {payout.uid}", text)


def post_missing(conversion: Conversion) -> None:
    """Post what a conversion has earned and lost, as far as that was not done: once.

    By the rules as they were when it was recorded; who belongs to a partner or to a group is asked
    today. Tiers and caps count what was posted meanwhile. Runs at the same time wait for each
    other.
    """
    using = router.db_for_write(Entry)

    def post() -> None:
        stored = Conversion.objects.using(using).select_for_update().get(pk=conversion.pk)
        if not Commission.objects.using(using).filter(conversion=stored).exists():
            commissions.earn(stored)
        commissions.take_back(stored)

    retried(post, using)


# Conversions


def _problems_alone(conversion: Conversion) -> list[Problem]:
    using = router.db_for_write(Entry)
    with transaction.atomic(using=using):
        stored = Conversion.objects.using(using).select_for_update().get(pk=conversion.pk)
        # Who posts anything to them, as when a review is rejected, waits.
        concerned = Entry.objects.filter(commission__conversion=stored).values("account")
        accounts = Account.objects.using(using).filter(pk__in=concerned).order_by("pk")
        list(accounts.select_for_update())
        return _Book([stored]).problems(stored)


class _Book:
    """All that is written of some conversions."""

    def __init__(self, conversions: Sequence[Conversion]) -> None:
        using = router.db_for_write(Entry)
        self.shares: dict[int, list[Share]] = defaultdict(list)
        rows = Share.objects.using(using).filter(conversion__in=conversions)
        for share in rows.select_related("visitor__partner").order_by("pk"):
            self.shares[share.conversion_id].append(share)
        self.commissions: dict[int, list[Commission]] = defaultdict(list)
        written = list(Commission.objects.using(using).filter(conversion__in=conversions))
        for each in sorted(written, key=lambda each: each.pk):
            self.commissions[each.conversion_id].append(each)
        self.entries: dict[int | None, list[Entry]] = defaultdict(list)
        posted = Entry.objects.using(using).filter(
            kind=Entry.Kind.COMMISSION, commission__in=written
        )
        entries = list(posted.select_related("account", "contra").order_by("pk"))
        for entry in entries:
            self.entries[entry.commission_id].append(entry)
        lost = Entry.objects.using(using).filter(reverses__in=entries).order_by()
        sums = lost.values("reverses").annotate(**halves("lost", "minor"))
        self.lost = {row["reverses"]: -joined(row, "lost") for row in sums}
        reviews = Review.objects.using(using).filter(
            entry__in=entries, outcome=Review.Outcome.REJECTED
        )
        self.rejected = set(reviews.values_list("entry", flat=True))
        partners = {share.visitor.partner_id for each in self.shares.values() for share in each}
        named = {pk for each in written for pk in _considered(each)}
        concern = models.Q(partner__in=partners) | models.Q(partner=None, group=None)
        rules = CommissionRule.objects.using(using).filter(concern | models.Q(pk__in=named))
        self.rules = {rule.pk: rule for rule in rules}

    def problems(self, conversion: Conversion) -> list[Problem]:
        """Return what is wrong with a conversion."""
        return list(self._problems(conversion))

    def _problems(self, conversion: Conversion) -> Iterator[Problem]:
        parts = commissions.parts_of(conversion, self.shares[conversion.pk])
        written = {each.partner_id: each for each in self.commissions[conversion.pk]}
        if not written:
            if parts:
                yield Problem("missing", "it was never looked at what it earns")
            return
        if {part.partner.pk for part in parts} != {*written}:
            yield Problem("part", "its commissions are not of the partners that it is credited to")
        whole = sum(each.base_minor for each in written.values())
        if whole != (conversion.amount_minor or 0):
            yield Problem("part", f"its parts sum to {whole}, not to {conversion.amount_minor}")
        for part in parts:
            commission = written.get(part.partner.pk)
            if commission is None:
                continue
            whose = f"partner {part.partner.uid}"
            if (commission.base_minor, commission.visitor_id) != (part.minor, part.visitor_id):
                yield Problem("part", f"{whose} has another part of it than its shares say")
            try:
                for text in self._of_rule(conversion, commission):
                    yield Problem("rule", f"{whose}: {text}")
            except UNREADABLE:
                yield Problem("rule", f"{whose}: the record of its rule cannot be read")
            for kind, text in self._of_entries(conversion, commission):
                yield Problem(kind, f"{whose}: {text}")
        try:
            yield from _of_amounts(conversion, parts, written)
        except UNREADABLE:
            yield Problem("amount", "what it was paid by cannot be read")

    def _of_rule(self, conversion: Conversion, commission: Commission) -> Iterator[str]:
        """Yield what is wrong with the choice of a rule."""
        when = commission.converted_on
        if when != conversion.created_on:
            yield "it is said to have converted at another time"
        considered = [(pk, why) for pk, why in commission.record["considered"]]
        known = [self.rules[pk] for pk, _ in considered if pk in self.rules]
        for pk, _ in considered:
            rule = self.rules.get(pk)
            if rule is None:
                yield f"the rule {pk}, which came into question, is gone"
            elif not (
                rule.holds_at(when) and rule.is_for(commission.partner_id, conversion.trigger)
            ):
                yield f"the rule {pk} came into question, but did not hold for it"
        named = {pk for pk, _ in considered}
        for rule in self.rules.values():
            if (
                rule.group_id is None
                and rule.pk not in named
                and rule.holds_at(when)
                and rule.is_for(commission.partner_id, conversion.trigger)
            ):
                yield f"the rule {rule.pk} held for it, but did not come into question"
        chosen = None
        expected = []
        for rule in sorted(known, key=lambda rule: rule.rank, reverse=True):
            why = commissions.misfit(rule, conversion) if chosen is None else LESS_SPECIFIC
            expected.append((rule.pk, why))
            if not why:
                chosen = rule
        if len(known) == len(considered) and expected != considered:
            yield "its rules are not in the order, or not left out for the reasons, of their terms"
        first = next((pk for pk, why in considered if not why), None)
        why = commission.record.get("why", "")
        if (commission.rule_id, why) not in (
            [(first, ""), (None, OWN)] if first else [(None, NO_RULE)]
        ):
            yield f"it is paid by the rule {commission.rule_id}, not by {first}"
        paying = self.rules.get(commission.rule_id or 0)
        currency = (paying.currency if paying else "") or conversion.currency
        agreed = (paying.terms.as_dict(), paying.lineage) if paying else ({}, None)
        if (commission.terms, commission.lineage) != agreed:
            yield "its terms are not those of its rule"
        if commission.currency != currency:
            yield f"it is in {commission.currency or 'no currency'}, not in {currency}"

    def _of_entries(self, conversion: Conversion, commission: Commission) -> Iterator[Problem]:
        """Yield what is wrong with what was posted for a commission."""
        entries = self.entries[commission.pk]
        if len(entries) != bool(commission.minor):
            number = len(entries)
            yield Problem("entry", f"{number} entries are posted for {commission.minor}")
        for entry in entries:
            account, contra = entry.account, entry.contra
            if entry.minor != commission.minor:
                yield Problem("entry", f"posted is {entry.minor}, not {commission.minor}")
            if (account.holder, account.currency) != (
                ledger.holder_of(commission.partner_id),
                commission.currency,
            ):
                yield Problem("entry", f"it is posted to the account {account}")
            if contra.holder != ledger.SITE[Entry.Kind.COMMISSION]:
                yield Problem("entry", f"it is posted from the account {contra}")
            held = entry.available_on - conversion.created_on
            if not timedelta(0) <= held <= LONGEST_HOLD:
                yield Problem("entry", f"it is available on {entry.available_on:%Y-%m-%d}")
            gone = commissions.gone_of(entry.minor, conversion)
            if entry.pk in self.rejected:
                gone = entry.minor
            if (lost := self.lost.get(entry.pk, 0)) != gone:
                yield Problem("reversal", f"{lost} of {entry.minor} is taken back, not {gone}")


def _considered(commission: Commission) -> list[int]:
    try:
        return [int(pk) for pk, _ in commission.record["considered"]]
    except UNREADABLE:
        return []


def _of_amounts(
    conversion: Conversion, parts: Sequence[Part], written: dict[int, Commission]
) -> Iterator[Problem]:
    """Yield which partners have earned something else than their terms say."""
    paid = []
    for part in parts:
        commission = written.get(part.partner.pk)
        if commission is None:
            continue
        if commission.rule_id is None:
            if commission.minor:
                yield Problem("amount", f"partner {part.partner.uid} has earned without a rule")
            continue
        agreed = Terms.of(commission.terms)
        record = commission.record
        history = History.of(record["history"]) if agreed.looks_back else History()
        claim = Claim(commission.rule_id, agreed, commission.base_minor, part.weight, history)
        paid.append((part, commission, claim))
    for (part, commission, _), earned in zip(
        paid,
        terms.earn([claim for *_, claim in paid], conversion.created_on),
        strict=True,
    ):
        record = commission.record
        if (commission.minor, record["rate"], record["steps"]) != (
            earned.minor,
            terms.plain(earned.rate),
            list(earned.steps),
        ):
            text = f"partner {part.partner.uid} has earned {commission.minor}, not {earned.minor}"
            yield Problem("amount", text)


# Payouts and snapshots


def _names_a_payout(key: str, using: str) -> bool:
    name, _, number = key.partition(":")
    if name != Entry.Kind.PAYOUT or not (number.isascii() and number.isdigit()):
        return False
    return Payout.objects.using(using).filter(pk=int(number)).exists()


def _problems_of_payouts(payouts: Sequence[Payout]) -> dict[int, list[str]]:
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


def _of_snapshots(batch: list[Snapshot]) -> Iterator[Difference]:
    for snapshot in batch:
        entries = Entry.objects.using(snapshot._state.db).filter(
            account=snapshot.account_id, created_on__lte=snapshot.taken_on
        )
        row = entries.aggregate(
            **halves("total", "minor"),
            **halves("now", "minor", filter=available_at(snapshot.taken_on)),
        )
        found = joined(row, "total"), joined(row, "now")
        noted = snapshot.total_minor, snapshot.available_minor
        if found != noted:
            text = f"noted are {noted}, total and available, but the entries sum to {found}"
            yield Difference("snapshot", f"snapshot {snapshot}", text)
