"""Say of entries in words what they are for, and whether they may be paid out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.admin import AdminSite
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _

from ...admin.lists import NOTHING, link, local, marked
from ..models import Entry, Payout, PayoutEntry, Review
from ..settling import paid_by

Kind = Entry.Kind


def day(moment: Any) -> str:
    """Return the date of a moment by the site's clock."""
    return date_format(local(moment), "DATE_FORMAT")


def purpose(entry: Entry) -> tuple[str, Any]:
    """Return in words what an entry is for, and the row whose page says more, if there is one."""
    if number := paid_by(entry):
        return _("Payout #%(number)s") % {"number": number}, Payout(pk=number)
    if entry.reverses is not None and (number := paid_by(entry.reverses)):
        return _("Given back from payout #%(number)s") % {"number": number}, Payout(pk=number)
    if entry.commission is None:
        return entry.get_kind_display(), None
    conversion = {"conversion": entry.commission.conversion}
    if entry.kind == Kind.REVERSAL:
        return _("Reversal of the commission on %(conversion)s") % conversion, entry.commission
    return _("Commission on %(conversion)s") % conversion, entry.commission


def words(entry: Entry) -> str:
    """Return the same as text, with the memo."""
    return ": ".join(filter(None, [str(purpose(entry)[0]), entry.memo]))


def described(site: AdminSite, entry: Entry) -> Any:
    """Return the same as markup, with a link."""
    text, row = purpose(entry)
    shown = text if row is None else link(site, row, text, most=120)
    if not entry.memo:
        return shown
    return format_html('{}<br><span class="aff-memo">{}</span>', shown, entry.memo)


def payout_link(site: AdminSite, payout: Payout) -> Any:
    """Return a payout's number, as a link."""
    return link(site, payout, _("Payout #%(number)s") % {"number": payout.pk})


def standings(site: AdminSite, entries: Iterable[Entry]) -> dict[int, Any]:
    """Return by its key in words where each entry stands on its way to be paid out: two queries."""
    rows = list(entries)
    items = PayoutEntry.objects.filter(claimed__in=[entry.pk for entry in rows])
    paid = {item.entry_id: item.payout for item in items.select_related("payout")}
    roots = {entry.reverses_id or entry.pk for entry in rows}
    opened = Review.objects.filter(entry__in=roots, outcome=Review.Outcome.OPEN).order_by("-pk")
    reviews = {review.entry_id: review for review in opened}
    return {
        entry.pk: _standing(
            site, entry, paid.get(entry.pk), reviews.get(entry.reverses_id or entry.pk)
        )
        for entry in rows
    }


def _standing(site: AdminSite, entry: Entry, payout: Payout | None, review: Review | None) -> Any:
    if paid_by(entry) or (entry.reverses and paid_by(entry.reverses)):
        return NOTHING
    if payout is not None:
        number = payout_link(site, payout)
        if payout.state == Payout.State.PAID:
            return format_html(_("paid out in {}"), number)
        return format_html(_("in {}, which is {}"), number, payout.get_state_display())
    if review is not None:
        return marked("pending", link(site, review, _("held for review")))
    if entry.available_on is None:
        return marked("pending", _("promised"))
    if entry.available_on > timezone.now():
        return marked("pending", _("held until %(day)s") % {"day": day(entry.available_on)})
    return marked("delivered", _("available"))
