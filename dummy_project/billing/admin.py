"""Show the billing system's table; on a real site it would be elsewhere."""

from django.contrib import admin

from .models import Credit


@admin.register(Credit)
class CreditAdmin(admin.ModelAdmin):
    """What customers have to their credit."""

    list_display = ("received_on", "user_hash", "operation", "amount", "currency", "program")
    list_filter = ("operation",)
