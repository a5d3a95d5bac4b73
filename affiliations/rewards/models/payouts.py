"""What is paid out: to whom, of which entries, and what became of it."""

from __future__ import annotations

import base64
import uuid

from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...fields import ExactCharField
from ...money import Money
from .ledger import Account, Entry

MAX_REASON = 300
MAX_REFERENCE = 200
MAX_NAME = 200


class Method(models.TextChoices):
    """Who carries money to whom it is paid."""

    PAYPAL = "paypal", "PayPal"
    WISE = "wise", "Wise"


class PayoutDestination(models.Model):
    """Where the holder of accounts is paid."""

    holder = ExactCharField(
        _("holder"), max_length=100, unique=True, help_text=_("As the accounts name them.")
    )
    method = models.CharField(_("method"), max_length=10, choices=Method)
    name = models.CharField(
        _("name"),
        max_length=MAX_NAME,
        help_text=_("As their bank has it."),
        # In a file for a spreadsheet it would be quoted, and then be another name than the bank's.
        validators=[
            RegexValidator(
                r"^['\s]*[=+\-@＝＋－＠]",
                _("Must not begin with =, +, - or @."),
                inverse_match=True,
            ),
            RegexValidator(
                r"[\x00-\x1f\x7f-\x9f\u2028\u2029]",
                _("Must not hold line breaks or control characters."),
                inverse_match=True,
            ),
        ],
    )
    # In a file for a spreadsheet it would be quoted, and then be another address.
    email = models.EmailField(
        _("recipient’s e-mail address"),
        validators=[RegexValidator("^[A-Za-z0-9]", _("Must begin with a letter or a digit."))],
    )

    class Meta:
        verbose_name = _("destination of payouts")
        verbose_name_plural = _("destinations of payouts")

    def __str__(self) -> str:
        return f"{self.holder}: {self.get_method_display()}"


class PayoutBatch(models.Model):
    """Payouts that were made together."""

    currency = models.CharField(_("currency"), max_length=3)
    until = models.DateTimeField(
        _("until"), help_text=_("What became available after this is left for the next one.")
    )
    created_on = models.DateTimeField(_("created on"), default=timezone.now)

    class Meta:
        verbose_name = _("payout batch")
        verbose_name_plural = _("payout batches")

    def __str__(self) -> str:
        return f"{self.created_on:%Y-%m-%d} {self.currency} #{self.pk}"


class Payout(models.Model):
    """What one account's holder is paid at once."""

    class State(models.TextChoices):
        DRAFT = "draft", _("draft")
        APPROVED = "approved", _("approved")
        SENT = "sent", _("sent")
        PAID = "paid", _("paid")
        FAILED = "failed", _("failed")
        RETURNED = "returned", _("came back")

    #: Of these the entries were given back: what is owed is owed again.
    GAVE_BACK = (State.FAILED, State.RETURNED)

    uid = models.UUIDField(
        _("number"),
        unique=True,
        default=uuid.uuid4,
        editable=False,
        help_text=_("Names it to whoever pays it out, so that it is paid once."),
    )
    # Its index is the constraint's.
    batch = models.ForeignKey(
        PayoutBatch,
        models.PROTECT,
        verbose_name=_("batch"),
        related_name="payouts",
        db_index=False,
    )
    account = models.ForeignKey(
        Account, models.PROTECT, verbose_name=_("account"), related_name="payouts"
    )
    minor = models.BigIntegerField(_("amount in minor units"))
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.DRAFT)
    created_on = models.DateTimeField(_("created on"), default=timezone.now)
    approved_on = models.DateTimeField(_("approved on"), null=True, blank=True)
    sent_on = models.DateTimeField(_("sent on"), null=True, blank=True)
    settled_on = models.DateTimeField(_("settled on"), null=True, blank=True)
    returned_on = models.DateTimeField(_("came back on"), null=True, blank=True)
    # The destination as it was when this was sent: no other file ever has it too.
    method = models.CharField(
        _("method"), max_length=10, choices=Method, blank=True, default="", editable=False
    )
    name = models.CharField(
        _("recipient’s name"), max_length=MAX_NAME, blank=True, default="", editable=False
    )
    email = models.EmailField(
        _("recipient’s e-mail address"), blank=True, default="", editable=False
    )
    provider_reference = ExactCharField(
        _("provider’s reference"), max_length=MAX_REFERENCE, blank=True, default=""
    )
    reason = models.CharField(
        _("why it failed, or came back"), max_length=MAX_REASON, blank=True, default=""
    )

    class Meta:
        verbose_name = _("payout")
        verbose_name_plural = _("payouts")
        indexes = [
            models.Index(fields=["state", "created_on"], name="affiliations_payout_state"),
            models.Index(fields=["created_on"], name="affiliations_payout_when"),
        ]
        constraints = [
            # By it the claims find their payout, also while the database has no statistics yet.
            models.UniqueConstraint(fields=["batch", "account"], name="affiliations_payout_once"),
            models.CheckConstraint(
                condition=models.Q(minor__gt=0), name="affiliations_payout_pays"
            ),
            models.CheckConstraint(
                condition=models.Q(
                    state__in=("paid", "failed"), settled_on__isnull=False, returned_on=None
                )
                | models.Q(state="returned", settled_on__isnull=False, returned_on__isnull=False)
                | models.Q(
                    state__in=("draft", "approved", "sent"), settled_on=None, returned_on=None
                ),
                name="affiliations_payout_settled",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account.partner or self.account.holder}: {self.money}"

    @property
    def money(self) -> Money:
        """What is paid."""
        return Money(self.minor, self.account.currency)

    @property
    def reference(self) -> str:
        """The number in 26 letters and digits: PayPal takes no more than 30."""
        return base64.b32encode(self.uid.bytes).decode().rstrip("=")

    @staticmethod
    def uid_of(reference: str) -> uuid.UUID | None:
        """Return the number that a reference stands for, or None where it is none."""
        try:
            return uuid.UUID(bytes=base64.b32decode(f"{reference}======"))
        except ValueError:
            return None


class PayoutEntry(models.Model):
    """An entry that is in a payout."""

    payout = models.ForeignKey(
        Payout, models.PROTECT, verbose_name=_("payout"), related_name="items"
    )
    entry = models.ForeignKey(
        Entry, models.PROTECT, verbose_name=_("entry"), related_name="payout_items"
    )
    # The entry, unless the payout gave it back: each is in one that did not at most.
    claimed = models.BigIntegerField(null=True, editable=False)

    class Meta:
        verbose_name = _("entry of a payout")
        verbose_name_plural = _("entries of payouts")
        constraints = [
            models.UniqueConstraint(fields=["claimed"], name="affiliations_payout_claims_once"),
            models.CheckConstraint(
                condition=models.Q(claimed=None) | models.Q(claimed=models.F("entry")),
                name="affiliations_payout_claims_its_own",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.payout_id}: {self.entry_id}"
