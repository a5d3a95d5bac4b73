"""Put the tracking into a Django project."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TrackingConfig(AppConfig):
    """Who somebody is, and what they did."""

    name = "affiliations.tracking"
    label = "affiliations_tracking"
    verbose_name = _("Affiliate tracking")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receivers."""
        # Models may be imported only now.
        from . import receivers  # noqa: PLC0415

        receivers.connect()
