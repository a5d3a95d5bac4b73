"""Say what conversions earn, post it, and take it back when they are taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import models, router
from django.db.models.functions import Coalesce, NullIf
from django.utils import timezone

from ..models import Conversion, Partner, Share
from ..money import apportion
from ..sums import halves, joined
from . import flags, ledger, terms
from .conf import settings
from .ledger import reversal_of
from .models import Account, Commission, CommissionRule, Entry, PartnerGroup, Review
from .signals import entry_posted
from .terms import Claim, Earned, History, Terms

__all__ = ["earn", "take_back"]

#: Why a rule that concerns the partner was not the one.
OTHER_CURRENCY, BELOW_MINIMUM, LESS_SPECIFIC = "currency", "minimum", "less specific"
#: Why nothing was earned.
OWN, NO_RULE = "own", "no rule"


@dataclass(slots=True)
class Part:
    """What a partner has of a conversion, in minor units and as a weight, and what it earns."""

    partner: Partner
    #: Of several of its visitors the one with the largest share.
    visitor_id: int
    weight: Decimal = Decimal(0)
    minor: int = 0
    rule: Any = None
    why: str = ""
    considered: list[list[Any]] = field(default_factory=list)
    history: History = field(default_factory=History)
    earned: Earned = field(default_factory=lambda: Earned(0, 0))
    #: 0 where nothing can be owed: a percentage of no amount is nothing of no currency.
    account_id: int = 0
    contra_id: int = 0


def earn(conversion: Conversion, shares: Sequence[Share] | None = None) -> list[Commission]:
    """Post what each partner with a part in a conversion has earned by it.

    By the rules as they were when it was recorded. Whoever earns nothing has a commission of 0,
    which says why. Everything is written in the caller's transaction. Sends `entry_posted`. Raises
    IntegrityError where the conversion was posted before.
    """
    using = router.db_for_write(Entry)
    if shares is None:
        rows = Share.objects.using(using).filter(conversion=conversion)
        shares = list(rows.select_related("visitor__partner").order_by("pk"))
    parts = assess(conversion, shares, using)
    written = Commission.objects.using(using).bulk_create(
        [_commission(conversion, part) for part in parts]
    )
    available_on = conversion.created_on + settings.HOLD
    entries = [
        Entry(
            account_id=part.account_id,
            contra_id=part.contra_id,
            kind=Entry.Kind.COMMISSION,
            minor=commission.minor,
            key=f"commission:{conversion.pk}:{commission.partner_id}",
            commission=commission,
            available_on=available_on,
        )
        for part, commission in zip(parts, written, strict=True)
        if commission.minor
    ]
    # In the order of `lock`: an INSERT locks accounts too, where foreign keys are checked at once.
    _post(sorted(entries, key=lambda entry: entry.account_id), using)
    flags.open_reviews(entries, shares, using)
    return written


def _post(entries: list[Entry], using: str) -> None:
    if not entries:
        return
    for entry in Entry.objects.using(using).bulk_create(entries):
        entry_posted.announce(Entry, using=using, entry=entry)


def assess(conversion: Conversion, shares: Sequence[Share], using: str) -> list[Part]:
    """Return for each partner by which rule it is paid, and how much; nothing is written.

    Only accounts are made where there are none yet, and locked where what is earned depends on what
    was earned before, so that of several conversions at once each knows of the others.
    """
    parts = parts_of(conversion, shares)
    for part in parts:
        _choose(part, conversion, using)
    paid = [part for part in parts if part.rule is not None]
    _find_accounts(paid, conversion)
    looking_back = [part for part in paid if part.rule.terms.looks_back]
    if looking_back:
        ledger.lock(_counted(looking_back, using), using)
    for part in looking_back:
        part.history = _history(part, conversion, using)
    claims = [
        Claim(part.rule.pk, part.rule.terms, part.minor, part.weight, part.history) for part in paid
    ]
    for part, earned in zip(paid, terms.earn(claims, conversion.created_on), strict=True):
        part.earned = earned
    return parts


def parts_of(conversion: Conversion, shares: Sequence[Share]) -> list[Part]:
    """Return what each partner has of a conversion, the largest share first."""
    minors = [0] * len(shares)
    if conversion.amount_minor is not None:
        minors = apportion(conversion.amount_minor, [share.weight for share in shares])
    parts: dict[int, Part] = {}
    largest = sorted(zip(shares, minors, strict=True), key=lambda each: -each[0].weight)
    for share, minor in largest:
        partner = share.visitor.partner
        part = parts.setdefault(partner.pk, Part(partner, share.visitor_id))
        part.weight += share.weight
        part.minor += minor
    return list(parts.values())


def _choose(part: Part, conversion: Conversion, using: str) -> None:
    """Find the one rule that a part is paid by, or why there is none."""
    rules = sorted(_rules(part.partner, conversion, using), key=lambda rule: rule.rank)
    for rule in reversed(rules):
        why = LESS_SPECIFIC if part.rule is not None else misfit(rule, conversion)
        part.considered.append([rule.pk, why])
        if not why:
            part.rule = rule
    if part.rule is None:
        part.why = NO_RULE
    elif part.rule.own:
        part.why, part.rule = OWN, None


def _rules(partner: Partner, conversion: Conversion, using: str) -> Any:
    """Return the rules that concern a partner: one query.

    With each comes which accounts it would move money between, and whether it was one of the
    partner's own people who converted.
    """
    groups = PartnerGroup.partners.through.objects
    whose = models.Q(partner=partner) | models.Q(partner=None, group=None)
    whose |= models.Q(group__in=groups.filter(partner=partner).values("partnergroup"))
    kind = models.Q(trigger="") | models.Q(trigger=conversion.trigger)
    currency = Coalesce(
        NullIf(models.OuterRef("currency"), models.Value("")), models.Value(conversion.currency)
    )
    accounts = Account.objects.filter(currency=currency)
    own = Partner.users.through.objects.filter(partner=partner, user=conversion.user_id)
    return (
        CommissionRule.objects.using(using)
        .at(conversion.created_on)
        .filter(whose, kind)
        .annotate(
            account_id=_key(accounts, ledger.holder_of(partner.pk)),
            contra_id=_key(accounts, ledger.SITE[Entry.Kind.COMMISSION]),
            own=models.Exists(own) if conversion.user_id is not None else models.Value(False),
        )
    )


def _key(accounts: Any, holder: str) -> models.Subquery:
    return models.Subquery(accounts.filter(holder=holder).values("pk"))


def misfit(rule: CommissionRule, conversion: Conversion) -> str:
    """Return why a rule is not for a conversion, "" where it is."""
    compares = rule.percent is not None or rule.minimum_minor is not None
    if rule.currency and compares and rule.currency != conversion.currency:
        return OTHER_CURRENCY
    if rule.minimum_minor and (conversion.amount_minor or 0) < rule.minimum_minor:
        return BELOW_MINIMUM
    return ""


def _find_accounts(parts: Sequence[Part], conversion: Conversion) -> None:
    for part in parts:
        if currency := part.rule.currency or conversion.currency:
            kind = Entry.Kind.COMMISSION
            part.account_id = part.rule.account_id or ledger.account_of(part.partner, currency).pk
            part.contra_id = part.rule.contra_id or ledger.site_account(kind, currency).pk


def _counted(parts: Sequence[Part], using: str) -> list[int]:
    """Return the accounts of all conversions that count for what these parts earn.

    That is more than their own where a rule counts those in any currency.
    """
    found = [part.account_id for part in parts]
    anywhere = [part.partner.pk for part in parts if not part.rule.currency]
    if anywhere:
        rows = Account.objects.using(using).filter(partner__in=anywhere)
        found += rows.values_list("pk", flat=True)
    return found


def _history(part: Part, conversion: Conversion, using: str) -> History:
    """Return what the rule has paid the partner before, as far as its terms ask for it."""
    agreed: Terms = part.rule.terms
    rows = Commission.objects.using(using).filter(
        ~models.Exists(rejections()),
        partner=part.partner,
        lineage=part.rule.lineage,
        conversion__reversed_on=None,
    )
    volume = earned = times = 0
    first: datetime | None = None
    if agreed.tiers or agreed.period_cap is not None:
        lately = rows
        if period := terms.span(agreed.period, conversion.created_on):
            lately = rows.filter(converted_on__gte=period[0], converted_on__lt=period[1])
        # What is earned is in the rule's currency; what it was earned for need not be.
        amounts = models.Q(conversion__currency=agreed.currency) if agreed.currency else models.Q()
        sums = models.Q(currency=agreed.currency) if agreed.currency else models.Q()
        row = lately.aggregate(
            number=models.Count("pk"),
            **halves("amount", "base_minor", filter=amounts),
            **halves("earned", "minor", filter=sums),
        )
        volume = joined(row, "amount") if agreed.by_amount else row["number"]
        earned = joined(row, "earned")
    if agreed.times is not None or agreed.months is not None:
        if conversion.user_id is None:
            theirs = rows.filter(visitor=part.visitor_id)
        else:
            theirs = rows.filter(conversion__user=conversion.user_id)
        row = theirs.aggregate(number=models.Count("pk"), first=models.Min("converted_on"))
        times, first = row["number"], row["first"]
    return History(volume, earned, times, first)


def rejections() -> models.QuerySet[Review]:
    """Return the decisions by which the commission of a query around was lost: one at most.

    From that moment on it counts for nothing, as if all of its conversion had been taken back.
    """
    concerned = models.Q(entry__commission=models.OuterRef("pk"))
    return Review.objects.filter(concerned, outcome=Review.Outcome.REJECTED)


def _commission(conversion: Conversion, part: Part) -> Commission:
    rule: CommissionRule | None = part.rule
    record: dict[str, Any] = {"considered": part.considered}
    if part.why:
        record["why"] = part.why
    if rule is not None:
        record["rate"] = terms.plain(part.earned.rate)
        record["steps"] = list(part.earned.steps)
        if rule.terms.looks_back:
            record["history"] = part.history.as_dict()
    return Commission(
        conversion=conversion,
        visitor_id=part.visitor_id,
        partner=part.partner,
        rule_id=rule.pk if rule else None,
        lineage=rule.lineage if rule else None,
        terms=rule.terms.as_dict() if rule else {},
        base_minor=part.minor,
        minor=part.earned.minor,
        currency=(rule.currency if rule else "") or conversion.currency,
        record=record,
        converted_on=conversion.created_on,
    )


def take_back(conversion: Conversion) -> list[Entry]:
    """Post what partners have lost of their commissions, as some of a conversion was taken back.

    In proportion to all that was taken back of it until now; nothing where that was posted before.
    What is still held is lost there, and what was available, or paid out, is owed by the partner.
    Everything is written in the caller's transaction. Sends `entry_posted`.
    """
    using = router.db_for_write(Entry)
    earned = (
        Entry.objects.using(using)
        .filter(kind=Entry.Kind.COMMISSION, commission__conversion=conversion)
        .select_related("commission")
        .order_by("account_id", "pk")
    )
    entries = list(earned)
    if not entries:
        return []
    ledger.lock([entry.account_id for entry in entries], using)
    rows = Entry.objects.using(using).filter(reverses__in=entries).values("reverses")
    lost = {
        row["reverses"]: -joined(row, "lost") for row in rows.annotate(**halves("lost", "minor"))
    }
    now = timezone.now()
    reversals = []
    for entry in entries:
        gone = gone_of(entry.minor, conversion)
        more = gone - lost.get(entry.pk, 0)
        if more > 0:
            reversals.append(reversal_of(entry, more, key=f"reversal:{entry.pk}:{gone}", now=now))
    _post(reversals, using)
    return reversals


def gone_of(minor: int, conversion: Conversion) -> int:
    """Return how much of `minor` units that were earned is gone with what was taken back."""
    if conversion.reversed_on is not None:
        return minor
    # Of a conversion without an amount, or with one of zero or less, no part can be taken back.
    if not conversion.reversed_minor or not conversion.amount_minor:
        return 0
    standing = conversion.amount_minor - conversion.reversed_minor
    return terms.reversed_part(minor, conversion.amount_minor, standing)
