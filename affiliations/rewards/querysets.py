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
    opened = models.Q(opened_on__lte=moment)
    return models.Q(~_holding(opened, moment), available_on__lte=moment)


def _holding(reviews: models.Q, moment: datetime) -> models.Exists:
    """Return the condition that a review was not resolved by then, of those that are meant."""
    Review = apps.get_model("affiliations_rewards", "Review")
    return models.Exists(
        Review.objects.filter(
            models.Q(resolved_on=None) | models.Q(resolved_on__gt=moment),
            reviews,
            entry=Coalesce(models.OuterRef("reverses"), models.OuterRef("pk")),
        )
    )


class EntryQuerySet(models.QuerySet["Entry"]):
    """Entries."""

    def payable(self, until: datetime, now: datetime) -> Self:
        """Keep those that could be paid out at `until`, are not reviewed since, and what is owed.

        What was spent or lost of them meanwhile is netted, up to now, or more would be paid out
        than there is; but not what was lost of something that itself is left for another time.
        """
        entries = apps.get_model("affiliations_rewards", "Entry").objects
        then = models.Q(available_on__lte=until, created_on__lte=until)
        roots = entries.filter(then, pk=models.OuterRef("reverses"))
        owed = models.Q(reverses=None) | models.Q(models.Exists(roots))
        debts = models.Q(owed, minor__lt=0, available_on__lte=now)
        return self.filter(then | debts, ~_holding(models.Q(), until))

    def unpaid(self) -> Self:
        """Keep those that no payout has taken, but for one that has failed or came back.

        Payouts themselves, and what gives them back, are none of them: they are what was paid.
        """
        PayoutEntry = apps.get_model("affiliations_rewards", "PayoutEntry")
        taken = PayoutEntry.objects.filter(claimed=models.OuterRef("pk"))
        paid = models.Q(kind="payout") | models.Q(kind="reversal", reverses__kind="payout")
        return self.filter(~models.Exists(taken), ~paid)
