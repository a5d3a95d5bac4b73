"""Look at what conversions have earned, and lost again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta

from django.db import models, router, transaction

from ...models import Conversion, Share
from ...sums import halves, joined
from .. import commissions, ledger, terms
from ..commissions import LESS_SPECIFIC, NO_RULE, OWN, Part
from ..models import Account, Commission, CommissionRule, Entry, Review
from ..terms import Claim, History, Terms
from .differences import Problem

#: What AFFILIATE_HOLD can be at most: what it was at the time is nowhere kept.
LONGEST_HOLD = timedelta(days=3650)
#: What reading a record that somebody has tampered with may raise.
UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def problems_alone(conversion: Conversion) -> list[Problem]:
    """Return what is wrong with a conversion, while nobody posts anything for it."""
    using = router.db_for_write(Entry)
    with transaction.atomic(using=using):
        stored = Conversion.objects.using(using).select_for_update().get(pk=conversion.pk)
        # Who posts anything to them, as when a review is rejected, waits.
        concerned = Entry.objects.filter(commission__conversion=stored).values("account")
        accounts = Account.objects.using(using).filter(pk__in=concerned).order_by("pk")
        list(accounts.select_for_update())
        return Book([stored]).problems(stored)


class Book:
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
            if entry.available_on is None:
                yield Problem("entry", "it is never available")
            elif not timedelta(0) <= entry.available_on - conversion.created_on <= LONGEST_HOLD:
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
