"""Questions about rules and entries, as adjectives that chain."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Self

from django.apps import apps
from django.db import models
from django.db.models.functions import Coalesce

if TYPE_CHECKING:
    from .models import CommissionRule, Entry  # noqa: F401


class RuleQuerySet(models.QuerySet["CommissionRule"]):
    """Rules."""

    def at(self, moment: datetime) -> Self:
        """Keep those that were published, and valid, at a moment."""
        started = models.Q(valid_from=None) | models.Q(valid_from__lte=moment)
        going_on = models.Q(valid_until=None) | models.Q(valid_until__gt=moment)
        return self.filter(started, going_on, published_on__lte=moment)


def available_at(moment: datetime) -> models.Q:
    """Return the condition that an entry could be paid out at a moment.

    It is held by its date, and by each review that was open then. What reverses an entry is held by
    the entry's own reviews, as long as the entry is.
    """
    return _held_by_none(models.Q(opened_on__lte=moment), moment)


def _held_by_none(reviews: models.Q, moment: datetime) -> models.Q:
    Review = apps.get_model("affiliations_rewards", "Review")
    holding = Review.objects.filter(
        models.Q(resolved_on=None) | models.Q(resolved_on__gt=moment),
        reviews,
        entry=Coalesce(models.OuterRef("reverses"), models.OuterRef("pk")),
    )
    return models.Q(~models.Exists(holding), available_on__lte=moment)


class EntryQuerySet(models.QuerySet["Entry"]):
    """Entries."""

    def available(self, moment: datetime) -> Self:
        """Keep those that could be paid out at a moment, and are not reviewed since either."""
        return self.filter(_held_by_none(models.Q(), moment))

    def unpaid(self) -> Self:
        """Keep those that no payout has taken, but for one that has failed or came back.

        Payouts themselves, and what gives them back, are none of them: they are what was paid.
        """
        PayoutEntry = apps.get_model("affiliations_rewards", "PayoutEntry")
        taken = PayoutEntry.objects.filter(claimed=models.OuterRef("pk"))
        paid = models.Q(kind="payout") | models.Q(kind="reversal", reverses__kind="payout")
        return self.filter(~models.Exists(taken), ~paid)
