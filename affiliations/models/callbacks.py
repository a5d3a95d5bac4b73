"""The outbox: calls that must arrive, and what became of each attempt."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..querysets import CallbackQuerySet
from ..signing import new_webhook_id
from .conversions import Conversion
from .partners import Partner, Subscription

MAX_REASON = 500


class Callback(models.Model):
    """One outgoing HTTP call; its id, address and body stay the same at every attempt."""

    class State(models.TextChoices):
        PENDING = "pending", _("waiting")
        DELIVERED = "delivered", _("delivered")
        DEAD = "dead", _("given up")
        CANCELED = "canceled", _("canceled")

    class Method(models.TextChoices):
        GET = "GET"
        POST = "POST"

    webhook_id = models.CharField(
        _("id"), max_length=40, unique=True, default=new_webhook_id, editable=False
    )
    partner = models.ForeignKey(
        Partner, models.CASCADE, verbose_name=_("partner"), related_name="callbacks"
    )
    subscription = models.ForeignKey(
        Subscription,
        models.SET_NULL,
        verbose_name=_("subscription"),
        related_name="callbacks",
        null=True,
        blank=True,
    )
    conversion = models.ForeignKey(
        Conversion,
        models.CASCADE,
        verbose_name=_("conversion"),
        related_name="callbacks",
        null=True,
        blank=True,
    )
    method = models.CharField(_("method"), max_length=4, choices=Method, default=Method.GET)
    url = models.TextField(_("address"))
    body = models.TextField(_("body"), blank=True, default="")
    state = models.CharField(_("state"), max_length=9, choices=State, default=State.PENDING)
    due = models.DateTimeField(
        _("next attempt"),
        default=timezone.now,
        null=True,
        blank=True,
        help_text=_("While an attempt is under way: when it is taken to have failed."),
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    attempts_before = models.PositiveIntegerField(
        default=0,
        editable=False,
        help_text=_("How many there had been when it was last sent again by hand."),
    )
    # Whoever claimed the row last holds its token; only that one may record the outcome.
    token = models.UUIDField(null=True, blank=True, editable=False)
    reason = models.CharField(_("reason"), max_length=MAX_REASON, blank=True, default="")
    created_on = models.DateTimeField(_("created on"), default=timezone.now)
    settled_on = models.DateTimeField(_("settled on"), null=True, blank=True)

    objects = CallbackQuerySet.as_manager()

    class Meta:
        verbose_name = _("callback")
        verbose_name_plural = _("callbacks")
        indexes = [
            models.Index(fields=["state", "due"], name="affiliations_callback_due"),
            models.Index(fields=["partner", "created_on"], name="affiliations_callback_whose"),
            models.Index(fields=["token"], name="affiliations_callback_token"),
        ]

    def __str__(self) -> str:
        return self.webhook_id


class CallbackAttempt(models.Model):
    """One try to deliver a callback: when, how long, and with what answer."""

    callback = models.ForeignKey(
        Callback, models.CASCADE, verbose_name=_("callback"), related_name="attempt_log"
    )
    number = models.PositiveIntegerField(_("number"))
    started_on = models.DateTimeField(_("started on"))
    duration_ms = models.PositiveIntegerField(_("duration in ms"))
    status = models.PositiveSmallIntegerField(_("status"), null=True, blank=True)
    error = models.CharField(_("error"), max_length=MAX_REASON, blank=True, default="")

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ("number",)
        constraints = [
            models.UniqueConstraint(fields=["callback", "number"], name="affiliations_attempt_once")
        ]

    def __str__(self) -> str:
        return str(self.number)
