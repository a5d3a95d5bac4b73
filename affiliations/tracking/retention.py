"""Let hits go that a property does not keep any longer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import router
from django.utils import timezone

from ..privacy import BATCH, purge
from . import limits
from .models import Hit, HitKey, Property

__all__ = ["kept_since", "purge_hits"]


def kept_since(using: str) -> datetime | None:
    """Return before when no property keeps anything, None where one keeps all that it has."""
    kept = list(Property.objects.using(using).values_list("keep_days", flat=True))
    days = [each for each in kept if each is not None]
    if not days or len(days) < len(kept):
        return None
    return timezone.now() - timedelta(days=max(days))


def purge_hits(*, dry_run: bool = False, progress: Callable[[int], Any] | None = None) -> int:
    """Delete what properties do not keep any longer, in batches; return how many hits that were.

    A transaction id that nobody keeps any more would be taken for a new one if it came again. What
    was counted for limits goes as well, once these are over.
    """
    using = router.db_for_write(Hit)
    total = 0
    for prop in Property.objects.using(using).exclude(keep_days=None).order_by("pk"):
        before = timezone.now() - timedelta(days=prop.keep_days or 0)
        rows = Hit.objects.using(using).filter(property=prop, happened_on__lt=before)
        total += purge(rows, dry_run=dry_run, progress=_after(total, progress))
    since = kept_since(using)
    if since is not None and not dry_run:
        _purge_keys(since, using)
    if not dry_run:
        limits.purge()
    return total


def _purge_keys(before: datetime, using: str) -> None:
    """Delete the keys of what happened before, in batches: whoever tells of it again waits."""
    rows = HitKey.objects.using(using)
    old = rows.filter(happened_on__lt=before).order_by("happened_on")
    following = old
    while found := list(following.values_list("pk", "happened_on")[:BATCH]):
        rows.filter(pk__in=[pk for pk, _ in found]).delete()
        # Looking for the next ones costs the same at the end.
        following = old.filter(happened_on__gte=found[-1][1])


def _after(total: int, progress: Callable[[int], Any] | None) -> Callable[[int], Any] | None:
    return progress and (lambda number: progress(total + number))
