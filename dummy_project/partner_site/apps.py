"""Configure the partner's site."""

from django.apps import AppConfig


class PartnerSiteConfig(AppConfig):
    """The partner's site."""

    name = "dummy_project.partner_site"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Partner's own site"
