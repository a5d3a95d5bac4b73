"""Campaigns: an experiment, its audiences, and what each of these may get to see."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.utils.translation import gettext_lazy as _

from ...exceptions import AffiliationsError
from ...fields import ExactCharField
from ...tracking.models import Property
from .. import modifications, targeting
from ..allocation import shares
from ..hashing import BUCKETS

UID_LENGTH = 20
MAX_NAME = 200
MAX_SLUG = 64

_is_slug = RegexValidator(r"^[A-Za-z0-9_-]+\Z", _("Only letters, digits, - and _ of ASCII."))


def make_uid() -> str:
    """Return a new id, as long as Flagship's own."""
    return get_random_string(UID_LENGTH, "abcdefghijklmnopqrstuvwxyz0123456789")


def everybody() -> list[list[dict[str, Any]]]:
    """Return the targeting by which everybody is meant."""
    return [[{"key": targeting.ALL_USERS, "operator": "EQUALS", "value": ""}]]


def is_targeting(value: Any) -> None:
    """Refuse what is no targeting, saying where."""
    _validated(targeting.read, value)


def are_modifications(value: str) -> None:
    """Refuse what is no JSON object of flags, saying where."""
    _validated(modifications.read, value)


def _validated(read: Any, value: Any) -> None:
    try:
        read(value)
    except AffiliationsError as error:
        raise ValidationError(str(error).partition(": ")[2]) from None


def _uid() -> Any:
    return ExactCharField(
        _("id"), max_length=UID_LENGTH, unique=True, default=make_uid, editable=False
    )


class Environment(models.Model):
    """What holds for all campaigns of a property, and when any of it has changed."""

    property = models.OneToOneField(
        Property, models.CASCADE, verbose_name=_("property"), related_name="environment"
    )
    panic = models.BooleanField(
        _("panic"),
        default=False,
        help_text=_("Nobody sees any variation, wherever they are decided on, until it is over."),
    )
    # Whether somebody's variation was carried over to another of their names: from then on it has
    # to be looked up what they had.
    keeps = models.BooleanField(default=False, editable=False)
    # When it was changed, and what clients are told of it: in whole seconds, each change another.
    changed_on = models.DateTimeField(default=timezone.now, editable=False)
    stamp = models.BigIntegerField(default=0, editable=False)

    class Meta:
        verbose_name = _("environment")
        verbose_name_plural = _("environments")

    def __str__(self) -> str:
        return str(self.property)


class Exclusion(models.Model):
    """Campaigns of which nobody takes part in more than one."""

    property = models.ForeignKey(
        Property, models.CASCADE, verbose_name=_("property"), related_name="exclusions"
    )
    uid = _uid()
    name = models.CharField(_("name"), max_length=MAX_NAME)
    # Whose each of a hundred buckets is: a campaign's uid, or nobody's.
    runs = models.JSONField(default=list, editable=False)

    class Meta:
        verbose_name = _("exclusion group")
        verbose_name_plural = _("exclusion groups")

    def __str__(self) -> str:
        return str(self.name)

    def left(self) -> int:
        """Return how many percent of the visitors are no campaign's."""
        return BUCKETS - sum(shares(self.runs).values())


class Campaign(models.Model):
    """An experiment, or whatever else is shown to some and not to others."""

    class Type(models.TextChoices):
        AB = "ab", _("A/B test")
        TOGGLE = "toggle", _("feature toggle")
        PERSO = "perso", _("personalisation")
        DEPLOYMENT = "deployment", _("progressive deployment")
        CUSTOM = "custom", _("custom")

    class State(models.TextChoices):
        DRAFT = "draft", _("draft")
        LIVE = "live", _("live")
        PAUSED = "paused", _("paused")
        ARCHIVED = "archived", _("archived")

    property = models.ForeignKey(
        Property, models.CASCADE, verbose_name=_("property"), related_name="campaigns"
    )
    uid = _uid()
    slug = ExactCharField(
        _("slug"),
        max_length=MAX_SLUG,
        validators=[_is_slug],
        help_text=_("What programs and pages call it by, such as checkout-button."),
    )
    name = models.CharField(_("name"), max_length=MAX_NAME)
    type = models.CharField(_("type"), max_length=10, choices=Type, default=Type.AB)
    state = models.CharField(
        _("state"), max_length=8, choices=State, default=State.DRAFT, editable=False
    )
    starts_on = models.DateTimeField(
        _("starts on"), null=True, blank=True, help_text=_("Empty: as soon as it is live.")
    )
    ends_on = models.DateTimeField(
        _("ends on"), null=True, blank=True, help_text=_("Empty: when it is paused.")
    )
    exclusion = models.ForeignKey(
        Exclusion,
        models.PROTECT,
        verbose_name=_("exclusion group"),
        related_name="campaigns",
        null=True,
        blank=True,
        help_text=_("Nobody takes part in two campaigns of one group."),
    )
    exclusion_share = models.PositiveSmallIntegerField(
        _("share of the exclusion group"),
        default=50,
        validators=[MinValueValidator(1), MaxValueValidator(BUCKETS)],
        help_text=_("In percent of all visitors: how many take part in this campaign at most."),
    )
    current = models.ForeignKey(
        "CampaignVersion",
        models.SET_NULL,
        related_name="+",
        null=True,
        editable=False,
        verbose_name=_("version"),
    )
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("campaign")
        verbose_name_plural = _("campaigns")
        constraints = [
            models.UniqueConstraint(
                fields=["property", "slug"], name="affiliations_campaign_slug_once"
            ),
        ]

    def __str__(self) -> str:
        return str(self.name)

    def clean(self) -> None:
        """Hold its fields against each other; raises ValidationError."""
        if self.starts_on and self.ends_on and self.starts_on >= self.ends_on:
            raise ValidationError({"ends_on": _("Must be later than the beginning.")})
        if self.exclusion is not None and self.exclusion.property_id != self.property_id:
            raise ValidationError({"exclusion": _("Is another property’s.")})


