"""Invoices: what members have paid, one by one."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...fields import ExactCharField
from ...money import Money
from .members import Member

MAX_REFERENCE = 200


class Invoice(models.Model):
    """What a member has paid at once, and what was given back of it."""

    member = models.ForeignKey(
        Member, models.PROTECT, verbose_name=_("member"), related_name="invoices", db_index=False
    )
    reference = ExactCharField(_("reference"), max_length=MAX_REFERENCE)
    minor = models.BigIntegerField(_("paid, in minor units"), default=0)
    refunded_minor = models.BigIntegerField(_("refunded, in minor units"), default=0)
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("invoice")
        verbose_name_plural = _("invoices")
        constraints = [
            models.UniqueConstraint(
                fields=["member", "reference"], name="affiliations_invoice_once"
            ),
            models.CheckConstraint(
                condition=models.Q(minor__gte=0, refunded_minor__gte=0),
                name="affiliations_invoice_is_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return str(self.reference)

    @property
    def money(self) -> Money:
        """What was paid."""
        return Money(self.minor, self.member.currency)
