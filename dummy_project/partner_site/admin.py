"""Show the partner's tables; on a real partner's machine they would be elsewhere."""

from django.contrib import admin

from .models import Deal, ReceivedCallback


@admin.register(Deal)
class DealAdmin(admin.ModelAdmin):
    """What the partner knows of the shop."""

    list_display = ("name", "shop_url", "uid")


@admin.register(ReceivedCallback)
class ReceivedCallbackAdmin(admin.ModelAdmin):
    """What the partner was called for."""

    list_display = ("received_on", "event", "visitor_id", "webhook_id", "verified", "repeated")
    list_filter = ("verified", "event")
