"""Put the rewards into a Django project."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class RewardsConfig(AppConfig):
    """What is owed to whom."""

    name = "affiliations.rewards"
    label = "affiliations_rewards"
    verbose_name = _("Affiliate rewards")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect checks and receivers; never raises for a wrong setting."""
        # Models may be imported only now.
        from . import checks, protection, receivers  # noqa: PLC0415

        checks.register()
        receivers.connect()
        post_migrate.connect(protection.repair, sender=self)