class VariationGroup(models.Model):
    """An audience of a campaign; who is meant by several belongs to the first."""

    campaign = models.ForeignKey(
        Campaign, models.CASCADE, verbose_name=_("campaign"), related_name="groups"
    )
    uid = _uid()
    name = models.CharField(_("name"), max_length=MAX_NAME)
    position = models.PositiveSmallIntegerField(
        _("position"), default=0, help_text=_("The group with the lowest is asked first.")
    )
    targeting = models.JSONField(_("targeting"), default=everybody, validators=[is_targeting])

    class Meta:
        verbose_name = _("variation group")
        verbose_name_plural = _("variation groups")
        ordering = ("position", "pk")

    def __str__(self) -> str:
        return str(self.name)


class Variation(models.Model):
    """One of the things that an audience may get to see."""

    class Kind(models.TextChoices):
        FLAG = "FLAG", _("flags")
        JSON = "JSON", _("JSON")
        TEXT = "TEXT", _("text")
        IMAGE = "IMAGE", _("image")
        HTML = "HTML", _("HTML")
        REDIRECT = "REDIRECT", _("redirect")

    group = models.ForeignKey(
        VariationGroup,
        models.CASCADE,
        verbose_name=_("variation group"),
        related_name="variations",
    )
    uid = _uid()
    name = models.CharField(_("name"), max_length=MAX_NAME)
    position = models.PositiveSmallIntegerField(_("position"), default=0)
    allocation = models.PositiveSmallIntegerField(
        _("share"),
        default=50,
        validators=[MaxValueValidator(BUCKETS)],
        help_text=_("In percent of the audience. Whoever is left over sees nothing of it."),
    )
    is_reference = models.BooleanField(
        _("reference"),
        default=False,
        help_text=_("What there was before, that the others are measured against."),
    )
    kind = models.CharField(_("kind"), max_length=8, choices=Kind, default=Kind.FLAG)
    # Text, not a JSON column: databases write numbers anew, and 1.5e3 would become a whole one.
    modifications = models.TextField(
        _("modifications"),
        default="{}",
        validators=[are_modifications],
        help_text=_('A JSON object of flags and their values, such as {"button-color": "red"}.'),
    )
    retired = models.BooleanField(
        _("retired"),
        default=False,
        help_text=_("Nobody sees it any more, whoever has seen it before included."),
    )

    class Meta:
        verbose_name = _("variation")
        verbose_name_plural = _("variations")
        ordering = ("position", "pk")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(allocation__lte=BUCKETS), name="affiliations_variation_share"
            ),
        ]

    def __str__(self) -> str:
        return str(self.name)


class CampaignVersion(models.Model):
    """How a campaign was, from a moment on until the next version; never changed.

    `rules` is JSON, for `rules.of_version` to read::

        {"pk", "id", "slug", "name", "type",
         "exclusion": null or {"id", "buckets": [of 0 to 99], "has_moved": bool},
         "groups": [{"pk", "id", "name", "targeting": [[{"key", "operator", "value"}]],
                     "runs": [[variation id or null, buckets]], "has_moved": bool,
                     "variations": [{"pk", "id", "name", "reference", "type",
                                     "value": {flag: value}}]}]}

    `pk` is of the rows, `id` what clients know; how many buckets each variation has, and whose they
    are, is in `runs`; `has_moved` says whether one has had another owner before. A group of which
    all variations are retired is left out.
    """

    campaign = models.ForeignKey(
        Campaign, models.CASCADE, verbose_name=_("campaign"), related_name="versions"
    )
    number = models.PositiveIntegerField(_("number"))
    rules = models.TextField(_("rules"))
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)
    created_by = models.ForeignKey(
        django_settings.AUTH_USER_MODEL,
        models.SET_NULL,
        verbose_name=_("created by"),
        related_name="+",
        null=True,
        blank=True,
    )

    class Meta:
        verbose_name = _("version")
        verbose_name_plural = _("versions")
        constraints = [
            models.UniqueConstraint(
                fields=["campaign", "number"], name="affiliations_campaign_version_once"
            ),
        ]

    def __str__(self) -> str:
        return str(self.number)
