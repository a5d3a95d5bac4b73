"""Put the core into a Django project."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AffiliationsConfig(AppConfig):
    """The core app."""

    name = "affiliations"
    label = "affiliations"
    verbose_name = _("Affiliations")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect checks, receivers and the site's triggers; never raises for a wrong setting."""
        # Models may be imported only now.
        from . import checks, firing, receivers  # noqa: PLC0415

        checks.register()
        receivers.connect()
        firing.connect()


class AffiliateTrackingConfig(AffiliationsConfig):
    """The name that the predecessor's users may have in their INSTALLED_APPS."""

    default = False
