"""Decide on what is held for review: let it be paid out, or take it back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import router
from django.utils import timezone

from ..exceptions import InvalidTransition
from ..models import Conversion
from ..savepoints import retried
from ..sums import halves, joined
from . import ledger
from .models import Entry, Review
from .models.ledger import MAX_MEMO
from .signals import entry_posted

__all__ = ["close", "reject", "release"]

Outcome = Review.Outcome


def release(review: Review, *, by: Any) -> Review:
    """Let an entry be paid out, as far as this review is concerned; `by` is the user who decided.

    It is still held by its date, and by each other review that is open. Raises InvalidTransition
    where somebody else has decided before.
    """
    using = router.db_for_write(Review)
    now = timezone.now()
    retried(lambda: _resolve(review, Outcome.RELEASED, by, now, using), using)
    return _resolved(review, Outcome.RELEASED, by, now)


def reject(review: Review, *, by: Any, memo: str = "") -> Entry | None:
    """Take back what is left of an entry, and return the reversal.

    It says `memo`, which partners may read, and which is to name no person: nobody can ever erase
    it. What the review was opened for stays between staff.

    There is nothing to decide on in the entry's other reviews then: they are closed. None where
    nothing is left of it. Sends `entry_posted`. Raises InvalidTransition where somebody else has
    decided before; then nothing has changed.
    """
    using = router.db_for_write(Review)
    reversal, now = retried(lambda: _reject(review, by, memo, using), using)
    _resolved(review, Outcome.REJECTED, by, now)
    return reversal


def _reject(review: Review, by: Any, memo: str, using: str) -> tuple[Entry | None, datetime]:
    entry = Entry.objects.using(using).get(pk=review.entry_id)
    # As for a refund, and before the reviews as there: each has to see what the other has taken.
    ledger.lock([entry.account_id], using)
    now = timezone.now()
    _resolve(review, Outcome.REJECTED, by, now, using)
    _close([entry.pk], now, using)
    lost = entry.reversals.using(using).aggregate(**halves("lost", "minor"))
    left = entry.minor + joined(lost, "lost")
    if not left:
        return None, now
    # Neither the reason, by which a partner could learn what to avoid, nor the detail: it may tell
    # of a person, and nobody can erase anything from the ledger.
    why = ledger.fitting(": ".join(filter(None, ["Rejected in review", memo])), MAX_MEMO)
    reversal = ledger.reversal_of(entry, left, key=f"rejected:{entry.pk}", now=now, memo=why)
    reversal.save(force_insert=True, using=using)
    entry_posted.announce(Entry, using=using, entry=reversal)
    return reversal, now


def _resolve(review: Review, outcome: str, by: Any, now: datetime, using: str) -> None:
    still_open = Review.objects.using(using).filter(pk=review.pk, outcome=Outcome.OPEN)
    if not still_open.update(outcome=outcome, resolved_on=now, resolved_by=by):
        raise InvalidTransition(f"review: {review} is not open any more")


def _resolved(review: Review, outcome: str, by: Any, now: datetime) -> Review:
    review.outcome, review.resolved_on, review.resolved_by = outcome, now, by
    return review


def close(conversion: Conversion) -> int:
    """Close the reviews of a conversion that was taken back whole; return how many there were.

    In the caller's transaction, behind `commissions.take_back`, whose lock keeps rejections out.
    """
    if conversion.reversed_on is None:
        return 0
    using = router.db_for_write(Review)
    entries = Entry.objects.using(using).filter(commission__conversion=conversion)
    return _close(list(entries.values_list("pk", flat=True)), timezone.now(), using)


def _close(entry_ids: list[int], now: datetime, using: str) -> int:
    # By numbers: whether a review is open has to be asked of the row itself, not of a subquery,
    # which would answer for what it was before somebody released it at this moment.
    rows = Review.objects.using(using).filter(entry__in=entry_ids, outcome=Outcome.OPEN)
    return rows.update(outcome=Outcome.MOOT, resolved_on=now)
