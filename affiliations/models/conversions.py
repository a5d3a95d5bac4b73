"""Conversions, and the visitors that each of them is credited to."""

from __future__ import annotations

import hashlib
from typing import Any

from django.conf import settings as django_settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..money import Money
from ..querysets import ConversionQuerySet
from .visitors import Visitor

MAX_REFERENCE = 200


def conversion_key(trigger: str, reference: str) -> str:
    """Return the digest by which a conversion is the same one.

    A digest, as two references that differ are equal to a database whose collation overlooks case,
    accents or trailing blanks: MariaDB would take order "a1" for order "A1", and lose one.
    """
    return hashlib.sha256(f"{trigger}\0{reference}".encode()).hexdigest()


class Conversion(models.Model):
    """A trigger whose conditions were met for a visitor."""

    visitor = models.ForeignKey(
        Visitor, models.PROTECT, verbose_name=_("visitor"), related_name="conversions"
    )
    trigger = models.CharField(_("trigger"), max_length=100)
    reference = models.CharField(
        _("reference"),
        max_length=MAX_REFERENCE,
        help_text=_("What it was: an order's number, say. The same thing converts once."),
    )
    key = models.CharField(max_length=64, editable=False)
    user = models.ForeignKey(
        django_settings.AUTH_USER_MODEL,
        models.SET_NULL,
        verbose_name=_("user"),
        related_name="affiliate_conversions",
        null=True,
        blank=True,
    )
    amount_minor = models.BigIntegerField(
        _("amount in minor units"), null=True, blank=True, help_text=_("Cents, for euros.")
    )
    currency = models.CharField(_("currency"), max_length=3, blank=True, default="")
    created_on = models.DateTimeField(_("created on"), default=timezone.now)
    reversed_on = models.DateTimeField(
        _("reversed on"), null=True, blank=True, help_text=_("When it was taken back.")
    )
    decision = models.JSONField(
        _("decision"),
        default=dict,
        help_text=_("Which visitors came into question, and why these were credited."),
    )

    objects = ConversionQuerySet.as_manager()

    class Meta:
        verbose_name = _("conversion")
        verbose_name_plural = _("conversions")
        constraints = [
            # The key first: it also answers whether the same person's other visits converted.
            models.UniqueConstraint(fields=["key", "visitor"], name="affiliations_conversion_once"),
            models.CheckConstraint(
                condition=models.Q(amount_minor=None, currency="")
                | (models.Q(amount_minor__isnull=False) & ~models.Q(currency="")),
                name="affiliations_conversion_money",
            ),
        ]
        indexes = [
            models.Index(fields=["created_on"], name="affiliations_conversion_when"),
        ]

    def __str__(self) -> str:
        return f"{self.trigger} ({self.reference})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, with the key that keeps a trigger's reference from converting twice."""
        self.key = self.key or conversion_key(self.trigger, self.reference)
        super().save(*args, **kwargs)

    @property
    def money(self) -> Money | None:
        """What it was worth, or None where nothing was said."""
        return None if self.amount_minor is None else Money(self.amount_minor, self.currency)


class Share(models.Model):
    """How much of a conversion one visitor, and so its partner, is credited with."""

    conversion = models.ForeignKey(
        Conversion, models.CASCADE, verbose_name=_("conversion"), related_name="shares"
    )
    visitor = models.ForeignKey(
        Visitor, models.PROTECT, verbose_name=_("visitor"), related_name="shares"
    )
    weight = models.DecimalField(
        _("weight"),
        max_digits=7,
        decimal_places=6,
        help_text=_("The weights of a conversion sum to 1."),
    )

    class Meta:
        verbose_name = _("share")
        verbose_name_plural = _("shares")
        constraints = [
            models.UniqueConstraint(
                fields=["conversion", "visitor"], name="affiliations_share_once"
            ),
            models.CheckConstraint(
                condition=models.Q(weight__gt=0, weight__lte=1), name="affiliations_share_weight"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.weight:.2%}"
