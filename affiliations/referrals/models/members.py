"""Members: users who may bring others, and whom others have brought."""

from __future__ import annotations

import secrets
from typing import Any

from django.conf import settings as django_settings
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...fields import ExactCharField
from ...money import Money
from .programs import Program

MAX_HASH = 200
MAX_CODE = 32
#: What can be told apart by eye and by ear.
ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
#: Of 31 characters each: 59 bits, so that nobody finds one by trying.
CODE_LENGTH = 12


def make_code() -> str:
    """Return a new share code."""
    return "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))


class Member(models.Model):
    """Somebody in a program, and who brought them, if anybody did."""

    user_hash = ExactCharField(
        _("hash"),
        max_length=MAX_HASH,
        unique=True,
        validators=[RegexValidator(r"^[!-~]+\Z", _("Must be visible characters of ASCII."))],
        help_text=_("How the billing system knows them."),
    )
    user = models.OneToOneField(
        django_settings.AUTH_USER_MODEL,
        models.SET_NULL,
        verbose_name=_("user"),
        related_name="affiliate_member",
        null=True,
        blank=True,
    )
    program = models.ForeignKey(
        Program, models.PROTECT, verbose_name=_("program"), related_name="members"
    )
    indicator = models.ForeignKey(
        "self",
        models.PROTECT,
        verbose_name=_("indicator"),
        related_name="indicated",
        null=True,
        blank=True,
        db_index=False,
        help_text=_("Who brought them."),
    )
    code = ExactCharField(
        _("share code"), max_length=MAX_CODE, unique=True, default=make_code, editable=False
    )
    # The program's, as they were: what was promised then is kept. 0 where a limit was reached.
    currency = models.CharField(_("currency"), max_length=3, editable=False)
    credit_minor = models.BigIntegerField(default=0, editable=False)
    target_minor = models.BigIntegerField(default=0, editable=False)
    reward_minor = models.BigIntegerField(default=0, editable=False)
    depth = models.PositiveSmallIntegerField(default=1, editable=False)
    paid_minor = models.BigIntegerField(_("has paid, in minor units"), default=0, editable=False)
    # Where the billing system reports a running total, that is what counts.
    reported_on = models.DateTimeField(_("total reported on"), null=True, editable=False)
    acquired_on = models.DateTimeField(_("has reached the target on"), null=True, editable=False)
    #: How often that was so: it may be lost by a refund, and reached again.
    turn = models.PositiveIntegerField(default=0, editable=False)
    registered_on = models.DateTimeField(_("registered on"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("member")
        verbose_name_plural = _("members")
        indexes = [
            models.Index(fields=["indicator", "id"], name="affiliations_member_whose"),
            models.Index(fields=["program", "registered_on"], name="affiliations_member_when"),
        ]

    def __str__(self) -> str:
        return str(self.user_hash)

    @property
    def holder(self) -> str:
        """What the ledger calls the holder of their credits."""
        return f"member:{self.pk}"

    @property
    def generates_credit(self) -> bool:
        """Tell whether whoever brought them may still be credited for it."""
        return self.indicator_id is not None and self.acquired_on is None and self.reward_minor > 0

    @property
    def credit(self) -> Money:
        """What they received at sign-up."""
        return Money(self.credit_minor, self.currency)

    @property
    def target(self) -> Money:
        """What they must have paid before whoever brought them is credited."""
        return Money(self.target_minor, self.currency)

    @property
    def reward(self) -> Money:
        """What whoever brought them receives then."""
        return Money(self.reward_minor, self.currency)

    @property
    def paid(self) -> Money:
        """What they have paid, as far as it was reported."""
        return Money(self.paid_minor, self.currency)

    def promise(self, program: Program) -> None:
        """Take over what a program promises now."""
        fields: dict[str, Any] = {
            "currency": program.currency,
            "credit_minor": program.credit_minor,
            "target_minor": program.target_minor,
            "reward_minor": program.reward.minor,
            "depth": program.depth,
        }
        for name, value in fields.items():
            setattr(self, name, value)
