"""What staff see: partners to manage, and everything else to look at."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from . import outbox, services
from .exceptions import InvalidTransition
from .models import (
    ApiKey,
    Callback,
    CallbackAttempt,
    Conversion,
    Partner,
    Share,
    Subscription,
    Visitor,
)


class ReadOnly:
    """Rows that the software writes, and people only look at."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def show_once(
    request: HttpRequest, site: admin.AdminSite, *, title: Any, text: Any, secret: str
) -> HttpResponse:
    """Answer with a page that shows a secret; it is neither stored, logged nor sent elsewhere."""
    context = {**site.each_context(request), "title": title, "text": text, "secret": secret}
    response = TemplateResponse(request, "affiliations/admin/secret.html", context)
    response.headers["Cache-Control"] = "private, no-store"
    return response


class SubscriptionInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Subscription
    extra = 1


@admin.register(Partner)
class PartnerAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "uid", "active", "visitors_", "successes")
    list_filter = ("active",)
    search_fields = ("name", "=uid")
    readonly_fields = ("uid", "created_on", "changed_on")
    filter_horizontal = ("users",)
    inlines = (SubscriptionInline,)
    actions = ("activate", "deactivate", "rotate_secret")

    @admin.action(description=_("Activate"), permissions=["change"])
    def activate(self, request: HttpRequest, partners: Any) -> None:
        self._set_active(request, partners, active=True)

    @admin.action(description=_("Deactivate"), permissions=["change"])
    def deactivate(self, request: HttpRequest, partners: Any) -> None:
        self._set_active(request, partners, active=False)

    def _set_active(self, request: HttpRequest, partners: Any, *, active: bool) -> None:
        for partner in partners:  # one by one: the middleware hears of a save, not of an update
            partner.active = active
            partner.save(update_fields=["active", "changed_on"])
            verb = "Activated" if active else "Deactivated"
            self.log_change(request, partner, f"{verb}.")

    @admin.action(description=_("Issue a new signing secret"), permissions=["change"])
    def rotate_secret(self, request: HttpRequest, partners: Any) -> HttpResponse | None:
        if len(partners) != 1:
            self.message_user(request, _("Select one partner."), messages.ERROR)
            return None
        [partner] = partners
        secret = partner.rotate_secret()
        self.log_change(request, partner, "Issued a new signing secret.")
        return show_once(
            request,
            self.admin_site,
            title=_("The new signing secret of %(partner)s") % {"partner": partner},
            text=_("The secret before it goes on signing beside this one for 24 hours."),
            secret=secret,
        )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).with_counts()  # type: ignore[attr-defined]

    @admin.display(description=_("visitors"), ordering="visitor_count")
    def visitors_(self, partner: Any) -> int:
        return int(partner.visitor_count)

    @admin.display(description=_("successes"), ordering="success_count")
    def successes(self, partner: Any) -> int:
        return int(partner.success_count)


@admin.register(Visitor)
class VisitorAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("pk", "partner", "entry_point", "user", "referred_on", "successful_on")
    list_select_related = ("partner", "user")
    list_filter = ("referred_on",)
    search_fields = ("=partner__uid", "entry_point")
    fields = readonly_fields = (
        "partner",
        "user",
        "entry_point",
        "referrer_host",
        "referred_on",
        "clicked_on",
        "successful_on",
        "click_id",
        "sub_ids",
    )


class ShareInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = Share


@admin.register(Conversion)
class ConversionAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("trigger", "reference", "partner", "money", "created_on", "reversed_on")
    list_select_related = ("visitor__partner",)
    list_filter = ("created_on",)
    search_fields = ("=reference",)
    fields = ("trigger", "reference", "visitor", "user", "money", "created_on", "why")
    readonly_fields = ("money", "why")
    inlines = (ShareInline,)
    actions = ("take_back",)

    def has_take_back_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("affiliations.change_conversion")

    @admin.action(description=_("Take back"), permissions=["take_back"])
    def take_back(self, request: HttpRequest, conversions: Any) -> None:
        done = [each for each in conversions if services.reverse_conversion(each)]
        for conversion in done:
            self.log_change(request, conversion, "Taken back.")
        text = ngettext(
            "%d conversion was taken back.", "%d conversions were taken back.", len(done)
        )
        self.message_user(request, text % len(done), messages.SUCCESS)

    @admin.display(description=_("partner"))
    def partner(self, conversion: Conversion) -> Partner:
        return conversion.visitor.partner

    @admin.display(description=_("Why was this credited?"))
    def why(self, conversion: Conversion) -> str:
        return services.explain(conversion)


class AttemptInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = CallbackAttempt


@admin.register(Callback)
class CallbackAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("webhook_id", "partner", "state", "attempts", "due", "created_on", "reason")
    list_select_related = ("partner",)
    list_filter = ("state",)
    inlines = (AttemptInline,)
    actions = ("send_again", "cancel")

    def has_send_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("affiliations.change_callback")

    @admin.action(description=_("Send again"), permissions=["send"])
    def send_again(self, request: HttpRequest, callbacks: Any) -> None:
        for callback in callbacks:
            outbox.send_again(callback)
            self.log_change(request, callback, "Sent again.")
        self.message_user(request, _("They are due now."), messages.SUCCESS)

    @admin.action(description=_("Cancel"), permissions=["send"])
    def cancel(self, request: HttpRequest, callbacks: Any) -> None:
        for callback in callbacks:
            try:
                outbox.cancel(callback, reason="Canceled by hand.")
            except InvalidTransition as error:
                self.message_user(request, str(error), messages.WARNING)
            else:
                self.log_change(request, callback, "Canceled.")


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "prefix", "scopes", "last_used_on", "revoked_on")
    fields = ("name", "partner", "scopes")
    autocomplete_fields = ("partner",)
    actions = ("revoke",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("affiliations.change_apikey")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        key, token = ApiKey.objects.issue(name=obj.name, scopes=obj.scopes, partner=obj.partner)
        obj.__dict__.update(key.__dict__)
        obj.shown_once = token

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        return show_once(
            request,
            self.admin_site,
            title=_("The new API key %(name)s") % {"name": obj.name},
            text=_("Whoever has it may do what its scopes name, until it is revoked."),
            secret=obj.shown_once,
        )

    @admin.action(description=_("Revoke"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, keys: Any) -> None:
        for key in keys:
            if key.revoke():
                self.log_change(request, key, "Revoked.")
