"""Indications: people whom members would bring, known by their e-mail addresses alone."""

from __future__ import annotations

import secrets

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...fields import ExactCharField
from .members import Member
from .programs import Program

MAX_EMAIL = 254
MAX_LINK = 500
MAX_DIGEST = 64
MAX_FINGERPRINT = 8


def make_token() -> str:
    """Return what nobody guesses, for the link in a mail by which no more of them come."""
    return secrets.token_urlsafe(24)


class EmailIndication(models.Model):
    """An address that a member has named: in each program whoever was first has indicated it."""

    # Its index is the constraint's.
    program = models.ForeignKey(
        Program,
        models.PROTECT,
        verbose_name=_("program"),
        related_name="email_indications",
        db_index=False,
    )
    indicator = models.ForeignKey(
        Member,
        models.PROTECT,
        verbose_name=_("indicator"),
        related_name="email_indications",
        db_index=False,
    )
    # In small letters, or "erased:" and a number.
    email = ExactCharField(_("e-mail address"), max_length=MAX_EMAIL)
    member = models.OneToOneField(
        Member,
        models.SET_NULL,
        verbose_name=_("member"),
        related_name="email_indication",
        null=True,
        blank=True,
        help_text=_("Who has registered with this address."),
    )
    token = ExactCharField(max_length=40, unique=True, default=make_token, editable=False)
    # The share link as it is mailed. Without one nobody is written to.
    link = models.CharField(_("link"), max_length=MAX_LINK, blank=True, default="")
    language = models.CharField(max_length=20, blank=True, default="", editable=False)
    mail_due = models.BooleanField(_("is to be written to"), default=False, editable=False)
    mailed_on = models.DateTimeField(_("written to on"), null=True, blank=True)
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)
    # None once somebody has registered with the address, or it was erased.
    waiting_since = models.DateTimeField(
        _("waiting since"), default=timezone.now, null=True, editable=False
    )

    class Meta:
        verbose_name = _("indication by e-mail")
        verbose_name_plural = _("indications by e-mail")
        indexes = [
            models.Index(fields=["indicator", "created_on"], name="affiliations_indication_whose"),
            models.Index(fields=["email"], name="affiliations_indication_email"),
            models.Index(fields=["mail_due", "id"], name="affiliations_indication_due"),
            models.Index(fields=["waiting_since", "id"], name="affiliations_indication_old"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["program", "email"], name="affiliations_indication_once"
            ),
        ]

    def __str__(self) -> str:
        return str(self.email)

    @property
    def is_erased(self) -> bool:
        """Tell whether nobody knows any more which address it was."""
        return "@" not in self.email


class MailRefusal(models.Model):
    """An address that wants no invitations, whoever sends them; kept as a digest only.

    By a key of the site's: a plain digest of an address is found by trying addresses.
    """

    digest = models.CharField(max_length=MAX_DIGEST, primary_key=True)
    # By which of the site's keys.
    fingerprint = models.CharField(max_length=MAX_FINGERPRINT, default="", editable=False)
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("refusal of mails")
        verbose_name_plural = _("refusals of mails")

    def __str__(self) -> str:
        return str(self.digest)
