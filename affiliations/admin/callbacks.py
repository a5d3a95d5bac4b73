"""Callbacks: what became of each, and another try by hand."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import outbox
from ..exceptions import InvalidTransition
from ..models import Callback, CallbackAttempt
from .acting import ActingAdmin
from .lists import NOTHING, PartnerFilter, RecordInline, link, whole


def badge(callback: Callback) -> Any:
    """Return the state as a coloured word."""
    return format_html(
        '<span class="aff-badge aff-{}">{}</span>', callback.state, callback.get_state_display()
    )


class AttemptInline(RecordInline):
    model = CallbackAttempt
    fields = readonly_fields = ("number", "started_on", "took", "answer")

    @admin.display(description=gettext_lazy("took"))
    def took(self, attempt: CallbackAttempt) -> str:
        return _("%(ms)s ms") % {"ms": attempt.duration_ms}

    @admin.display(description=gettext_lazy("answer"))
    def answer(self, attempt: CallbackAttempt) -> Any:
        parts = [str(attempt.status) if attempt.status is not None else "", attempt.error]
        return format_html('<span class="aff-url">{}</span>', " ".join(filter(None, parts)))


@admin.register(Callback)
class CallbackAdmin(ActingAdmin):
    list_display = (
        "badge",
        "about",
        "partner_",
        "attempts",
        "next_attempt",
        "age",
        "reason_",
    )
    list_filter = ("state", PartnerFilter)
    ordering = ("-pk",)
    list_per_page = 50
    search_fields = ("webhook_id",)
    search_help_text = gettext_lazy("A whole id, or a partner’s id in links.")
    fields = readonly_fields = (
        "webhook_id",
        "badge",
        "partner_",
        "about",
        "address",
        "body_",
        "attempts",
        "next_attempt",
        "created_on",
        "settled_on",
        "reason_as_text",
    )
    inlines = (AttemptInline,)
    actions = ("send_again", "cancel")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("partner", "conversion")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        return whole(queryset, search_term, "webhook_id", PartnerFilter.of), False

    @admin.display(description=gettext_lazy("state"))
    def badge(self, callback: Callback) -> Any:
        return badge(callback)

    @admin.display(description=gettext_lazy("partner"))
    def partner_(self, callback: Callback) -> Any:
        return link(self.admin_site, callback.partner)

    @admin.display(description=gettext_lazy("about"))
    def about(self, callback: Callback) -> Any:
        return link(self.admin_site, callback.conversion) if callback.conversion else NOTHING

    @admin.display(description=gettext_lazy("next attempt"))
    def next_attempt(self, callback: Callback) -> str:
        if callback.state != Callback.State.PENDING or callback.due is None:
            return NOTHING
        if callback.due <= timezone.now():
            return _("due now")
        return _("in %(time)s") % {"time": timeuntil(callback.due, depth=1)}

    @admin.display(description=gettext_lazy("age"))
    def age(self, callback: Callback) -> str:
        return timesince(callback.created_on, depth=1)

    @admin.display(description=gettext_lazy("reason"))
    def reason_(self, callback: Callback) -> str:
        return Truncator(callback.reason).chars(80) or NOTHING

    # Whatever comes from a partner is shown as text, neither rendered nor led to.
    @admin.display(description=gettext_lazy("reason"))
    def reason_as_text(self, callback: Callback) -> Any:
        return format_html('<span class="aff-url">{}</span>', callback.reason or NOTHING)

    @admin.display(description=gettext_lazy("address"))
    def address(self, callback: Callback) -> Any:
        return format_html('<span class="aff-url">{} {}</span>', callback.method, callback.url)

    @admin.display(description=gettext_lazy("body"))
    def body_(self, callback: Callback) -> Any:
        return format_html('<span class="aff-url aff-body">{}</span>', callback.body or NOTHING)

    def offers(self, action: str, row: Callback) -> bool:
        return action != "cancel" or row.state == Callback.State.PENDING

    @admin.action(description=gettext_lazy("Send again"), permissions=["act"])
    def send_again(self, request: HttpRequest, queryset: Any) -> None:
        rows = self.selected(request, queryset)
        for row in rows:
            outbox.send_again(row)
            self.log_change(request, row, _("Sent again."))
        text = ngettext(
            "%(n)s callback is sent again.", "%(n)s callbacks are sent again.", len(rows)
        )
        if rows:
            self.message_user(request, text % {"n": len(rows)}, messages.SUCCESS)

    @admin.action(description=gettext_lazy("Cancel"), permissions=["act"])
    def cancel(self, request: HttpRequest, queryset: Any) -> None:
        canceled = 0
        who = request.user.get_username()
        for row in self.selected(request, queryset):
            try:
                outbox.cancel(row, reason=_("Canceled by %(who)s.") % {"who": who})
            except InvalidTransition:
                text = _("%(callback)s does not wait any more, and was not canceled.")
                self.message_user(request, text % {"callback": row}, messages.WARNING)
            else:
                canceled += 1
                self.log_change(request, row, _("Canceled."))
        text = ngettext("%(n)s callback was canceled.", "%(n)s callbacks were canceled.", canceled)
        if canceled:
            self.message_user(request, text % {"n": canceled}, messages.SUCCESS)
