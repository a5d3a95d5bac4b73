"""Say in words what a conversion has earned, and why, from what was written down at the time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import router

from ..models import Conversion, Share
from ..money import Money, in_words
from .commissions import BELOW_MINIMUM, LESS_SPECIFIC, NO_RULE, OTHER_CURRENCY, OWN
from .models import Commission, CommissionRule, Entry, Review
from .terms import History, Terms, months_after

__all__ = ["explain"]

NOT_CHOSEN = {
    OTHER_CURRENCY: "it is in another currency",
    BELOW_MINIMUM: "the conversion is worth less than its minimum",
    LESS_SPECIFIC: "it is less specific",
}
NOTHING = {
    OWN: "Nothing is earned, as it was one of the partner's own people who converted",
    NO_RULE: "Nothing is earned, as no rule held for it",
}
PERIODS = {"month": "calendar month", "quarter": "quarter", "year": "year", "ever": "all time"}


def explain(conversion: Conversion) -> str:
    """Say in words what each partner has earned by a conversion and why, for staff.

    A line for each partner, and below it what it was paid by, which rules were not chosen, what was
    taken back since, and when the rest is available. Rules are asked for their names only.
    """
    using = router.db_for_write(Entry)
    rows = Commission.objects.using(using).filter(conversion=conversion)
    commissions = list(rows.select_related("partner").order_by("pk"))
    if not commissions:
        return (
            "Nothing was posted for it. Where a rule held for it, audit_ledger posts what is due."
        )
    weights: dict[int, Decimal] = defaultdict(Decimal)
    shares = Share.objects.using(using).filter(conversion=conversion)
    for partner, weight in shares.values_list("visitor__partner", "weight"):
        weights[partner] += weight
    named = {pk for each in commissions for pk, _ in each.record["considered"]}
    names = CommissionRule.objects.using(using).filter(pk__in=named).values_list("pk", "name")
    rules = {pk: f"“{name}” (rule {pk})" for pk, name in names}
    entries = Entry.objects.using(using).filter(commission__in=commissions).order_by("pk")
    posted: dict[int | None, list[Entry]] = defaultdict(list)
    for entry in entries.prefetch_related("reviews"):
        posted[entry.commission_id].append(entry)
    lines = []
    for each in commissions:
        lines.append(_part(conversion, each, weights[each.partner_id]))
        lines += [f"- {line}" for line in _reasons(each, rules)]
        lines += [f"- {line}" for line in _since(each, posted[each.pk])]
    return "\n".join(lines)


def _part(conversion: Conversion, commission: Commission, weight: Decimal) -> str:
    whose = f"{commission.partner.name} ({commission.partner.uid})"
    if conversion.money is None:
        part = "a conversion without an amount" if weight == 1 else "it"
        return f"{whose} has {weight:.2%} of {part}."
    base = Money(commission.base_minor, conversion.currency)
    return f"{whose} has {weight:.2%} of {conversion.money}, which is {base}."


def _reasons(commission: Commission, rules: dict[int, str]) -> Iterator[str]:
    """Yield which rule pays, how much, and why each of the others does not."""
    record = commission.record
    if "why" in record:
        yield f"{NOTHING.get(record['why'], record['why'])}."
    for pk, why in record["considered"]:
        rule = rules.get(pk, f"rule {pk}")
        if why:
            yield f"Not by {rule}: {NOT_CHOSEN.get(why, why)}."
        elif commission.rule_id is None:
            yield f"It would have been paid by {rule}."
        else:
            yield f"By {rule}, the most specific of those that held: {commission.money or 0}."
            yield from _arithmetic(commission)


def _arithmetic(commission: Commission) -> Iterator[str]:
    """Yield by which rate, and what made it other than usual."""
    agreed = Terms.of(commission.terms)
    steps = commission.record["steps"]
    history = History.of(commission.record["history"]) if agreed.looks_back else History()
    if "times" in steps:
        yield (
            f"Nothing more is paid for this person: it is their conversion {history.times + 1}, "
            f"and the rule pays for {agreed.times}."
        )
    elif "months" in steps and history.first and agreed.months:
        ended = months_after(history.first, agreed.months)
        yield (
            f"Nothing more is paid for this person: they first converted on {_day(history.first)}, "
            f"and the rule pays until {_day(ended)}."
        )
    else:
        rate: Any = commission.record["rate"]
        if agreed.is_flat:
            yield f"It pays {Money(rate, agreed.currency)} for each conversion, by the share in it."
        else:
            yield f"It pays {rate} % of the amount."
    period = PERIODS[agreed.period]
    if "tier" in steps:
        reached = max(tier.start for tier in agreed.tiers if tier.start <= history.volume)
        start, volume = str(reached), str(history.volume)
        if agreed.by_amount:
            start, volume = (in_words(each, agreed.currency) for each in (reached, history.volume))
        unit = "amount" if agreed.by_amount else "number"
        yield f"That is its tier from {start} on: the {unit} before was {volume} ({period})."
    if "cap" in steps and agreed.cap is not None:
        yield f"It pays {Money(agreed.cap, agreed.currency)} for a conversion at most."
    if "period_cap" in steps and agreed.period_cap is not None:
        most, before = (
            in_words(each, agreed.currency) for each in (agreed.period_cap, history.earned)
        )
        yield f"It pays {most} in a period ({period}) at most, of which {before} were paid before."


def _since(commission: Commission, posted: Sequence[Entry]) -> Iterator[str]:
    """Yield what became of it."""
    if not commission.minor:
        return
    earned = [entry for entry in posted if entry.kind == Entry.Kind.COMMISSION]
    if not earned:
        yield "It is in no account: audit_ledger says more."
        return
    left = commission.minor
    for entry in posted:
        if entry.kind == Entry.Kind.REVERSAL:
            left += entry.minor
            money = Money(-entry.minor, commission.currency)
            yield f"Taken back on {_day(entry.created_on)}: {money}."
    for entry in earned:
        for review in entry.reviews.all():
            why = " ".join(filter(None, [review.reason, review.detail and f"({review.detail})"]))
            if review.outcome == Review.Outcome.OPEN:
                yield f"Held until somebody has decided on it: {why}."
            else:
                said = review.get_outcome_display()
                when = f" on {_day(review.resolved_on)}" if review.resolved_on else ""
                yield f"Looked at for {why}: {said}{when}."
        if left and entry.available_on is not None:
            money = Money(left, commission.currency)
            yield f"Available from {_day(entry.available_on)} on: {money}."


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d at %H:%M} UTC"
