"""The outbox: calls that must arrive, and what became of each attempt."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..callbackurl import MAX_HOST
from ..querysets import CallbackQuerySet
from ..signing import new_webhook_id
from .conversions import Conversion
from .partners import MAX_EXPECTED, Method, Partner, Subscription

MAX_REASON = 500
#: Bytes of a partner's answer that are kept.
MAX_ANSWER = 1024


class Destination(models.Model):
    """A host that is called, and how it does: by it is decided what it may cost the others.

    Written when a subscription is saved, so that whoever looks for work goes through the hosts, of
    which there are few, and not through what waits for them.
    """

    host = models.CharField(_("host"), max_length=MAX_HOST, primary_key=True)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    failing_since = models.DateTimeField(_("failing since"), null=True, blank=True)
    paused_until = models.DateTimeField(_("paused until"), null=True, blank=True)
    # Counts claims where the database has no locks to skip: of two at once, one finds it changed.
    turn = models.PositiveBigIntegerField(default=0, editable=False)

    class Meta:
        verbose_name = _("host")
        verbose_name_plural = _("hosts")
        ordering = ("host",)

    def __str__(self) -> str:
        return self.host


class Callback(models.Model):
    """One outgoing HTTP call; its id, address and body stay the same at every attempt."""

    class State(models.TextChoices):
        PENDING = "pending", _("waiting")
        PARKED = "parked", _("parked")
        DELIVERED = "delivered", _("delivered")
        REFUSED = "refused", _("refused")
        DEAD = "dead", _("given up")
        CANCELED = "canceled", _("canceled")

    Method = Method

    webhook_id = models.CharField(
        _("id"), max_length=40, unique=True, default=new_webhook_id, editable=False
    )
    partner = models.ForeignKey(
        Partner,
        models.CASCADE,
        verbose_name=_("partner"),
        related_name="callbacks",
        null=True,
        blank=True,
        help_text=_("On whose behalf it is made, and who can verify its signature."),
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
    host = models.CharField(_("host"), max_length=MAX_HOST, blank=True, default="")
    body = models.TextField(_("body"), blank=True, default="")
    expects = models.CharField(
        _("answer must contain"), max_length=MAX_EXPECTED, blank=True, default=""
    )
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
    # What it tells is not so any more, or not to be told: nobody sends it again.
    withdrawn = models.BooleanField(default=False, editable=False)
    resent_on = models.DateTimeField(_("sent again on"), null=True, blank=True)

    objects = CallbackQuerySet.as_manager()
    #: What its claim knew of its host; nobody need look up a host that does well.
    host_was_failing = True
    #: Whether its claim suspects it to be what its workers die of.
    alone = False

    class Meta:
        verbose_name = _("callback")
        verbose_name_plural = _("callbacks")
        indexes = [
            # Leads with the state: what waits is few rows among many. MariaDB has no partial index.
            models.Index(fields=["state", "host", "due"], name="affiliations_callback_next"),
            models.Index(fields=["partner", "created_on"], name="affiliations_callback_whose"),
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
    answer = models.TextField(_("answer"), blank=True, default="")
    # Set only where there is one, so that its index leads to nothing else.
    answer_until = models.DateTimeField(_("answer kept until"), null=True, blank=True)

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ("number",)
        constraints = [
            models.UniqueConstraint(fields=["callback", "number"], name="affiliations_attempt_once")
        ]
        indexes = [
            models.Index(fields=["started_on"], name="affiliations_attempt_when"),
            models.Index(fields=["answer_until"], name="affiliations_attempt_until"),
        ]

    def __str__(self) -> str:
        return str(self.number)
