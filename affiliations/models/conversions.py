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
        _("reversed on"), null=True, blank=True, help_text=_("When the whole of it was taken back.")
    )
    reversed_minor = models.BigIntegerField(
        _("reversed, in minor units"),
        default=0,
        db_default=0,  # also for processes of the version before, while a site is upgraded
        help_text=_("How much of the amount was taken back, in as many parts as it took."),
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
            models.CheckConstraint(
                condition=models.Q(reversed_minor=0)
                | models.Q(reversed_minor__gt=0, reversed_minor__lt=models.F("amount_minor"))
                | models.Q(reversed_minor=models.F("amount_minor"), reversed_on__isnull=False),
                name="affiliations_conversion_reversed",
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

    @property
    def standing(self) -> Money | None:
        """What of it was not taken back, or None where nothing was said of its worth."""
        if self.amount_minor is None:
            return None
        # Those that were taken back before parts could be have no part noted.
        return Money(
            0 if self.reversed_on else self.amount_minor - self.reversed_minor, self.currency
        )


class Reversal(models.Model):
    """A part of a conversion, or what was left of it, that was taken back."""

    # The unique key begins with it.
    conversion = models.ForeignKey(
        Conversion,
        models.CASCADE,
        verbose_name=_("conversion"),
        related_name="reversals",
        db_index=False,
    )
    reference = models.CharField(
        _("reference"),
        max_length=MAX_REFERENCE,
        blank=True,
        help_text=_("What it was: a refund's number, say. The same one counts once."),
    )
    key = models.CharField(max_length=64, editable=False)
    amount_minor = models.BigIntegerField(_("amount in minor units"), null=True, blank=True)
    created_on = models.DateTimeField(_("created on"), default=timezone.now)

    class Meta:
        verbose_name = _("reversal")
        verbose_name_plural = _("reversals")
        constraints = [
            models.UniqueConstraint(
                fields=["conversion", "key"], name="affiliations_reversal_once"
            ),
        ]

    def __str__(self) -> str:
        return self.reference or str(self.pk)

    @property
    def money(self) -> Money | None:
        """How much was taken back, or None where nothing was said of the conversion's worth."""
        if self.amount_minor is None:
            return None
        return Money(self.amount_minor, self.conversion.currency)


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
