"""What staff see: partners to manage, and everything else to look at."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from . import services
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
    search_fields = ("=partner__uid", "entry_point")


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


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "prefix", "scopes", "last_used_on", "revoked_on")
