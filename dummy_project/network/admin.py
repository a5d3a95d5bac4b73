"""Show the network's tables; on a real network's machines they would be elsewhere."""

from django.contrib import admin

from .models import Click, Conversion, Offer, Postback


@admin.register(Offer)
class OfferAdmin(admin.ModelAdmin):
    """What advertisers pay for."""

    list_display = ("offer_id", "name", "advertiser", "percent", "url")


@admin.register(Click)
class ClickAdmin(admin.ModelAdmin):
    """Clicks on publishers' links."""

    list_display = ("clicked_on", "transaction_id", "offer", "aff_id", "aff_sub")
    list_select_related = ("offer",)


@admin.register(Conversion)
class ConversionAdmin(admin.ModelAdmin):
    """Sales that clicks led to."""

    list_display = ("converted_on", "click", "adv_sub", "amount", "status")
    list_select_related = ("click",)
    list_filter = ("status",)


@admin.register(Postback)
class PostbackAdmin(admin.ModelAdmin):
    """What advertisers reported."""

    list_display = ("received_on", "click", "accepted", "answer")
    list_select_related = ("click",)
    list_filter = ("accepted",)
