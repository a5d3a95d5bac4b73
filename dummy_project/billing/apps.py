"""Configure the billing system."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    """The billing system."""

    name = "dummy_project.billing"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Billing system"
