"""Put the referrals into a Django project."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ReferralsConfig(AppConfig):
    """Users bring users."""

    name = "affiliations.referrals"
    label = "affiliations_referrals"
    verbose_name = _("Affiliate referrals")
    default_auto_field = "django.db.models.BigAutoField"
    #: What API keys may be let do here.
    api_scopes = {
        "referrals:read": _("read programs, the statements of members, and who has indicated whom"),
        "referrals:write": _("make, change and delete programs"),
        "referrals:register": _(
            "register members, note whom they indicate, and report what they have paid"
        ),
    }

    def ready(self) -> None:
        """Connect checks and receivers; never raises for a wrong setting."""
        # Models may be imported only now.
        from . import checks, receivers  # noqa: PLC0415

        checks.register()
        receivers.connect()
