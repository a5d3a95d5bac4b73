"""Payouts: to look at, to approve, and to note by hand what became of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import path, reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ...admin.acting import ActingAdmin
from ...admin.lists import (
    NOTHING,
    BoundedPaginator,
    link,
    local,
    partner_of,
    recent,
    with_uid,
)
from ...exceptions import InvalidTransition
from .. import payouts, payoutstatements
from ..models import Entry, Payout
from ..models.payouts import MAX_REASON, MAX_REFERENCE
from ..settling import is_reference
from .payout_filters import BatchFilter, CurrencyFilter, StateFilter, WayFilter
from .wording import money

State = Payout.State
BADGES = {
    State.DRAFT: "plain",
    State.APPROVED: "pending",
    State.SENT: "pending",
    State.PAID: "delivered",
    State.FAILED: "dead",
    State.RETURNED: "dead",
}
#: From where each button leads on.
ORIGINS = {
    "approve": (State.DRAFT,),
    "mark_sent": (State.APPROVED,),
    "mark_paid": (State.SENT,),
    "fail": (State.DRAFT, State.APPROVED, State.SENT),
    "mark_returned": (State.PAID,),
}
#: What is noted of each.
DONE = {
    "approve": gettext_lazy("Approved"),
    "mark_sent": gettext_lazy("Sent by hand"),
    "mark_paid": gettext_lazy("Paid"),
    "fail": gettext_lazy("Failed"),
    "mark_returned": gettext_lazy("Came back"),
}
#: Entries of a payout on one page.
PER_PAGE = 50


def badge(payout: Payout) -> Any:
    """Return the state as a coloured word."""
    name = BADGES[State(payout.state)]
    return format_html('<span class="aff-badge aff-{}">{}</span>', name, payout.get_state_display())


def sum_of(rows: list[Payout]) -> str:
    """Return what some payouts come to, of each currency."""
    totals: dict[str, int] = {}
    for row in rows:
        currency = row.account.currency
        totals[currency] = totals.get(currency, 0) + row.minor
    return ", ".join(money(minor, currency) for currency, minor in sorted(totals.items()))


class ReferenceForm(forms.Form):
    """By what the provider knows a payout."""

    reference = forms.CharField(
        label=gettext_lazy("Their reference"),
        required=False,
        max_length=MAX_REFERENCE,
        help_text=gettext_lazy(
            "The number of the bank’s transfer, say. It stands in the statement."
        ),
    )

    def clean_reference(self) -> str:
        """Return the reference; raises ValidationError where it cannot be noted."""
        reference = str(self.cleaned_data["reference"])
        if not is_reference(reference):
            raise ValidationError(_("Must not hold control characters."), code="invalid")
        return reference


class ReasonForm(forms.Form):
    """Why nobody was paid."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=MAX_REASON,
        help_text=gettext_lazy("It stands in the statement, which the payee may see."),
    )


