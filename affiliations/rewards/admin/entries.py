"""Say of entries in words what they are for, and whether they may be paid out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from django.contrib.admin import AdminSite
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _

from ...admin.lists import NOTHING, link, local, marked
from ..models import Entry, Payout, PayoutEntry, Review
from ..settling import paid_by
from .payout_states import badge

Kind = Entry.Kind
NONE: Mapping[int, Payout] = MappingProxyType({})


def day(moment: Any) -> str:
    """Return the date of a moment by the site's clock."""
    return date_format(local(moment), "DATE_FORMAT")


def payouts_of(entries: Iterable[Entry]) -> dict[int, Payout]:
    """Return by its key each payout by which entries were posted, or given back: a query at most.

    `reverses` is best fetched before.
    """
    keys = {key for entry in entries if (key := paid_by(entry) or _given_back(entry))}
    return Payout.objects.in_bulk(keys) if keys else {}


def _given_back(entry: Entry) -> int | None:
    return paid_by(entry.reverses) if entry.reverses is not None else None


def purpose(entry: Entry, paid: Mapping[int, Payout] = NONE) -> tuple[str, Any]:
    """Return in words what an entry is for, and the row whose page says more, if there is one.

    `paid` are the payouts of `payouts_of`; entries of commissions have none.
    """
    if (payout := paid.get(paid_by(entry) or 0)) is not None:
        return numbered(payout), payout
    if (payout := paid.get(_given_back(entry) or 0)) is not None:
        return _("Given back from payout %(number)s") % {"number": payout.reference}, payout
    if entry.commission is None:
        return entry.get_kind_display(), None
    conversion = {"conversion": entry.commission.conversion}
    if entry.kind == Kind.REVERSAL:
        return _("Reversal of the commission on %(conversion)s") % conversion, entry.commission
    return _("Commission on %(conversion)s") % conversion, entry.commission


def words(entry: Entry, paid: Mapping[int, Payout] = NONE) -> str:
    """Return the same as text, with the memo."""
    return ": ".join(filter(None, [str(purpose(entry, paid)[0]), entry.memo]))


def described(site: AdminSite, entry: Entry, paid: Mapping[int, Payout] = NONE) -> Any:
    """Return the same as markup, with a link."""
    text, row = purpose(entry, paid)
    shown = text if row is None else link(site, row, text, most=120)
    if not entry.memo:
        return shown
    return format_html('{}<br><span class="aff-memo">{}</span>', shown, entry.memo)


def numbered(payout: Payout) -> str:
    """Return what a payout is called, as whoever is paid knows it."""
    return _("Payout %(number)s") % {"number": payout.reference}


def payout_link(site: AdminSite, payout: Payout) -> Any:
    """Return the same as a link."""
    return link(site, payout, numbered(payout))


def standings(
    site: AdminSite,
    entries: Iterable[Entry],
    paid: Mapping[int, Payout] = NONE,
    *,
    may_review: bool,
) -> dict[int, Any]:
    """Return by its key in words where each entry stands on its way to be paid out: two queries.

    `paid` are the payouts of `payouts_of`. Reviews are led to where somebody `may_review`.
    """
    rows = list(entries)
    items = PayoutEntry.objects.filter(claimed__in=[entry.pk for entry in rows])
    claimed = {item.entry_id: item.payout for item in items.select_related("payout")}
    roots = {entry.reverses_id or entry.pk for entry in rows}
    opened = Review.objects.filter(entry__in=roots, outcome=Review.Outcome.OPEN).order_by("-pk")
    reviews = {review.entry_id: review for review in opened}
    found = {}
    for entry in rows:
        if (payout := paid.get(paid_by(entry) or 0)) is not None:
            found[entry.pk] = badge(payout)
        elif _given_back(entry):
            found[entry.pk] = NOTHING
        else:
            review = reviews.get(entry.reverses_id or entry.pk)
            found[entry.pk] = _standing(site, entry, claimed.get(entry.pk), review, may_review)
    return found


def _standing(
    site: AdminSite, entry: Entry, payout: Payout | None, review: Review | None, may_review: bool
) -> Any:
    if payout is not None:
        number = payout_link(site, payout)
        if payout.state == Payout.State.PAID:
            return format_html(_("paid out in {}"), number)
        return format_html(_("in {}, which is {}"), number, payout.get_state_display())
    if review is not None:
        text = _("held for review")
        return marked("pending", link(site, review, text) if may_review else text)
    if entry.available_on is None:
        return marked("pending", _("promised"))
    if entry.available_on > timezone.now():
        return marked("pending", _("held until %(day)s") % {"day": day(entry.available_on)})
    return marked("delivered", _("available"))
