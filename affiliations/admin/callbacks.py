"""Callbacks: what became of each, and another try by hand."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import charts, dates, outbox, status
from ..exceptions import InvalidTransition
from ..models import Callback, CallbackAttempt
from ..signing import TEST_PREFIX
from .acting import AT_ONCE, ActingAdmin
from .lists import NOTHING, PartnerFilter, RecordInline, TextFilter, link, marked, whole

#: As many callbacks as are sent again by hand; a command shows how far it is.
MOST = 100_000


def badge(callback: Callback) -> Any:
    """Return the state as a coloured word."""
    return marked(callback.state, callback.get_state_display())


def _hours_in_words(what: str, values: list[int]) -> str:
    return _("%(number)s %(what)s in the last 48 hours") % {
        "number": intcomma(sum(values)),
        "what": what,
    }


def intcomma(number: int) -> str:
    """Return a number as people write it."""
    return number_format(number, use_l10n=True, force_grouping=True)


class HostFilter(TextFilter):
    """Keeps the callbacks to a host."""

    title = gettext_lazy("host")
    label = gettext_lazy("Whole name of the host")
    parameter_name = "host"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(host=self.text.lower()) if self.text else queryset


class ReasonFilter(TextFilter):
    """Keeps the callbacks whose reason begins with a text."""

    title = gettext_lazy("reason")
    label = gettext_lazy("How the reason begins")
    parameter_name = "reason"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(reason__startswith=self.text) if self.text else queryset


class SinceFilter(TextFilter):
    """Keeps the callbacks that were written at or after a moment."""

    title = gettext_lazy("time")
    label = gettext_lazy("Written since, as 2026-11-20 or 2026-11-20T18:00")
    parameter_name = "since"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if not self.text:
            return queryset
        since = dates.moment(self.text)
        if since is None:
            # None, not all: they may be about to be sent again.
            messages.error(request, _("“%(text)s” is no date.") % {"text": self.text[:40]})
            return queryset.none()
        return queryset.filter(created_on__gte=since)


class AttemptInline(RecordInline):
    model = CallbackAttempt
    fields = readonly_fields = ("number", "started_on", "took", "answered", "said")

    @admin.display(description=gettext_lazy("took"))
    def took(self, attempt: CallbackAttempt) -> str:
        return _("%(ms)s ms") % {"ms": attempt.duration_ms}

    @admin.display(description=gettext_lazy("answer"))
    def answered(self, attempt: CallbackAttempt) -> Any:
        parts = [str(attempt.status) if attempt.status is not None else "", attempt.error]
        return format_html('<span class="aff-url">{}</span>', " ".join(filter(None, parts)))

    # Staff only: shown to whoever chose the address, it would read inner pages out to them.
    @admin.display(description=gettext_lazy("answer’s text"))
    def said(self, attempt: CallbackAttempt) -> Any:
        return format_html('<span class="aff-url aff-body">{}</span>', attempt.answer or NOTHING)


@admin.register(Callback)
class CallbackAdmin(ActingAdmin):
    list_display = (
        "badge",
        "about",
        "partner_",
        "age",
        "attempts",
        "next_attempt",
        # Last, as the longest: where there is no room, it is what is scrolled to.
        "reason_",
    )
    list_filter = ("state", PartnerFilter, SinceFilter, HostFilter, ReasonFilter)
    change_list_template = "admin/affiliations/callback/change_list.html"
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
        "expects",
        "attempts",
        "next_attempt",
        "created_on",
        "settled_on",
        "reason_as_text",
    )
    inlines = (AttemptInline,)
    actions = ("send_again", "cancel")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Show above the list how the last two days went."""
        arrived, failed = status.attempts_by_hour()
        hours = {
            "arrived": charts.sparkline(arrived, title=_hours_in_words(_("delivered"), arrived)),
            "arrived_words": _hours_in_words(_("delivered"), arrived),
            "failed": charts.sparkline(failed, title=_hours_in_words(_("failed"), failed)),
            "failed_words": _hours_in_words(_("failed"), failed),
        }
        return super().changelist_view(request, {**(extra_context or {}), "hours": hours})

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
        return link(self.admin_site, callback.partner) if callback.partner else NOTHING

    @admin.display(description=gettext_lazy("about"))
    def about(self, callback: Callback) -> Any:
        if callback.webhook_id.startswith(TEST_PREFIX):
            return _("a test")
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
        if row.withdrawn:
            return False
        return action != "cancel" or row.state in (Callback.State.PENDING, Callback.State.PARKED)

    @admin.action(description=gettext_lazy("Send again"), permissions=["act"])
    def send_again(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        rows = list(queryset[: AT_ONCE + 1])
        if len(rows) > AT_ONCE:
            return self._send_all_again(request, queryset, rows[:1])
        sent = 0
        for row in rows:
            try:
                outbox.send_again(row)
            except InvalidTransition:
                text = _("%(callback)s was withdrawn: what it tells is no longer so.")
                self.message_user(request, text % {"callback": row}, messages.WARNING)
            else:
                sent += 1
                self.log_change(request, row, _("Sent again."))
        self._tell(request, sent)
        return None

    def _send_all_again(
        self, request: HttpRequest, queryset: Any, first: list[Callback]
    ) -> HttpResponse | None:
        """Send a filter's worth again, once somebody has confirmed how many these are."""
        rows = outbox.resendable(queryset)
        number = rows.order_by()[: MOST + 1].count()
        if number > MOST:
            text = _("These are more than %(number)s. Please use manage.py resend_callbacks.")
            self.message_user(request, text % {"number": intcomma(MOST)}, messages.ERROR)
            return None
        asked = self.confirmation(
            request,
            first,
            "send_again",
            title=_("Send again"),
            text=_(
                "%(number)s callbacks will be called again, with the same ids. Those that wait, "
                "and those that were sent again within the last hour, are left as they are."
            )
            % {"number": intcomma(number)},
            across=True,
        )
        if asked is None:
            self._tell(request, sum(outbox.send_all_again(queryset)))
        return asked

    def _tell(self, request: HttpRequest, number: int) -> None:
        text = ngettext("%(n)s callback is sent again.", "%(n)s callbacks are sent again.", number)
        if number:
            self.message_user(request, text % {"n": intcomma(number)}, messages.SUCCESS)

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
