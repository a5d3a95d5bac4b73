"""Put the attribution into a Django project."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AttributionConfig(AppConfig):
    """Which touchpoints earned the conversions."""

    name = "affiliations.attribution"
    label = "affiliations_attribution"
    verbose_name = _("Affiliate attribution")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect checks; never raises for a wrong setting."""
        from . import checks  # noqa: PLC0415 # settings may be read only now

        checks.register()
