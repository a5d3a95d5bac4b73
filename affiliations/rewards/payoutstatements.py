"""Say of what a payout is the sum: a page to print, and a table.

Whoever is paid may have both, so they name nobody who bought, clicked or visited.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

from django.conf import settings as django_settings
from django.db import router
from django.http import HttpRequest, StreamingHttpResponse
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.translation import gettext as _

from .. import csvexport
from ..dates import local
from ..money import Money
from ..streaming import streamed
from ..sums import halves, joined
from .models import Entry, Payout, PayoutEntry

__all__ = ["Row", "as_csv", "as_page", "off_by", "rows"]

#: Entries that are read together.
AT_ONCE = 1000
#: Where the template has the rows; stands in no other place of a page.
HERE = "<!--rows-->"
#: Rows of the page that are sent together.
CHUNK = 200


class Row(NamedTuple):
    """An entry of a payout, and what all entries up to it come to."""

    when: datetime
    text: str
    reference: str
    money: Money
    total: Money


def rows(payout: Payout) -> Iterator[Row]:
    """Yield the entries of a payout, the oldest first; what reverses one stands where it came."""
    using = router.db_for_write(Payout)
    items = PayoutEntry.objects.using(using).filter(payout=payout).order_by("entry")
    # Their numbers alone, for a million of which there is room: no cursor has to stay open for as
    # long as somebody takes to load them, and no page of them has to be sought anew.
    pks = array("q", items.values_list("entry", flat=True).iterator())
    currency, total = payout.money.currency, 0
    entries = Entry.objects.using(using).select_related("commission__conversion")
    for start in range(0, len(pks), AT_ONCE):
        for entry in entries.filter(pk__in=pks[start : start + AT_ONCE].tolist()).order_by("pk"):
            total += entry.minor
            text, reference = _said(entry)
            money, sum_of_all = Money(entry.minor, currency), Money(total, currency)
            yield Row(entry.created_on, text, reference, money, sum_of_all)


def off_by(payout: Payout) -> Money | None:
    """Return by how much the entries of a payout miss its amount, or None where they do not."""
    items = PayoutEntry.objects.using(router.db_for_write(Payout)).filter(payout=payout)
    minor = joined(items.aggregate(**halves("all", "entry__minor")), "all") - payout.minor
    return Money(minor, payout.money.currency) if minor else None


def _said(entry: Entry) -> tuple[str, str]:
    """Return what an entry is for, and the reference of its conversion."""
    if entry.commission is None:
        kind = entry.get_kind_display().capitalize()
        return f"{kind}: {entry.memo}" if entry.memo else kind, ""
    conversion = entry.commission.conversion
    # That of somebody who has registered is their own number.
    is_user = conversion.reference.startswith(f"{django_settings.AUTH_USER_MODEL.lower()}:")
    reference = "" if is_user else conversion.reference
    if entry.kind == Entry.Kind.REVERSAL:
        return _("Taken back: %(what)s") % {"what": conversion.trigger}, reference
    return conversion.trigger, reference


def _wrong(payout: Payout, written: Callable[[Money], str]) -> str:
    missing = off_by(payout)
    if missing is None:
        return ""
    text = _("The entries do not sum to this payout: they are off by %(money)s. Please ask us.")
    return text % {"money": written(missing)}


def _facts(payout: Payout) -> list[tuple[str, str]]:
    """Return what there is to say of a payout as a whole."""
    payee = payout.name or str(payout.account.partner or payout.account.holder)
    facts = [
        (_("Payout"), payout.reference),
        (_("Payee"), payee),
        (_("Made on"), _date(payout.created_on)),
        (_("Amount"), _amount(payout.money)),
        (_("State"), _became(payout)),
    ]
    if payout.sent_on:
        facts.append((_("Paid by"), _way(payout)))
    if payout.provider_reference:
        facts.append((_("Their reference"), payout.provider_reference))
    return facts


def _way(payout: Payout) -> str:
    if not payout.method:
        return _("by hand")
    return f"{payout.get_method_display()}, {payout.email}"


def _became(payout: Payout) -> str:
    """Return what became of a payout, and when."""
    State = Payout.State
    texts = {
        State.DRAFT: _("Not paid yet: a draft"),
        State.APPROVED: _("Not paid yet: approved on %(date)s"),
        State.SENT: _("On its way since %(date)s"),
        State.PAID: _("Paid on %(date)s"),
        State.FAILED: _("Failed on %(date)s: nothing was paid, and what it was of is owed again"),
        State.RETURNED: _("Paid, and came back on %(date)s: what it was of is owed again"),
    }
    dates = {
        State.APPROVED: payout.approved_on,
        State.SENT: payout.sent_on,
        State.RETURNED: payout.returned_on,
    }
    when = dates.get(State(payout.state), payout.settled_on)
    return texts[State(payout.state)] % {"date": _date(when) if when else "–"}


def _date(when: datetime) -> str:
    return date_format(local(when), "DATE_FORMAT")


def _amount(money: Money) -> str:
    return f"{_number(money)} {money.currency}"


def _number(money: Money) -> str:
    written = number_format(abs(money.amount), use_l10n=True, force_grouping=True)
    return f"\N{MINUS SIGN}{written}" if money.minor < 0 else written


def as_page(request: HttpRequest, payout: Payout) -> StreamingHttpResponse:
    """Answer with the statement as a page, its rows as they are read; for whoever may see it."""
    context: dict[str, Any] = {
        "facts": _facts(payout),
        "payout": payout,
        "wrong": _wrong(payout, _amount),
        "total": _amount(payout.money),
        "gave_back": payout.state in Payout.GAVE_BACK,
        "here": HERE,
    }
    page = render_to_string("affiliations/rewards/statement.html", context, request)
    return streamed(request, _page(page, payout), content_type="text/html; charset=utf-8")


def _page(page: str, payout: Payout) -> Iterator[bytes]:
    head, _here, foot = page.partition(HERE)
    lines = [head]
    for row in rows(payout):
        lines.append(
            format_html(
                '<tr><td class="date">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n',
                date_format(local(row.when), "SHORT_DATE_FORMAT"),
                row.text,
                row.reference,
                _number(row.money),
                _number(row.total),
            )
        )
        if len(lines) == CHUNK:
            yield "".join(lines).encode(errors="replace")
            lines.clear()
    yield "".join([*lines, foot]).encode(errors="replace")


def as_csv(request: HttpRequest, payout: Payout) -> StreamingHttpResponse:
    """Answer with the statement as a file of CSV, what concerns all of it above its rows."""
    heading, *facts = _facts(payout)
    filename = f"payout-{payout.reference}.csv"
    return csvexport.response(request, filename, heading, chain(facts, _cells(payout)))


def _cells(payout: Payout) -> Iterator[tuple[Any, ...]]:
    zone = timezone.get_current_timezone_name()
    yield ()
    yield (
        _("date (%(zone)s)") % {"zone": zone},
        _("what for"),
        _("reference"),
        _("amount"),
        _("sum"),
        _("currency"),
    )
    for row in rows(payout):
        money = row.money
        yield (
            f"{local(row.when):%Y-%m-%d}",
            row.text,
            row.reference,
            money.amount,
            row.total.amount,
            money.currency,
        )
    yield _("total"), "", "", payout.money.amount, "", payout.money.currency
    if wrong := _wrong(payout, str):
        yield (wrong,)