@admin.register(Payout)
class PayoutAdmin(ActingAdmin):
    list_display = (
        "payee_",
        "badge",
        "amount",
        "way",
        "created_on",
        "batch_",
        "number",
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
    actions = ("approve", "mark_sent", "mark_paid", "fail", "mark_returned")

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

    @admin.display(description=gettext_lazy("payee"))
    def payee_(self, payout: Payout) -> str:
        return Truncator(payout.account.partner or payout.account.holder).chars(60)

    @admin.display(description=gettext_lazy("payee"))
    def payee(self, payout: Payout) -> Any:
        partner = payout.account.partner
        return link(self.admin_site, partner) if partner else payout.account.holder

    @admin.display(description=gettext_lazy("amount"))
    def amount(self, payout: Payout) -> str:
        return money(payout.minor, payout.account.currency)

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
            "off_by": payoutstatements.off_by(payout),
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

    # Buttons

    def offers(self, action: str, row: Payout) -> bool:
        return row.state in ORIGINS[action]

    @admin.action(description=gettext_lazy("Approve"), permissions=["act"])
    def approve(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        text = _("What is approved can be sent. You approve %(sum)s:")
        title = _("Approve these payouts?")
        return self._step(request, queryset, "approve", payouts.approve, title, text)

    @admin.action(description=gettext_lazy("Note as sent by hand"), permissions=["act"])
    def mark_sent(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        text = _(
            "For what you pay yourself, such as a transfer at your bank. Note it first, and pay "
            "then: these will be in no provider’s file. You note %(sum)s as sent:"
        )
        title = _("Note these payouts as sent?")
        return self._step(
            request, queryset, "mark_sent", payouts.mark_sent, title, text, ReferenceForm
        )

    @admin.action(description=gettext_lazy("Note as paid"), permissions=["act"])
    def mark_paid(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        text = _("The money has arrived. You note %(sum)s as paid:")
        title = _("Note these payouts as paid?")
        return self._step(
            request, queryset, "mark_paid", payouts.mark_paid, title, text, ReferenceForm
        )

    @admin.action(description=gettext_lazy("Note as failed"), permissions=["act"])
    def fail(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        text = _(
            "Nobody was paid: the entries become available again, and the next payout takes them. "
            "Of what was sent already be sure that the provider has not paid it, nor will: it "
            "would be paid twice. You note %(sum)s as failed:"
        )
        title = _("Note these payouts as failed?")
        return self._step(request, queryset, "fail", _fail, title, text, ReasonForm)

    @admin.action(description=gettext_lazy("Note that it came back"), permissions=["act"])
    def mark_returned(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        text = _(
            "The money was paid, and is back with you, as when the bank returns it days later. "
            "The entries become available again, and the next payout takes them. You note that "
            "%(sum)s came back:"
        )
        title = _("Note that these payouts came back?")
        return self._step(
            request, queryset, "mark_returned", payouts.mark_returned, title, text, ReasonForm
        )

    def _step(
        self,
        request: HttpRequest,
        queryset: Any,
        action: str,
        do: Callable[..., Payout],
        title: str,
        text: str,
        form_class: type[forms.Form] | None = None,
    ) -> HttpResponse | None:
        """Ask, and then take each of the selected payouts a step on that is where it begins."""
        selected = self.selected(request, queryset)
        rows = [row for row in selected if self.offers(action, row)]
        if not rows:
            if selected:
                self._left(request, len(selected))
            return None
        is_confirmed = "confirmed" in request.POST
        form = form_class(request.POST if is_confirmed else None) if form_class else None
        if not is_confirmed or (form and not form.is_valid()):
            shown = {"title": title, "text": text % {"sum": sum_of(rows)}, "form": form}
            lines = [f"{row}: {row.get_state_display()}" for row in rows]
            seen = " ".join(map(_seen, rows))
            return self.question(request, rows, action, lines=lines, seen=seen, **shown)
        said = tuple(form.cleaned_data.values()) if form else ()
        agreed = request.POST.get("seen", "").split()
        done = 0
        for row in rows:
            # Of a draft that is sent by now, whoever was asked before knows nothing.
            if _seen(row) not in agreed:
                continue
            try:
                do(row, *said)
            except InvalidTransition:
                continue
            done += 1
            self.log_change(request, row, ": ".join(filter(None, (str(DONE[action]), *said))))
        if done:
            words = ngettext("%(n)s payout was changed.", "%(n)s payouts were changed.", done)
            self.message_user(request, words % {"n": done}, messages.SUCCESS)
        self._left(request, len(selected) - done)
        return None

    def _left(self, request: HttpRequest, number: int) -> None:
        if not number:
            return
        text = ngettext(
            "%(n)s payout was left as it is: it is in another state by now.",
            "%(n)s payouts were left as they are: they are in another state by now.",
            number,
        )
        self.message_user(request, text % {"n": number}, messages.WARNING)


def _seen(payout: Payout) -> str:
    return f"{payout.pk}:{payout.state}"


def _fail(payout: Payout, reason: str) -> Payout:
    """Let a payout fail that is still in the state that it was read in."""
    return payouts.fail(payout, reason, origins=(payout.state,))


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
        "amount": money(entry.minor, currency),
    }
