"""What somebody has to look at before it is paid out."""

from __future__ import annotations

from django.conf import settings as django_settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...fields import ExactCharField
from ...models import Partner
from .ledger import Entry

MAX_REASON, MAX_DETAIL = 50, 200


class Review(models.Model):
    """A reason why an entry is held, whatever its date, until staff have decided on it."""

    class Outcome(models.TextChoices):
        OPEN = "open", _("open")
        RELEASED = "released", _("released")
        REJECTED = "rejected", _("rejected")
        # Nothing was left to decide on.
        MOOT = "moot", _("moot")

    entry = models.ForeignKey(
        Entry, models.PROTECT, verbose_name=_("entry"), related_name="reviews", db_index=False
    )
    # Two of them that differ in case alone must not be one: with it the commission would be lost.
    reason = ExactCharField(_("reason"), max_length=MAX_REASON)
    detail = models.CharField(_("detail"), max_length=MAX_DETAIL, blank=True, default="")
    outcome = models.CharField(_("outcome"), max_length=8, choices=Outcome, default=Outcome.OPEN)
    opened_on = models.DateTimeField(_("opened on"), default=timezone.now)
    resolved_on = models.DateTimeField(_("resolved on"), null=True, blank=True)
    resolved_by = models.ForeignKey(
        django_settings.AUTH_USER_MODEL,
        models.SET_NULL,
        verbose_name=_("resolved by"),
        related_name="+",
        null=True,
        blank=True,
    )

    class Meta:
        verbose_name = _("review")
        verbose_name_plural = _("reviews")
        indexes = [
            models.Index(fields=["outcome", "opened_on"], name="affiliations_review_queue"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["entry", "reason"], name="affiliations_review_once"),
            models.CheckConstraint(
                condition=models.Q(outcome="open", resolved_on=None)
                | (~models.Q(outcome="open") & models.Q(resolved_on__isnull=False)),
                name="affiliations_review_resolved",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reason}: {self.entry_id}"


class PartnerNetwork(models.Model):
    """An IP network that a partner's people have logged in from: not itself, but a keyed digest.

    A copy of the database alone tells no network, nor which partners have one in common.
    """

    partner = models.ForeignKey(
        Partner,
        models.CASCADE,
        verbose_name=_("partner"),
        related_name="networks",
        # The unique key begins with it.
        db_index=False,
    )
    digest = models.CharField(_("digest"), max_length=64)
    seen_on = models.DateTimeField(_("last seen on"), default=timezone.now)

    class Meta:
        verbose_name = _("partner network")
        verbose_name_plural = _("partner networks")
        constraints = [
            models.UniqueConstraint(fields=["partner", "digest"], name="affiliations_network_once"),
        ]

    def __str__(self) -> str:
        return f"{self.partner_id}: {self.digest:.8}"
