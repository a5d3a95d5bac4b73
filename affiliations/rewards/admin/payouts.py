"""Payouts: to look at, to approve, and to note by hand what became of them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.urls import path, reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin.amounts import amount, told
from ...admin.lists import (
    NOTHING,
    BoundedPaginator,
    link,
    local,
    partner_of,
    recent,
    short,
    with_uid,
)
from .. import payoutstatements
from ..models import Entry, Payout
from .payout_filters import BatchFilter, CurrencyFilter, StateFilter, WayFilter
from .payout_states import badge
from .payout_steps import StepsMixin

State = Payout.State
#: Entries of a payout on one page.
PER_PAGE = 50


@admin.register(Payout)
class PayoutAdmin(StepsMixin):
    list_display = (
        "payee_",
        "badge",
        "amount",
        "way",
        "created",
    )
    list_filter = (
        StateFilter,
        CurrencyFilter,
        WayFilter,
        partner_of("account__partner"),
        BatchFilter,
        "created_on",
    )
    date_hierarchy = "created_on"
    ordering = ("-created_on", "-pk")
    list_per_page = 50
    search_fields = ("provider_reference",)
    search_help_text = gettext_lazy(
        "A payout’s number, a partner’s id in links; or the provider’s reference of the last 30 "
        "days, or of the period that you choose."
    )
    fields = readonly_fields = (
        "number",
        "badge",
        "payee",
        "amount",
        "way",
        "provider_reference_",
        "reason_",
        "batch_",
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("account__partner", "batch")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.replace("\0", "").strip()
        if not term:
            return queryset, False
        if uid := Payout.uid_of(term.upper()):
            return queryset.filter(uid=uid), False
        if partner := with_uid(term):
            return queryset.filter(account__partner=partner), False
        return recent(request, queryset.filter(provider_reference=term), "created_on"), False

    @admin.display(description=gettext_lazy("number"))
    def number(self, payout: Payout) -> Any:
        return format_html('<span class="aff-code">{}</span>', payout.reference)

    @admin.display(description=gettext_lazy("state"))
    def badge(self, payout: Payout) -> Any:
        return badge(payout)

    @admin.display(description=gettext_lazy("payee and number"))
    def payee_(self, payout: Payout) -> Any:
        whose = Truncator(payout.account.partner or payout.account.holder).chars(60)
        return format_html('{}<br><span class="aff-code">{}</span>', whose, payout.reference)

    @admin.display(description=gettext_lazy("created on"))
    def created(self, payout: Payout) -> str:
        return short(payout.created_on)

    @admin.display(description=gettext_lazy("payee"))
    def payee(self, payout: Payout) -> Any:
        partner = payout.account.partner
        return link(self.admin_site, partner) if partner else payout.account.holder

    @admin.display(description=gettext_lazy("amount"))
    def amount(self, payout: Payout) -> str:
        return amount(payout.minor, payout.account.currency)

    @admin.display(description=gettext_lazy("method"))
    def way(self, payout: Payout) -> Any:
        if payout.sent_on is None:
            return NOTHING
        if not payout.method:
            return _("by hand")
        where = f"{payout.name}, {payout.email}"
        return format_html(
            '{}<br><span class="aff-url">{}</span>', payout.get_method_display(), where
        )

    @admin.display(description=gettext_lazy("batch"))
    def batch_(self, payout: Payout) -> Any:
        return link(self.admin_site, payout.batch)

    # What providers and staff wrote is text.
    @admin.display(description=gettext_lazy("provider’s reference"))
    def provider_reference_(self, payout: Payout) -> Any:
        return format_html('<span class="aff-url">{}</span>', payout.provider_reference or NOTHING)

    @admin.display(description=gettext_lazy("why it failed, or came back"))
    def reason_(self, payout: Payout) -> str:
        return payout.reason or NOTHING

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        payout = kwargs.get("obj")
        if payout is not None:
            context["panel"] = self._panel(request, payout)
        return super().render_change_form(request, context, *args, **kwargs)

    def _panel(self, request: HttpRequest, payout: Payout) -> dict[str, Any]:
        items = payout.items.order_by("entry").select_related("entry__commission__conversion")
        paginator = BoundedPaginator(items, PER_PAGE)
        shown = paginator.get_page(request.GET.get("entries"))
        return {
            "steps": _history(payout),
            "entries": [
                _line(self.admin_site, item.entry, payout.account.currency) for item in shown
            ],
            "page": shown,
            "off_by": told(off_by) if (off_by := payoutstatements.off_by(payout)) else "",
            "has_more": paginator.has_more,
            "page_url": self._url("payout_statement", payout.pk),
            "csv_url": self._url("payout_statement_csv", payout.pk),
        }

    def _url(self, name: str, *args: Any) -> str:
        name = f"admin:affiliations_rewards_{name}"
        return reverse(name, args=args, current_app=self.admin_site.name)

    # Statements

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        name = "affiliations_rewards_payout_statement"
        return [
            path("<path:object_id>/statement/", wrap(self.statement_view), name=name),
            path("<path:object_id>/statement.csv", wrap(self.csv_view), name=f"{name}_csv"),
            *super().get_urls(),
        ]

    def statement_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Answer with the statement as a page to print."""
        return payoutstatements.as_page(request, self._seen(request, object_id))

    def csv_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Answer with the statement as CSV."""
        return payoutstatements.as_csv(request, self._seen(request, object_id))

    def _seen(self, request: HttpRequest, object_id: str) -> Payout:
        payout: Payout | None = self.get_object(request, unquote(object_id))
        if payout is None:
            raise Http404("payout: there is none with this key")
        if not self.has_view_permission(request, payout):
            raise PermissionDenied
        return payout


def _history(payout: Payout) -> list[tuple[Any, str]]:
    """Return what became of a payout, and when, as far as it has come."""
    settled = State.FAILED if payout.state == State.FAILED else State.PAID
    steps = [
        (State.DRAFT, payout.created_on),
        (State.APPROVED, payout.approved_on),
        (State.SENT, payout.sent_on),
        (settled, payout.settled_on),
        (State.RETURNED, payout.returned_on),
    ]
    return [
        (state.label, date_format(local(when), "DATETIME_FORMAT")) for state, when in steps if when
    ]


def _line(site: Any, entry: Entry, currency: str) -> dict[str, Any]:
    """Return what the page shows of an entry."""
    commission = entry.commission
    return {
        "when": entry.created_on,
        "kind": entry.get_kind_display(),
        "about": link(site, commission.conversion) if commission else entry.memo or NOTHING,
        "amount": amount(entry.minor, currency),
    }
