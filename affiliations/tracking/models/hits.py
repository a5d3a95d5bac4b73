"""Hits: what somebody did, each kept as it was told."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...models import Partner, Visitor
from .customers import Identity
from .properties import MAX_NAME, EventType, Property

MAX_URL = 4000
MAX_TITLE = 500
MAX_FIELD = 200
MAX_TRANSACTION_ID = 600
#: Bytes of JSON.
MAX_META = 4096


class Hit(models.Model):
    """One thing that somebody did, under the name by which they did it.

    No constraint of the database holds it to the rows that it names: to look five of them up for
    each hit takes longer than to write it. A partner or a visit may have been deleted since; an
    identity and a property take their hits along.

    On PostgreSQL the table is parted by the months of `happened_on`, in UTC. Hits that come through
    Redis have ids of their own, by which what is written twice is found.
    """

    class Type(models.TextChoices):
        PAGEVIEW = "pageview", _("page")
        SCREEN = "screen", _("screen")
        EVENT = "event", _("event")
        TRANSACTION = "transaction", _("transaction")
        ITEM = "item", _("item")
        SEGMENT = "segment", _("segment")

    property = models.ForeignKey(
        Property,
        models.CASCADE,
        verbose_name=_("property"),
        related_name="hits",
        db_constraint=False,
        db_index=False,
    )
    identity = models.ForeignKey(
        Identity,
        models.CASCADE,
        verbose_name=_("identity"),
        related_name="hits",
        db_constraint=False,
        db_index=False,
    )
    type = models.CharField(_("type"), max_length=11, choices=Type)
    happened_on = models.DateTimeField(_("happened on"))
    received_on = models.DateTimeField(_("received on"), default=timezone.now, editable=False)
    event_type = models.ForeignKey(
        EventType,
        models.DO_NOTHING,
        verbose_name=_("event type"),
        related_name="+",
        null=True,
        blank=True,
        db_constraint=False,
        db_index=False,
    )
    url = models.TextField(_("URL"), blank=True)
    referrer = models.TextField(_("referrer"), blank=True)
    title = models.CharField(_("title"), max_length=MAX_TITLE, blank=True)
    channel = models.CharField(
        _("channel"),
        max_length=20,
        blank=True,
        help_text=_("By which somebody was brought here; empty where nothing brought them."),
    )
    source = models.CharField(_("source"), max_length=MAX_FIELD, blank=True)
    medium = models.CharField(_("medium"), max_length=MAX_FIELD, blank=True)
    campaign = models.CharField(_("campaign"), max_length=MAX_FIELD, blank=True)
    term = models.CharField(_("term"), max_length=MAX_FIELD, blank=True)
    content = models.CharField(_("content"), max_length=MAX_FIELD, blank=True)
    click_ids = models.JSONField(_("click ids"), default=dict, blank=True)
    partner = models.ForeignKey(
        Partner,
        models.DO_NOTHING,
        verbose_name=_("partner"),
        related_name="+",
        null=True,
        blank=True,
        db_constraint=False,
        db_index=False,
    )
    visitor = models.ForeignKey(
        Visitor,
        models.DO_NOTHING,
        verbose_name=_("visitor"),
        related_name="+",
        null=True,
        blank=True,
        db_constraint=False,
        db_index=False,
    )
    link = models.CharField(
        _("link"), max_length=MAX_NAME, blank=True, help_text=_("The path of a short link.")
    )
    minor = models.BigIntegerField(_("value in minor units"), null=True, blank=True)
    currency = models.CharField(_("currency"), max_length=3, blank=True)
    transaction_id = models.CharField(
        _("transaction id"), max_length=MAX_TRANSACTION_ID, blank=True
    )
    is_informational = models.BooleanField(
        _("informational"), default=False, help_text=_("Counts for nothing.")
    )
    meta = models.JSONField(_("more"), default=dict, blank=True)

    class Meta:
        verbose_name = _("hit")
        verbose_name_plural = _("hits")
        indexes = [
            models.Index(fields=["identity", "happened_on"], name="affiliations_hit_identity"),
            models.Index(fields=["property", "happened_on"], name="affiliations_hit_property"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(minor=None, currency="")
                | models.Q(minor__isnull=False) & ~models.Q(currency=""),
                name="affiliations_hit_value_has_currency",
            )
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.pk}"


class HitKey(models.Model):
    """What must not be told twice: a digest of a property, an event and a transaction id.

    It is apart from the hits because a table in parts can hold nothing to be unique in all of them.
    """

    digest = models.UUIDField(primary_key=True)
    happened_on = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = _("key of a hit")
        verbose_name_plural = _("keys of hits")

    def __str__(self) -> str:
        return str(self.digest)


class Erased(models.Model):
    """A name, as a digest, whose hits are not to be written: those that were on their way then."""

    digest = models.UUIDField(primary_key=True)
    erased_on = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = _("erased name")
        verbose_name_plural = _("erased names")

    def __str__(self) -> str:
        return str(self.digest)
