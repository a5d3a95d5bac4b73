"""What is used up of how often somebody may write."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Allowance(models.Model):
    """How much of a limit somebody has used, in a period that began when they used it first.

    The digest is of the limit and of whose it is, an address say, under the site's key.
    """

    digest = models.UUIDField(primary_key=True)
    used = models.PositiveBigIntegerField()
    #: By the clock of the database, in milliseconds since 1970: those of machines differ.
    ends = models.BigIntegerField(db_index=True)

    class Meta:
        verbose_name = _("allowance")
        verbose_name_plural = _("allowances")

    def __str__(self) -> str:
        return str(self.digest)
