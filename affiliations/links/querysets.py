"""Questions about many links and transactions, as adjectives that chain."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.utils import timezone

if TYPE_CHECKING:
    from ..models import Partner
    from .models import Link, Transaction  # noqa: F401


def valid(moment: datetime) -> models.Q:
    """Return the condition that a link has begun at a moment, and is not over."""
    begun = models.Q(valid_from=None) | models.Q(valid_from__lte=moment)
    not_over = models.Q(valid_until=None) | models.Q(valid_until__gt=moment)
    return begun & not_over


class LinkQuerySet(models.QuerySet["Link"]):
    """Links."""

    def kept(self) -> Self:
        """Keep those that were not deleted."""
        return self.filter(deleted_on=None)

    def usable(self, now: datetime | None = None) -> Self:
        """Keep those through which clicks count."""
        return self.kept().filter(valid(now or timezone.now()), active=True)

    def for_partner(self, partner: Partner | int | None) -> Self:
        """Keep those of a partner; all of them where None is given."""
        return self if partner is None else self.filter(partner=partner)


class TransactionQuerySet(models.QuerySet["Transaction"]):
    """Transactions."""

    def open(self) -> Self:
        """Keep those of which something may still come."""
        return self.filter(state="open")

    def fulfill(self, now: datetime | None = None) -> int:
        """End those that are open, without a payout; return how many there were."""
        changes = {"state": "fulfilled", "open_key": None, "fulfilled_on": now or timezone.now()}
        return self.open().update(**changes)

    def of(self, user: Any, item_id: str) -> Self:
        """Keep those of a user and an item: none of nobody's, whose are those of all strangers."""
        if getattr(user, "pk", None) is None:
            return self.none()
        return self.filter(user=user, item_id=item_id)

    def for_partner(self, partner: Partner | int | None) -> Self:
        """Keep those of a partner's links; all of them where None is given."""
        return self if partner is None else self.filter(link__partner=partner)
