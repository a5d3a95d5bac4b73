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
    #: By it a browser is known again that has told no name of its own.
    needs_ident = True

    def ready(self) -> None:
        """Connect checks and receivers; never raises for a wrong setting."""
        # Models may be imported only now.
        from . import checks, receivers  # noqa: PLC0415

        checks.register()
        receivers.connect()
