"""Configure the network."""

from django.apps import AppConfig


class NetworkConfig(AppConfig):
    """The network."""

    name = "dummy_project.network"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Affiliate network"
