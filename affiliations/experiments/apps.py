"""Put the experiments into a Django project."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ExperimentsConfig(AppConfig):
    """Who sees which variation, and what comes of it."""

    name = "affiliations.experiments"
    label = "affiliations_experiments"
    verbose_name = _("Affiliate experiments")
    default_auto_field = "django.db.models.BigAutoField"
    #: By it a browser sees the same variation again.
    needs_ident = True
    #: What API keys may be let do here.
    api_scopes = {"experiments:read": _("read what came of the campaigns")}

    def ready(self) -> None:
        """Connect checks and receivers; never raises for a wrong setting."""
        # Models may be imported only now.
        from . import checks, receivers  # noqa: PLC0415

        checks.register()
        receivers.connect()
