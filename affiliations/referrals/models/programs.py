"""Programs: what is promised to whoever brings somebody, and to whom they bring."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...money import DECIMAL_PLACES, MAX_MINOR, Money
from ..conf import settings

MAX_NAME = 200
MAX_DEPTH = 10


def usual_currency() -> str:
    """Return the currency of programs of which nobody has said another."""
    return str(settings.REFERRALS_CURRENCY)


def a_currency(value: str) -> None:
    """Refuse what is no ISO 4217 code."""
    if value not in DECIMAL_PLACES:
        raise ValidationError(_("Must be an ISO 4217 code in capitals, such as EUR."))


def _minor(label: Any, **options: Any) -> models.BigIntegerField[Any, Any]:
    limits = [MinValueValidator(0), MaxValueValidator(MAX_MINOR)]
    return models.BigIntegerField(label, validators=limits, **options)


class Program(models.Model):
    """What is promised to whoever brings somebody, and to whom they bring.

    Members keep what it promised when they registered, whatever becomes of it.
    """

    name = models.CharField(_("name"), max_length=MAX_NAME)
    currency = models.CharField(
        _("currency"), max_length=3, default=usual_currency, validators=[a_currency]
    )
    credit_minor = _minor(
        _("credit at sign-up, in minor units"),
        default=0,
        help_text=_("What whoever was brought receives at once."),
    )
    target_minor = _minor(
        _("target, in minor units"),
        default=0,
        help_text=_("What they must have paid before whoever brought them is credited."),
    )
    reward_minor = _minor(
        _("reward, in minor units"),
        null=True,
        blank=True,
        help_text=_("What whoever brought them receives then; as much as the target, if empty."),
    )
    depth = models.PositiveSmallIntegerField(
        _("depth"),
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_DEPTH)],
        help_text=_("1 credits who brought somebody; 2 also who had brought that one; and so on."),
    )
    max_per_indicator = models.PositiveIntegerField(
        _("at most for each indicator"),
        null=True,
        blank=True,
        help_text=_("How many a member may be credited for. More may come, but earn them nothing."),
    )
    max_referrals = models.PositiveIntegerField(
        _("at most in all"),
        null=True,
        blank=True,
        help_text=_("How many referrals are credited. After these nobody gets anything."),
    )
    active = models.BooleanField(_("active"), default=True)
    valid_from = models.DateTimeField(_("valid from"), null=True, blank=True)
    valid_until = models.DateTimeField(_("valid until"), null=True, blank=True)
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("program")
        verbose_name_plural = _("programs")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(credit_minor__gte=0, target_minor__gte=0)
                & (models.Q(reward_minor=None) | models.Q(reward_minor__gte=0)),
                name="affiliations_program_owes_nothing_negative",
            ),
        ]

    def __str__(self) -> str:
        return str(self.name)

    def clean(self) -> None:
        """Refuse a time that ends before it begins."""
        if self.valid_from and self.valid_until and self.valid_until <= self.valid_from:
            raise ValidationError({"valid_until": _("Must be after the beginning.")})

    def is_open(self, moment: datetime) -> bool:
        """Tell whether somebody can register in it at a moment."""
        begun = self.valid_from is None or self.valid_from <= moment
        return self.active and begun and (self.valid_until is None or moment < self.valid_until)

    @property
    def credit(self) -> Money:
        """What whoever was brought receives."""
        return Money(self.credit_minor, self.currency)

    @property
    def target(self) -> Money:
        """What they must have paid."""
        return Money(self.target_minor, self.currency)

    @property
    def reward(self) -> Money:
        """What whoever brought them receives then."""
        minor = self.target_minor if self.reward_minor is None else self.reward_minor
        return Money(minor, self.currency)
