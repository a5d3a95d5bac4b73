"""Show the shop's tables to its staff."""

from django.contrib import admin

from .models import Order, Product


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """What the shop sells."""

    list_display = ("name", "price", "currency", "picture", "glaze")
    prepopulated_fields = {"slug": ("name",)}


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    """What was bought."""

    list_display = ("number", "user", "product", "total", "currency", "ordered_on", "refunded_on")
    list_select_related = ("user", "product")
    search_fields = ("number", "user__username")
    date_hierarchy = "ordered_on"
