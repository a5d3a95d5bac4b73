"""Take payouts a step on, once somebody has seen what that means: approve, send, pay, fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ...admin.acting import ActingAdmin
from ...exceptions import InvalidTransition
from .. import payouts
from ..models import Payout
from ..models.payouts import MAX_REASON, MAX_REFERENCE
from ..settling import is_reference
from .payout_states import sum_of

State = Payout.State
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


class StepsMixin(ActingAdmin):
    """Payouts, with a button for each step."""

    actions = ("approve", "mark_sent", "mark_paid", "fail", "mark_returned")

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
