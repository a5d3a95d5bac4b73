"""Accounts and the entries in them: what is owed, and how it came about."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...exceptions import InvalidTransition
from ...fields import ExactCharField
from ...models import Conversion, Partner, Visitor
from ...money import Money
from ..querysets import EntryQuerySet
from .rules import CommissionRule

MAX_MEMO = 500
#: What the holders of the site's own accounts begin with.
SITE = "site:"


class Account(models.Model):
    """What is owed to somebody in one currency; or one of the site's own, that it is owed by."""

    holder = ExactCharField(
        _("holder"),
        max_length=100,
        help_text=_("Whose it is: partner:1, site:commissions, or as another app names its own."),
    )
    currency = models.CharField(_("currency"), max_length=3)
    partner = models.ForeignKey(
        Partner,
        models.PROTECT,
        verbose_name=_("partner"),
        related_name="accounts",
        null=True,
        blank=True,
    )
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("account")
        verbose_name_plural = _("accounts")
        constraints = [
            models.UniqueConstraint(
                fields=["holder", "currency"], name="affiliations_account_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.partner or self.holder} ({self.currency})"

    @property
    def is_site(self) -> bool:
        """Tell whether it is one of the site's own, the other side of what is owed."""
        return str(self.holder).startswith(SITE)


class Commission(models.Model):
    """What a partner's part of a conversion has earned, by which rule, and why; never changed."""

    conversion = models.ForeignKey(
        Conversion, models.PROTECT, verbose_name=_("conversion"), related_name="commissions"
    )
    visitor = models.ForeignKey(
        Visitor, models.PROTECT, verbose_name=_("visitor"), related_name="commissions"
    )
    partner = models.ForeignKey(
        Partner, models.PROTECT, verbose_name=_("partner"), related_name="commissions"
    )
    rule = models.ForeignKey(
        CommissionRule,
        models.PROTECT,
        verbose_name=_("rule"),
        related_name="commissions",
        null=True,
        blank=True,
    )
    lineage = models.UUIDField(null=True, editable=False)
    terms = models.JSONField(
        _("terms"), default=dict, blank=True, help_text=_("The rule’s, as they were.")
    )
    base_minor = models.BigIntegerField(_("its part of the amount, in minor units"), default=0)
    minor = models.BigIntegerField(_("earned, in minor units"), default=0)
    currency = models.CharField(_("currency"), max_length=3, blank=True, default="")
    record = models.JSONField(
        _("record"), default=dict, help_text=_("Which rules came into question, and why.")
    )
    # The conversion's: by it tiers and caps count.
    converted_on = models.DateTimeField(_("converted on"))
    created_on = models.DateTimeField(_("created on"), default=timezone.now)

    class Meta:
        verbose_name = _("commission")
        verbose_name_plural = _("commissions")
        indexes = [
            models.Index(fields=["partner", "converted_on"], name="affiliations_commission_whose"),
            models.Index(fields=["converted_on"], name="affiliations_commission_when"),
            # For tiers, caps and times: what a rule has earned a partner lately.
            models.Index(
                fields=["partner", "lineage", "converted_on"], name="affiliations_commission_line"
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["conversion", "partner"], name="affiliations_commission_once"
            ),
            models.CheckConstraint(
                condition=models.Q(minor=0)
                | (models.Q(minor__gt=0, rule__isnull=False) & ~models.Q(currency="")),
                name="affiliations_commission_money",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.conversion_id}: {self.money or 0}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert; raises InvalidTransition where it is there already."""
        _only_once(self)
        super().save(*args, **kwargs)

    @property
    def money(self) -> Money | None:
        """What was earned, or None where it was nothing of no currency."""
        return Money(self.minor, self.currency) if self.currency else None


class Entry(models.Model):
    """A sum that went from one account to another: a line of the ledger, never changed.

    It has two legs: `minor` is added to `account` and taken off `contra`, both in one currency, so
    that the sum of all accounts of a currency is zero whatever happens.
    """

    class Kind(models.TextChoices):
        COMMISSION = "commission", _("commission")
        CREDIT = "credit", _("credit")
        ADJUSTMENT = "adjustment", _("adjustment")
        REVERSAL = "reversal", _("reversal")
        PAYOUT = "payout", _("payout")

    # Of the foreign keys to accounts none has an index of its own: see Meta.
    account = models.ForeignKey(
        Account, models.PROTECT, verbose_name=_("account"), related_name="entries", db_index=False
    )
    contra = models.ForeignKey(
        Account,
        models.PROTECT,
        verbose_name=_("contra account"),
        related_name="contra_entries",
        db_index=False,
    )
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    minor = models.BigIntegerField(
        _("amount in minor units"), help_text=_("Above zero: owed to the holder of the account.")
    )
    key = ExactCharField(
        _("key"),
        max_length=100,
        unique=True,
        help_text=_("What it was posted for: the same thing is posted once."),
    )
    commission = models.ForeignKey(
        Commission,
        models.PROTECT,
        verbose_name=_("commission"),
        related_name="entries",
        null=True,
        blank=True,
    )
    reverses = models.ForeignKey(
        "self",
        models.PROTECT,
        verbose_name=_("reverses"),
        related_name="reversals",
        null=True,
        blank=True,
    )
    memo = models.CharField(_("memo"), max_length=MAX_MEMO, blank=True, default="")
    available_on = models.DateTimeField(
        _("available on"),
        null=True,
        blank=True,
        help_text=_(
            "From when on it may be paid out: it is held until then. Without a date it is promised "
            "only, and taken back when what it depends on has happened, or never will."
        ),
    )
    created_on = models.DateTimeField(_("created on"), default=timezone.now)

    objects = EntryQuerySet.as_manager()

    class Meta:
        verbose_name = _("entry")
        verbose_name_plural = _("entries")
        indexes = [
            models.Index(fields=["account", "id"], name="affiliations_entry_account"),
            models.Index(fields=["account", "available_on"], name="affiliations_entry_due"),
            models.Index(fields=["contra", "id"], name="affiliations_entry_contra"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(minor=0), name="affiliations_entry_moves_something"
            ),
            models.CheckConstraint(
                condition=~models.Q(account=models.F("contra")), name="affiliations_entry_two_legs"
            ),
            models.CheckConstraint(
                condition=models.Q(kind="reversal", reverses__isnull=False)
                | (~models.Q(kind="reversal") & models.Q(reverses=None)),
                name="affiliations_entry_reversal",
            ),
            models.CheckConstraint(
                condition=~models.Q(kind="commission") | models.Q(commission__isnull=False),
                name="affiliations_entry_commission",
            ),
        ]

    def __str__(self) -> str:
        return str(self.key)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert; raises InvalidTransition where it is there already."""
        _only_once(self)
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: raises InvalidTransition. What was wrong is reversed."""
        raise InvalidTransition(f"entry: {self} is never deleted, post its reversal")

    @property
    def money(self) -> Money:
        """What was added to the account."""
        return Money(self.minor, self.account.currency)


class Snapshot(models.Model):
    """What an account came to at a moment, so that nobody has to sum all of it again."""

    account = models.ForeignKey(
        Account,
        models.PROTECT,
        verbose_name=_("account"),
        related_name="snapshots",
        db_index=False,
    )
    taken_on = models.DateTimeField(_("taken on"))
    last_entry = models.BigIntegerField(
        _("last entry"), help_text=_("All entries up to this one are in the sums.")
    )
    total_minor = models.BigIntegerField(_("total, in minor units"))
    available_minor = models.BigIntegerField(_("available, in minor units"))

    class Meta:
        verbose_name = _("snapshot")
        verbose_name_plural = _("snapshots")
        constraints = [
            models.UniqueConstraint(
                fields=["account", "taken_on"], name="affiliations_snapshot_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account_id}: {self.taken_on:%Y-%m-%d %H:%M}"


def _only_once(row: models.Model) -> None:
    if not row._state.adding:
        raise InvalidTransition(f"{row._meta.model_name}: {row} is written, it never changes")
