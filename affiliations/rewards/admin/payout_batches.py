"""Batches of payouts: to make, to send, and to see how far each has come."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
)
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ...admin.acting import ActingAdmin
from ...admin.amounts import amount, told
from ...admin.callbacks import intcomma
from ...admin.fields import MomentField
from ...admin.lists import LargeChangeList, short
from ...admin.pages import page
from ...admin.progress import Outcome, Steps, streamed
from ...exceptions import InvalidMoney, InvalidTransition
from ...sums import halves, joined
from .. import payouts
from ..conf import minimum
from ..models import Account, Method, Payout, PayoutBatch
from .destinations import add_url
from .payout_files import FilesMixin
from .payout_filters import OwnCurrencyFilter
from .payout_results import ResultsMixin
from .payout_routes import led, left
from .payout_states import States, badge, states_of
from .payout_steps import ReasonForm

State = Payout.State
#: Payouts, and payees that cannot be paid, that a page shows.
SHOWN = 50


class BatchChangeList(LargeChangeList):
    """The list, each batch with the states of its payouts; as many queries for all as for one."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        batches = list(self.result_list)
        found = states_of(batches)
        for batch in batches:
            batch.states = found.get(batch.pk, States())
        self.result_list = batches


class DueForm(forms.Form):
    """Of which currency, and what of it, is to be paid out."""

    currency = forms.ChoiceField(label=gettext_lazy("Currency"))
    until = MomentField(
        label=gettext_lazy("Until"),
        required=False,
        help_text=gettext_lazy(
            "Leaves what became available only later for the next batch. Empty: until now."
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        codes = Account.objects.order_by("currency").values_list("currency", flat=True).distinct()
        self.fields["currency"].choices = [(code, code) for code in codes]  # type: ignore[attr-defined]

    def clean_until(self) -> Any:
        """Return the moment; raises ValidationError where it is still to come."""
        until = self.cleaned_data["until"]
        if until is not None and until > timezone.now():
            raise forms.ValidationError(_("Must not be in the future."), code="invalid")
        return until


@admin.register(PayoutBatch)
class PayoutBatchAdmin(FilesMixin, ResultsMixin, ActingAdmin):
    list_display = ("number", "states_", "payouts_", "sum_", "created")
    list_filter = (OwnCurrencyFilter, "created_on")
    ordering = ("-created_on", "-pk")
    list_per_page = 20
    fields = readonly_fields = ("currency", "created_on", "until")
    actions = ("approve_all", "send_paypal", "send_wise", "drop")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BatchChangeList

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Tell whether somebody may change payouts: that is what each button does."""
        return request.user.has_perm("affiliations_rewards.change_payout")

    def has_make_permission(self, request: HttpRequest) -> bool:
        """Tell whether somebody may make a batch, which nobody adds by a form."""
        return request.user.has_perm("affiliations_rewards.add_payoutbatch")

    @admin.display(description=gettext_lazy("number"))
    def number(self, batch: PayoutBatch) -> str:
        return str(batch.pk)

    @admin.display(description=gettext_lazy("created on"))
    def created(self, batch: PayoutBatch) -> str:
        return short(batch.created_on)

    @admin.display(description=gettext_lazy("payouts"))
    def payouts_(self, batch: Any) -> str:
        return intcomma(batch.states.number)

    @admin.display(description=gettext_lazy("sum"))
    def sum_(self, batch: Any) -> str:
        return amount(batch.states.minor, batch.currency)

    @admin.display(description=gettext_lazy("states"))
    def states_(self, batch: Any) -> Any:
        return format_html("{}{}", batch.states.bar, batch.states.words)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        urls = {
            "make_url": self._url("make") if self.has_make_permission(request) else "",
            "results_url": self._url("results") if self.has_act_permission(request) else "",
        }
        return super().changelist_view(request, {**(extra_context or {}), **urls})

    # The page of a batch

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        batch = kwargs.get("obj")
        if batch is not None:
            # Before the buttons are chosen, which depend on it.
            batch.states = states_of([batch]).get(batch.pk, States())
            context["panel"] = self._panel(request, batch)
        return super().render_change_form(request, context, *args, **kwargs)

    def _panel(self, request: HttpRequest, batch: Any) -> dict[str, Any]:
        rows = batch.payouts.select_related("account__partner").order_by("pk")
        lost = payouts.sendable(batch).select_related("account__partner").order_by("pk")
        listed = reverse(
            "admin:affiliations_rewards_payout_changelist", current_app=self.admin_site.name
        )
        may_act = self.has_act_permission(request)
        return {
            "number": intcomma(batch.states.number),
            "sum": amount(batch.states.minor, batch.currency),
            "bar": batch.states.bar,
            "words": batch.states.words,
            "rows": [self._row(payout) for payout in rows[:SHOWN]],
            "all_url": f"{listed}?batch={batch.pk}",
            "has_more": batch.states.number > SHOWN,
            "lost": [(payout, add_url(self.admin_site, payout.account)) for payout in lost[:SHOWN]],
            "lost_number": lost.count() if State.APPROVED in batch.states else 0,
            "may_add": request.user.has_perm("affiliations_rewards.add_payoutdestination"),
            "files": self.files_of(batch) if may_act else [],
            "results_url": self._url("results") if may_act else "",
        }

    def _row(self, payout: Payout) -> dict[str, Any]:
        url = reverse(
            "admin:affiliations_rewards_payout_change",
            args=[payout.pk],
            current_app=self.admin_site.name,
        )
        return {
            "payout": payout,
            "url": url,
            "badge": badge(payout),
            "sum": amount(payout.minor, payout.account.currency),
        }

    def _url(self, name: str, *args: Any) -> str:
        name = f"admin:affiliations_rewards_payoutbatch_{name}"
        return reverse(name, args=args, current_app=self.admin_site.name)

    # Buttons

    def offers(self, action: str, row: Any) -> bool:
        there = row.states.keys()
        if action == "approve_all":
            return State.DRAFT in there
        if action == "drop":
            return State.DRAFT in there and there <= {State.DRAFT, State.FAILED}
        method = action.removeprefix("send_")
        return State.APPROVED in there and payouts.sendable(row, method).exists()

    def _one(self, request: HttpRequest, queryset: Any) -> PayoutBatch | None:
        batches = list(queryset[:2])
        if len(batches) == 1:
            return batches[0]  # type: ignore[no-any-return]
        self.message_user(request, _("Please select one batch."), messages.ERROR)
        return None

    def _back(self, request: HttpRequest, batch: PayoutBatch, text: str, number: int) -> Any:
        if number:
            self.log_change(request, batch, text)
            self.message_user(request, text, messages.SUCCESS)
        else:
            nothing = _("Nothing was left to do: it was done before, or meanwhile.")
            self.message_user(request, text or nothing, messages.WARNING)
        return HttpResponseRedirect(self._url("change", batch.pk))

    @admin.action(description=gettext_lazy("Approve all"), permissions=["act"])
    def approve_all(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        batch = self._one(request, queryset)
        if batch is None:
            return None
        number, minor = states_of([batch]).get(batch.pk, States()).get(State.DRAFT, (0, 0))
        if not number:
            return self._back(request, batch, "", 0)  # type: ignore[no-any-return]
        text = _("%(number)s drafts, %(sum)s in all, can be sent then.")
        text %= {"number": intcomma(number), "sum": amount(minor, batch.currency)}
        title = _("Approve all of this batch?")
        if asked := self.confirmation(request, [batch], "approve_all", title=title, text=text):
            return asked
        number = payouts.approve_batch(batch)
        text = ngettext("%(n)s payout was approved.", "%(n)s payouts were approved.", number)
        text = text % {"n": intcomma(number)} if number else ""
        return self._back(request, batch, text, number)  # type: ignore[no-any-return]

    @admin.action(description=gettext_lazy("Send by PayPal"), permissions=["act"])
    def send_paypal(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return self._send(request, queryset, Method.PAYPAL)

    @admin.action(description=gettext_lazy("Send by Wise"), permissions=["act"])
    def send_wise(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return self._send(request, queryset, Method.WISE)

    def _send(self, request: HttpRequest, queryset: Any, method: Method) -> HttpResponse | None:
        batch = self._one(request, queryset)
        if batch is None:
            return None
        rows = payouts.sendable(batch, method)
        row = rows.aggregate(number=models.Count("pk"), **halves("all", "minor"))
        if not row["number"]:
            return self._back(request, batch, "", 0)  # type: ignore[no-any-return]
        words = {
            "number": intcomma(row["number"]),
            "sum": amount(joined(row, "all"), batch.currency),
            "method": method.label,
        }
        title = _("Send by %(method)s?") % words
        text = _(
            "%(number)s payouts, %(sum)s in all, are noted as sent by %(method)s. That is noted "
            "before anything is sent, so that nothing is paid twice: then you download the file, "
            "and upload it at %(method)s yourself."
        )
        lines = [*led(rows, row["number"]), *left(batch, method)]
        action = f"send_{method}"
        asked = self.confirmation(
            request, [batch], action, title=title, text=text % words, lines=lines
        )
        if asked:
            return asked
        number = payouts.send_batch(batch, method)
        text = ngettext(
            "%(n)s payout is noted as sent by %(method)s: now download its file.",
            "%(n)s payouts are noted as sent by %(method)s: now download their file.",
            number,
        )
        text = text % {**words, "n": intcomma(number)} if number else ""
        return self._back(request, batch, text, number)  # type: ignore[no-any-return]

    @admin.action(description=gettext_lazy("Drop the whole batch"), permissions=["act"])
    def drop(self, request: HttpRequest, queryset: Any) -> Any:
        batch = self._one(request, queryset)
        if batch is None:
            return None
        found = states_of([batch]).get(batch.pk, States())
        form = ReasonForm(request.POST if "confirmed" in request.POST else None)
        if not form.is_valid():
            number, minor = found.get(State.DRAFT, (0, 0))
            if not number or found.keys() - {State.DRAFT, State.FAILED}:
                text = _("Nothing of it can be dropped any more: some of it was approved.")
                return self._back(request, batch, text if number else "", 0)
            words = {"number": intcomma(number), "sum": amount(minor, batch.currency)}
            text = _(
                "%(number)s drafts, %(sum)s in all, fail: nobody is paid, and what they are of is "
                "available again, for another batch."
            )
            shown = {"title": _("Drop the whole batch?"), "text": text % words, "form": form}
            return self.question(request, [batch], "drop", **shown)
        steps = self._dropping(request, batch, form.cleaned_data["reason"])
        return streamed(self, request, steps, title=_("Dropping the batch"), unit=_("payouts"))

    def _dropping(self, request: HttpRequest, batch: PayoutBatch, reason: str) -> Steps:
        url, label = self._url("change", batch.pk), _("Go to the batch")
        try:
            dropped = yield from payouts.dropping(batch, reason)
        except InvalidTransition:
            text = _("It is no draft any more as a whole, so nothing of it was dropped.")
            return Outcome(text, messages.WARNING, url, label)
        text = ngettext("%(n)s payout was dropped.", "%(n)s payouts were dropped.", dropped)
        text %= {"n": intcomma(dropped)}
        if not dropped:
            return Outcome(_("Nothing was left to drop."), messages.WARNING, url, label)
        self.log_change(request, batch, f"{text} {reason}")
        return Outcome(text, messages.SUCCESS, url, label)

    # To make one

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.make_view)
        name = "affiliations_rewards_payoutbatch_make"
        return [path("make/", view, name=name), *super().get_urls()]

    @transaction.non_atomic_requests
    def make_view(self, request: HttpRequest) -> HttpResponseBase:
        """Ask what to pay out, then show what is due of it; on a POST make the batch."""
        if not self.has_make_permission(request):
            raise PermissionDenied
        title = _("Make payouts")
        data = request.POST if request.method == "POST" else request.GET or None
        form = DueForm(data)
        if not form.is_valid():
            has_accounts = bool(form.fields["currency"].choices)  # type: ignore[attr-defined]
            shown = {"title": title, "form": form, "has_accounts": has_accounts}
            return page(self, request, "payoutbatch/make.html", **shown)
        currency, until = form.cleaned_data["currency"], form.cleaned_data["until"]
        work = self._making if request.method == "POST" else self._looking
        steps = work(request, currency, until)
        return streamed(self, request, steps, title=title, unit=_("accounts"))

    def _looking(self, request: HttpRequest, currency: str, until: Any) -> Steps:
        """Look at what is due; what comes after this moment is not what is confirmed."""
        until = until or timezone.now()
        try:
            due = yield from payouts.summing(currency=currency, until=until)
            least = minimum(currency)
        except (InvalidMoney, ValueError) as error:
            return Outcome(str(error), messages.ERROR, self._url("make"), _("Back"))
        context = {
            "due": due,
            "sum": amount(due.minor, currency),
            "until": until,
            "until_text": until.isoformat(),
            "minimum": told(least),
            "currency": currency,
            "make_url": self._url("make"),
            "list_url": self._url("changelist"),
        }
        template = "admin/affiliations_rewards/payoutbatch/due.html"
        return Outcome(html=render_to_string(template, context, request))

    def _making(self, request: HttpRequest, currency: str, until: Any) -> Steps:
        try:
            batch = yield from payouts.drafting(currency=currency, until=until)
        except (InvalidMoney, ValueError) as error:
            return Outcome(str(error), messages.ERROR, self._url("make"), _("Back"))
        if batch is None:
            text = _("Nothing was due: it was in a batch before, or there is too little.")
            url, label = self._url("changelist"), _("See the batches")
            return Outcome(text, messages.WARNING, url, label)
        made = payouts.totals(batch)
        words = {"n": intcomma(made.holders), "sum": amount(made.minor, currency)}
        text = ngettext(
            "%(n)s payout was made, of %(sum)s.",
            "%(n)s payouts were made, of %(sum)s in all.",
            made.holders,
        )
        text %= words
        user: Any = request.user
        LogEntry.objects.log_actions(
            user_id=user.pk,
            queryset=[batch],
            action_flag=ADDITION,
            change_message=text,
        )
        return Outcome(text, messages.SUCCESS, self._url("change", batch.pk), _("Go to the batch"))
