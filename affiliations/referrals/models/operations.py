"""Operations: what has happened to a member, as their statement tells it."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...models import Callback
from ...rewards.models import Entry
from .members import Member


class Operation(models.Model):
    """One thing that has happened to a member; those that move money have an entry in the ledger.

    Never changed. What is taken back is another one of the same kind, with an entry below zero, so
    that the sum of a kind's entries is what there is of it.
    """

    class Kind(models.TextChoices):
        INDICATION = "indication", _("indication")
        SIGNUP = "signup", _("sign-up")
        SIGNUP_CREDIT = "signup_credit", _("sign-up credit")
        # As the predecessor's documents spell it.
        POTENTIAL_CREDIT = "potencial_credit", _("potential credit")
        ACQUIRED_CREDIT = "acquired_credit", _("acquired credit")

    # Its index is in Meta.
    member = models.ForeignKey(
        Member, models.PROTECT, verbose_name=_("member"), related_name="operations", db_index=False
    )
    about = models.ForeignKey(
        Member,
        models.PROTECT,
        verbose_name=_("about"),
        related_name="operations_about",
        help_text=_("Who was brought."),
    )
    kind = models.CharField(_("operation"), max_length=16, choices=Kind)
    entry = models.OneToOneField(
        Entry,
        models.PROTECT,
        verbose_name=_("entry"),
        related_name="referral_operation",
        null=True,
        blank=True,
    )
    callback = models.OneToOneField(
        Callback,
        models.SET_NULL,
        verbose_name=_("callback"),
        related_name="referral_operation",
        null=True,
        blank=True,
        help_text=_("By which the billing system is told of it."),
    )
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        indexes = [
            models.Index(fields=["member", "id"], name="affiliations_operation_whose"),
            models.Index(fields=["member", "kind"], name="affiliations_operation_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.member_id}: {self.kind}"

    @property
    def minor(self) -> int:
        """What it has moved, in minor units."""
        return self.entry.minor if self.entry is not None else 0
