"""Clicks that came through links, and the purchases that came of them."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ... import callbackurl
from ...fields import ExactCharField
from ...models import Callback, Conversion, Visitor
from ...money import Money
from .. import landing
from ..querysets import TransactionQuerySet
from .links import MAX_ITEM, Link, without_missing_indexes

MAX_ORDER = 200
#: Of each value that the network is given besides.
MAX_GIVEN = 200
MAX_IDENT = 64
MAX_NETWORK_ID = 255


class Transaction(models.Model):
    """One person's clicks through a link, and the purchase that came of them, if any did."""

    class State(models.TextChoices):
        OPEN = "open", _("open")
        FULFILLED = "fulfilled", _("fulfilled")
        COMPLETED = "completed", _("completed")
        REFUNDED = "refunded", _("refunded")

    # Of the foreign keys none has an index of its own: see Meta.
    link = models.ForeignKey(
        Link, models.PROTECT, verbose_name=_("link"), related_name="transactions", db_index=False
    )
    path = ExactCharField(_("path"), max_length=64)
    item_id = ExactCharField(_("item"), max_length=MAX_ITEM)
    ident = ExactCharField(
        _("browser"),
        max_length=MAX_IDENT,
        blank=True,
        default="",
        help_text=_("The anonymous id in this browser’s cookie, while nobody was logged in."),
    )
    user = models.ForeignKey(
        django_settings.AUTH_USER_MODEL,
        models.SET_NULL,
        verbose_name=_("user"),
        related_name="affiliate_transactions",
        null=True,
        blank=True,
        db_index=False,
    )
    state = models.CharField(_("state"), max_length=9, choices=State, default=State.OPEN)
    # Whose click through which link it is, while it is open: of these there is one only.
    open_key = ExactCharField(max_length=120, null=True, editable=False)
    clicks = models.PositiveIntegerField(_("clicks"), default=1)
    created_on = models.DateTimeField(_("first click on"), default=timezone.now)
    clicked_on = models.DateTimeField(_("last click on"), default=timezone.now)
    fulfilled_on = models.DateTimeField(_("fulfilled on"), null=True, blank=True)
    completed_on = models.DateTimeField(_("completed on"), null=True, blank=True)
    refunded_on = models.DateTimeField(_("refunded on"), null=True, blank=True)
    network_id = ExactCharField(
        _("network’s transaction"),
        max_length=MAX_NETWORK_ID,
        blank=True,
        default="",
        help_text=_("The network’s own id of this click."),
    )
    query = models.JSONField(
        _("query"), default=dict, blank=True, help_text=_("What the last click’s address held.")
    )
    landing_page = models.CharField(
        _("landing page"), max_length=landing.MAX_LENGTH, blank=True, default=""
    )
    visitor = models.ForeignKey(
        Visitor,
        models.SET_NULL,
        verbose_name=_("visitor"),
        related_name="transactions",
        null=True,
        blank=True,
        db_index=False,
    )
    amount_minor = models.BigIntegerField(_("amount in minor units"), null=True, blank=True)
    currency = models.CharField(_("currency"), max_length=3, blank=True, default="")
    order_id = ExactCharField(_("order"), max_length=MAX_ORDER, blank=True, default="")
    callback_url = models.CharField(
        _("callback URL"),
        max_length=callbackurl.MAX_LENGTH,
        blank=True,
        default="",
        help_text=_("The link’s, as it was when the purchase was completed."),
    )
    given = models.JSONField(
        _("given"),
        default=dict,
        blank=True,
        help_text=_("What whoever reported the purchase gave for the network besides."),
    )
    # Digests: each order of an item, and each key of a caller's, completes once. NULL where there
    # is none, of which there may be many.
    order_key = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001
    request_key = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001
    conversion = models.ForeignKey(
        Conversion,
        models.SET_NULL,
        verbose_name=_("conversion"),
        related_name="transactions",
        null=True,
        blank=True,
        db_index=False,
    )
    relay = models.ForeignKey(
        Callback,
        models.SET_NULL,
        verbose_name=_("relay"),
        related_name="relayed_transactions",
        null=True,
        blank=True,
        db_index=False,
        help_text=_("The call that tells the network of the purchase."),
    )
    adjustment = models.ForeignKey(
        Callback,
        models.SET_NULL,
        verbose_name=_("adjustment"),
        related_name="adjusted_transactions",
        null=True,
        blank=True,
        db_index=False,
        help_text=_("The call that takes it back after a refund."),
    )
    # What is to be mailed, until it was.
    alert_due = models.BooleanField(default=False, editable=False)

    objects = TransactionQuerySet.as_manager()

    class Meta:
        verbose_name = _("transaction")
        verbose_name_plural = _("transactions")
        # A click writes into every index that takes its row: most of what it costs. What a click
        # leaves empty is in partial ones. MariaDB has none: it makes its own for foreign keys.
        indexes = [
            models.Index(fields=["ident", "state"], name="affiliations_trans_ident"),
            # Without the time of the last click, so that another one changes no index at all.
            models.Index(
                fields=["user", "item_id", "state"],
                name="affiliations_trans_user",
                condition=models.Q(user__isnull=False),
            ),
            models.Index(fields=["link", "created_on"], name="affiliations_trans_link"),
            models.Index(
                fields=["link", "completed_on"],
                name="affiliations_trans_sold",
                condition=models.Q(completed_on__isnull=False),
            ),
            models.Index(fields=["created_on"], name="affiliations_trans_when"),
            *(
                models.Index(
                    fields=[name],
                    name=f"affiliations_trans_{name}",
                    condition=models.Q((f"{name}__isnull", False)),
                )
                for name in ("visitor", "conversion", "relay", "adjustment")
            ),
        ]
        constraints = [
            # Not `unique` fields: PostgreSQL would get a second index of each, for LIKE.
            *(
                models.UniqueConstraint(fields=[f"{name}_key"], name=f"affiliations_trans_{name}")
                for name in ("open", "order", "request")
            ),
            models.CheckConstraint(
                condition=models.Q(state="open", open_key__isnull=False)
                | (~models.Q(state="open") & models.Q(open_key=None)),
                name="affiliations_trans_state",
            ),
            models.CheckConstraint(
                condition=models.Q(amount_minor=None, currency="")
                | (models.Q(amount_minor__gt=0) & ~models.Q(currency="")),
                name="affiliations_trans_money",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=("completed", "refunded"), amount_minor__isnull=False)
                | models.Q(state__in=("open", "fulfilled"), amount_minor=None),
                name="affiliations_trans_paid",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.path} #{self.pk}"

    @classmethod
    def check(cls, **kwargs: Any) -> list[Any]:
        """Check as usual; that MariaDB goes without the partial indexes is meant."""
        return without_missing_indexes(super().check(**kwargs))

    @property
    def money(self) -> Money | None:
        """What was paid, or None while nothing was."""
        return None if self.amount_minor is None else Money(self.amount_minor, self.currency)

    @property
    def is_fulfilled(self) -> bool:
        """Tell whether nothing more can come of it."""
        return self.state != self.State.OPEN
