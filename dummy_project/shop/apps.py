"""Configure the shop."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The shop."""

    name = "dummy_project.shop"
    default_auto_field = "django.db.models.BigAutoField"
