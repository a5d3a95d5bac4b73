"""Subscriptions: whether each is called, why not, and a way to try its address."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import outbox
from ..models import Callback, Subscription
from .acting import ActingAdmin
from .lists import NOTHING, PartnerFilter, happened, link, marked


@admin.register(Subscription)
class SubscriptionAdmin(ActingAdmin):
    list_display = ("trigger", "partner_", "called", "method", "since", "why")
    list_filter = (happened("off_since", gettext_lazy("switched off")), PartnerFilter)
    ordering = ("-pk",)
    list_per_page = 50
    search_fields = ("trigger",)
    fields = readonly_fields = (
        "trigger",
        "partner_",
        "address",
        "method",
        "expects",
        "called",
        "since",
        "why",
    )
    actions = ("send_test", "switch_on", "switch_off")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # One by one, as on the partner's page, where they are edited; and with the partner itself.
        return obj is not None and admin.ModelAdmin.has_delete_permission(self, request, obj)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("partner")

    @admin.display(description=gettext_lazy("partner"))
    def partner_(self, subscription: Subscription) -> Any:
        return link(self.admin_site, subscription.partner)

    @admin.display(description=gettext_lazy("state"))
    def called(self, subscription: Subscription) -> Any:
        if not subscription.callback_url:
            state, text = "canceled", _("counts only")
        elif subscription.off_since:
            state, text = "dead", _("switched off")
        elif subscription.failures:
            state, text = "pending", _("failing")
        else:
            state, text = "delivered", _("on")
        return marked(state, text)

    @admin.display(description=gettext_lazy("since"))
    def since(self, subscription: Subscription) -> str:
        since = subscription.off_since or subscription.failing_since
        return timesince(since, depth=1) if since else NOTHING

    @admin.display(description=gettext_lazy("reason"))
    def why(self, subscription: Subscription) -> str:
        if subscription.off_since or not subscription.failures:
            return subscription.off_reason or NOTHING
        text = ngettext("%(n)s failure in a row", "%(n)s failures in a row", subscription.failures)
        return text % {"n": subscription.failures}

    # As text: whoever of the staff followed it would call the partner.
    @admin.display(description=gettext_lazy("callback URL"))
    def address(self, subscription: Subscription) -> Any:
        url = subscription.callback_url or NOTHING
        return format_html('<span class="aff-url">{}</span>', url)

    def offers(self, action: str, row: Subscription) -> bool:
        if action == "switch_on":
            return row.off_since is not None
        return bool(row.callback_url) and (action != "switch_off" or row.off_since is None)

    @admin.action(description=gettext_lazy("Send a test"), permissions=["act"])
    def send_test(self, request: HttpRequest, queryset: Any) -> None:
        for row in self.selected(request, queryset.select_related("partner")):
            if not row.callback_url:
                text = _("%(subscription)s has no callback URL: there is nothing to test.")
                self.message_user(request, text % {"subscription": row}, messages.WARNING)
                continue
            callback = outbox.enqueue_test(row)
            self.log_change(request, row, _("Sent a test."))
            self._tell_of(request, callback)

    def _tell_of(self, request: HttpRequest, callback: Callback) -> None:
        text = format_html(
            "{} {}", _("A signed test is on its way:"), link(self.admin_site, callback)
        )
        self.message_user(request, text, messages.SUCCESS)

    @admin.action(description=gettext_lazy("Switch on"), permissions=["act"])
    def switch_on(self, request: HttpRequest, queryset: Any) -> None:
        parked = 0
        rows = self.selected(request, queryset.exclude(off_since=None))
        for row in rows:
            parked += outbox.switch_on(row)
            self.log_change(request, row, _("Switched on."))
        text = ngettext("%(n)s subscription is on.", "%(n)s subscriptions are on.", len(rows))
        if parked:
            text += " " + ngettext(
                "%(parked)s callback that was parked goes out, slowly at first.",
                "%(parked)s callbacks that were parked go out, slowly at first.",
                parked,
            )
        if rows:
            values = {"n": len(rows), "parked": parked}
            self.message_user(request, text % values, messages.SUCCESS)

    @admin.action(description=gettext_lazy("Switch off"), permissions=["act"])
    def switch_off(self, request: HttpRequest, queryset: Any) -> None:
        rows = self.selected(request, queryset.filter(off_since=None))
        reason = _("Switched off by %(who)s.") % {"who": request.user.get_username()}
        for row in rows:
            outbox.switch_off(row, reason=reason)
            self.log_change(request, row, _("Switched off."))
        text = ngettext(
            "%(n)s subscription is off. What falls due is parked.",
            "%(n)s subscriptions are off. What falls due is parked.",
            len(rows),
        )
        if rows:
            self.message_user(request, text % {"n": len(rows)}, messages.SUCCESS)
