"""Put the link router into a Django project."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from .relay import TRIGGER


class LinksConfig(AppConfig):
    """The router for affiliate networks."""

    name = "affiliations.links"
    label = "affiliations_links"
    verbose_name = _("Affiliate links")
    default_auto_field = "django.db.models.BigAutoField"
    #: An anonymous click is known again by the suite's cookie only.
    needs_ident = True
    #: What API keys may be let do here.
    api_scopes = {
        "links:read": _("list links, and look one up"),
        "links:write": _("generate and delete links"),
        "links:transact": _("acquire, fulfill, complete and refund transactions"),
    }

    #: What partners may be subscribed to besides the triggers of the settings.
    triggers = (TRIGGER,)

    def ready(self) -> None:
        """Connect checks and receivers; never raises for a wrong setting."""
        # Models may be imported only now.
        from . import checks, receivers  # noqa: PLC0415

        checks.register()
        receivers.connect()
