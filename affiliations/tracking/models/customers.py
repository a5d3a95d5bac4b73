"""Customers: people, and the names that they go by."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...fields import ExactCharField
from .properties import Property

MAX_VALUE = 500


class Customer(models.Model):
    """A person: all the identities that turned out to be one.

    What they did belongs to their identities. So two customers become one by a change of identities
    alone, however much either has done.
    """

    property = models.ForeignKey(
        Property, models.CASCADE, verbose_name=_("property"), related_name="customers"
    )
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("customer")
        verbose_name_plural = _("customers")

    def __str__(self) -> str:
        return str(self.pk)


class Identity(models.Model):
    """A name that somebody goes by: in a property it is one customer's."""

    class Kind(models.TextChoices):
        COOKIE = "cookie", _("cookie")
        CLIENT = "client", _("client id")
        EMAIL = "email", _("e-mail address")
        USER = "user", _("user")

    property = models.ForeignKey(
        Property,
        models.CASCADE,
        verbose_name=_("property"),
        related_name="identities",
        db_index=False,
    )
    customer = models.ForeignKey(
        Customer, models.CASCADE, verbose_name=_("customer"), related_name="identities"
    )
    kind = models.CharField(_("kind"), max_length=6, choices=Kind)
    value = ExactCharField(_("value"), max_length=MAX_VALUE)
    created_on = models.DateTimeField(_("created on"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("identity")
        verbose_name_plural = _("identities")
        constraints = [
            # The value before the kind: a customer is asked for by a value of any kind.
            models.UniqueConstraint(
                fields=["property", "value", "kind"], name="affiliations_identity_once"
            ),
        ]

    def __str__(self) -> str:
        return str(self.value)
