"""Questions about rules and entries, as adjectives that chain."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Self

from django.apps import apps
from django.db import models
from django.db.models.functions import Coalesce
from django.utils import timezone

if TYPE_CHECKING:
    from .models import CommissionRule, Entry  # noqa: F401


class RuleQuerySet(models.QuerySet["CommissionRule"]):
    """Rules."""

    def at(self, moment: datetime) -> Self:
        """Keep those that were published, and valid, at a moment."""
        started = models.Q(valid_from=None) | models.Q(valid_from__lte=moment)
        going_on = models.Q(valid_until=None) | models.Q(valid_until__gt=moment)
        return self.filter(started, going_on, published_on__lte=moment)


def available(as_of: datetime | None = None) -> models.Q:
    """Return the condition that an entry can be paid out, or could be at a moment in the past.

    It is held by its date, and by each review that is open. What reverses an entry is held by the
    entry's own reviews, as long as the entry is.
    """
    if as_of is None:
        return models.Q(~_holding(OPEN), _let_go(timezone.now()))
    return models.Q(~_holding(open_at(as_of), models.Q(opened_on__lte=as_of)), _let_go(as_of))


#: The condition that nobody has decided on a review.
OPEN = models.Q(resolved_on=None)


def open_at(moment: datetime) -> models.Q:
    """Return the condition that nobody had decided on a review by then."""
    return OPEN | models.Q(resolved_on__gt=moment)


def _let_go(moment: datetime) -> models.Q:
    """Return the condition that an entry's date held it no longer.

    What was never held is not held by a clock either that is behind the one it was posted by:
    another host's, or the site's own in an hour that comes twice.
    """
    never_held = models.Q(available_on__lte=models.F("created_on"))
    return models.Q(available_on__lte=moment) | never_held


def _holding(*reviews: models.Q) -> models.Exists:
    """Return the condition that an entry, or what it reverses, has a review that is meant."""
    Review = apps.get_model("affiliations_rewards", "Review")
    entry = Coalesce(models.OuterRef("reverses"), models.OuterRef("pk"))
    return models.Exists(Review.objects.filter(*reviews, entry=entry))


class EntryQuerySet(models.QuerySet["Entry"]):
    """Entries."""

    def payable(self, until: datetime, now: datetime) -> Self:
        """Keep those that could be paid out at `until`, are not reviewed since, and what is owed.

        What was spent or lost of them meanwhile is netted, by whatever clock, or more would be paid
        out than there is; but not what was lost of something that itself is left for another time.
        """
        entries = apps.get_model("affiliations_rewards", "Entry").objects
        then = models.Q(available_on__lte=until, created_on__lte=until)
        roots = entries.filter(then, pk=models.OuterRef("reverses"))
        owed = models.Q(reverses=None) | models.Q(models.Exists(roots))
        debts = models.Q(owed, _let_go(now), minor__lt=0)
        return self.filter(then | debts, ~_holding(open_at(until)))

    def unpaid(self) -> Self:
        """Keep those that no payout has taken, but for one that has failed or came back.

        Payouts themselves, and what gives them back, are none of them: they are what was paid.
        """
        PayoutEntry = apps.get_model("affiliations_rewards", "PayoutEntry")
        taken = PayoutEntry.objects.filter(claimed=models.OuterRef("pk"))
        paid = models.Q(kind="payout") | models.Q(kind="reversal", reverses__kind="payout")
        return self.filter(~models.Exists(taken), ~paid)
