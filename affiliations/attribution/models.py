"""What staff are given to look at; the attribution has no table of its own."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from ..models import Conversion

__all__ = ["AttributionReport"]


class AttributionReport(Conversion):
    """The report's place in the admin, and the permission to look at it."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = _("attribution report")
        verbose_name_plural = _("attribution report")
