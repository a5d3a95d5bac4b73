"""Note what members have paid, in whatever order and however often it is reported.

Either as a running total, as GetupCloud's document has it, or invoice by invoice. Where a total was
reported once, totals are what counts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import models, router
from django.utils import timezone

from ..exceptions import InvalidMoney, InvalidTransition
from ..money import Money
from ..rewards.ledger import is_moment
from ..savepoints import retried
from .exceptions import InvalidReport
from .models import Invoice, Member
from .models.invoices import MAX_REFERENCE
from .services import locked, settle

__all__ = ["pay", "refund", "report_total"]

#: So far a clock may be ahead. What was reported for later makes all that follows late.
AHEAD = timedelta(days=1)


def report_total(member: Member, total: Money, *, reported_on: datetime | None = None) -> int:
    """Note what a member has paid until now, all in all; the same again changes nothing.

    A total below the last one is a refund, unless it was `reported_on` before that one: then it is
    late, and changes nothing. Returns in minor units what the member's indicator gains by it, or
    below zero loses. Raises InvalidMoney where it is below zero or not in the member's currency,
    and InvalidReport for a `reported_on` that is no moment as the site has them, or is yet to come.
    """
    _check(member, total)
    if reported_on is not None:
        _check_moment(reported_on)

    def note(row: Member) -> None:
        when = reported_on or timezone.now()
        if row.reported_on is None or reported_on is None or row.reported_on <= when:
            row.paid_minor, row.reported_on = total.minor, when

    return _settled(member, note)


def pay(member: Member, reference: str, money: Money) -> int:
    """Note a paid invoice, once for each `reference`; returns what `report_total` does.

    Raises InvalidTransition where the reference was paid with another amount, and what
    `report_total` raises; InvalidReport where the reference is empty or too long.
    """
    _check(member, money)
    _check_reference(reference)

    def note(row: Member) -> None:
        invoice = _invoice(row, reference)
        if invoice.minor not in (0, money.minor):
            was = Money(invoice.minor, row.currency)
            raise InvalidTransition(f"reference: {reference!r:.80} was paid with {was}")
        invoice.minor = money.minor
        invoice.save(update_fields=["minor"])
        _sum(row)

    return _settled(member, note)


def refund(member: Member, reference: str, refunded: Money | None = None) -> int:
    """Note what was given back of an invoice until now, all in all, or that all of it was.

    The same again changes nothing, nor does less than was noted before. It may be told before the
    invoice is, if it says how much. Returns what `report_total` does. Raises InvalidMoney where it
    is more than was paid or, of an invoice that nobody knows of, does not say how much, and what
    `pay` raises.
    """
    if refunded is not None:
        _check(member, refunded)
    _check_reference(reference)

    def note(row: Member) -> None:
        invoice = _invoice(row, reference)
        back = invoice.minor if refunded is None else refunded.minor
        if not back and refunded is None:
            raise InvalidMoney(f"refunded: how much, of {reference!r:.80} that nobody has paid?")
        if invoice.minor and back > invoice.minor:
            most = Money(invoice.minor, row.currency)
            raise InvalidMoney(f"refunded: must not be more than was paid, {most}")
        invoice.refunded_minor = max(invoice.refunded_minor, back)
        invoice.save(update_fields=["refunded_minor"])
        _sum(row)

    return _settled(member, note)


def _check(member: Member, money: object) -> None:
    if not isinstance(money, Money):
        raise InvalidMoney(f"amount: must be Money, not {money!r:.40}")
    if money.minor < 0:
        raise InvalidMoney("amount: must not be below zero")
    if money.currency != member.currency:
        raise InvalidMoney(f"currency: the member is in {member.currency}, not {money.currency}")


def _check_moment(moment: object) -> None:
    # Of the first years not all have a date in UTC, and MariaDB has none before 1000.
    if not isinstance(moment, datetime) or not is_moment(moment) or moment.year <= 1000:
        raise InvalidReport(f"reported_on: must be a moment, not {moment!r:.60}")
    if moment > timezone.now() + AHEAD:
        raise InvalidReport(f"reported_on: must not be after today, not {moment}")


def _check_reference(reference: object) -> None:
    if not isinstance(reference, str) or not reference.strip() or len(reference) > MAX_REFERENCE:
        raise InvalidReport(f"reference: must be 1 to {MAX_REFERENCE} characters")
    if not reference.isprintable():
        raise InvalidReport("reference: must not contain control characters")


def _invoice(member: Member, reference: str) -> Invoice:
    rows = Invoice.objects.using(router.db_for_write(Invoice))
    # Blanks at the end MariaDB overlooks.
    return rows.get_or_create(member=member, reference=reference.strip())[0]


def _sum(member: Member) -> None:
    """Have a member have paid what their invoices come to, unless totals are reported."""
    if member.reported_on is not None:
        return
    rows = Invoice.objects.using(router.db_for_write(Invoice)).filter(member=member)
    kept = rows.filter(minor__gt=models.F("refunded_minor"))
    amounts = kept.values_list(models.F("minor") - models.F("refunded_minor"), flat=True)
    # In Python: a sum may be more than any column holds.
    member.paid_minor = Money(sum(amounts), member.currency).minor


def _settled(member: Member, note: Callable[[Member], None]) -> int:
    """Note something of a member that nobody else changes meanwhile, and act on it."""
    using = router.db_for_write(Member)

    def once() -> tuple[Member, int]:
        row: Member = locked(Member.objects.using(using), member.pk)
        note(row)
        row.save(using=using, update_fields=["paid_minor", "reported_on"])
        return row, settle(row)

    row, changed = retried(once, using)
    for name in ("paid_minor", "reported_on", "acquired_on", "turn"):
        setattr(member, name, getattr(row, name))
    return changed
