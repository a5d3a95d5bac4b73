"""Assignments: what each visitor sees of each audience that they belong to."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...models import Partner
from ...tracking.models import Identity
from .campaigns import Campaign, Variation, VariationGroup


class Assignment(models.Model):
    """The variation that somebody sees, because they have seen it or were told so.

    Who would be given the same again by their bucket has none until they have seen it. Nothing in
    the database holds it to the name and the partner: both may be deleted at any time, the name
    taking its assignments along.
    """

    identity = models.ForeignKey(
        Identity,
        models.CASCADE,
        verbose_name=_("identity"),
        related_name="assignments",
        db_constraint=False,
        db_index=False,
    )
    campaign = models.ForeignKey(
        Campaign,
        models.CASCADE,
        verbose_name=_("campaign"),
        related_name="assignments",
        db_index=False,
    )
    group = models.ForeignKey(
        VariationGroup,
        models.RESTRICT,
        verbose_name=_("variation group"),
        related_name="assignments",
    )
    variation = models.ForeignKey(
        Variation,
        models.RESTRICT,
        verbose_name=_("variation"),
        related_name="assignments",
        db_index=False,
    )
    version = models.PositiveIntegerField(
        _("version"), help_text=_("Of the campaign, by which it was decided.")
    )
    assigned_on = models.DateTimeField(_("assigned on"), default=timezone.now, editable=False)
    exposed_on = models.DateTimeField(
        _("seen on"), null=True, blank=True, help_text=_("For the first time.")
    )
    is_mixed = models.BooleanField(
        _("mixed"),
        default=False,
        help_text=_("Has seen another variation, too, so that it cannot be told what came of it."),
    )
    partner = models.ForeignKey(
        Partner,
        models.DO_NOTHING,
        verbose_name=_("partner"),
        related_name="+",
        null=True,
        blank=True,
        db_constraint=False,
        db_index=False,
        help_text=_("Who had sent them when they first saw it."),
    )

    class Meta:
        verbose_name = _("assignment")
        verbose_name_plural = _("assignments")
        indexes = [
            models.Index(fields=["campaign", "exposed_on"], name="affiliations_assign_campaign"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["identity", "group"], name="affiliations_assignment_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.identity_id} {self.variation_id}"
