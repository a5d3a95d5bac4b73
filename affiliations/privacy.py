"""What is held on a person: show it, erase it, and let it go when it is old.

Erasure takes the person out of the rows and leaves the rows: what a partner was credited with, and
so what it is owed, stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.db import models, router, transaction

from .models import Callback, CallbackAttempt, Conversion, Share, Visitor

__all__ = ["export_user", "forget_user", "purge_visitors"]

BATCH = 1000
ERASED = "erased"


def _visitors_of(user: Any, using: str) -> models.QuerySet[Visitor]:
    """Return the user's visits, and the nameless ones that the same browsers made."""
    own = Visitor.objects.using(using).filter(user=user)
    browsers = own.exclude(ident="").values("ident")
    nameless = models.Q(user=None, ident__in=list(browsers.values_list("ident", flat=True)))
    return Visitor.objects.using(using).filter(models.Q(user=user) | nameless)


def _conversions_of(user: Any, visitors: Any, using: str) -> models.QuerySet[Conversion]:
    mine = models.Q(user=user) | models.Q(user=None, visitor__in=visitors)
    return Conversion.objects.using(using).filter(mine)


def export_user(user: Any) -> dict[str, Any]:
    """Return all that the core holds on a user, as what `json.dumps` accepts."""
    using = router.db_for_read(Visitor)
    visitors = _visitors_of(user, using).select_related("partner").order_by("pk")
    conversions = _conversions_of(user, visitors.values("pk"), using).order_by("pk")
    callbacks = Callback.objects.using(using).filter(conversion__in=conversions.values("pk"))
    return {
        "user": user.pk,
        "visitors": [
            {
                "id": each.pk,
                "partner": each.partner.name,
                "browser": each.ident,
                "referred_on": each.referred_on.isoformat(),
                "clicked_on": each.clicked_on.isoformat(),
                "entry_point": each.entry_point,
                "successful_on": each.successful_on and each.successful_on.isoformat(),
                "click_id": each.click_id,
                "sub_ids": each.sub_ids,
                "referrer_host": each.referrer_host,
            }
            for each in visitors
        ],
        "conversions": [
            {
                "trigger": each.trigger,
                "reference": each.reference,
                "amount": each.money and str(each.money.amount),
                "currency": each.currency,
                "created_on": each.created_on.isoformat(),
                "reversed_on": each.reversed_on and each.reversed_on.isoformat(),
                "decision": each.decision,
            }
            for each in conversions
        ],
        "callbacks": [
            {
                "id": each.webhook_id,
                "address": each.url,
                "body": each.body,
                "state": each.state,
                "created_on": each.created_on.isoformat(),
            }
            for each in callbacks.order_by("pk")
        ],
        "partner_of": list(user.affiliate_partners.order_by("pk").values_list("name", flat=True)),
    }


def forget_user(user: Any) -> dict[str, int]:
    """Erase a user from everything that the core holds; return how many rows of what it touched.

    Callbacks that still wait are canceled: they would carry what was just erased to a partner. The
    user itself, and other apps' rows, are the site's to delete.
    """
    using = router.db_for_write(Visitor)
    with transaction.atomic(using=using):
        visitors = list(_visitors_of(user, using).values_list("pk", flat=True))
        conversions = list(_conversions_of(user, visitors, using).values_list("pk", flat=True))
        callbacks = Callback.objects.using(using).filter(conversion__in=conversions)
        erased = {
            "visitors": Visitor.objects.using(using)
            .filter(pk__in=visitors)
            .update(user=None, ident="", entry_point="", click_id="", sub_ids={}, referrer_host=""),
            "conversions": Conversion.objects.using(using)
            .filter(pk__in=conversions)
            .update(user=None, reference=ERASED),
            "canceled": callbacks.filter(state=Callback.State.PENDING).update(
                state=Callback.State.CANCELED, due=None, token=None, reason=ERASED
            ),
            "callbacks": _erase_addresses(callbacks),
            "partners": user.affiliate_partners.count(),
        }
        user.affiliate_partners.clear()
        CallbackAttempt.objects.using(using).filter(callback__in=callbacks).update(error="")
    return erased


def _erase_addresses(callbacks: models.QuerySet[Callback]) -> int:
    changed = []
    for callback in callbacks.only("url", "body"):
        try:
            parts = urlsplit(callback.url)
            callback.url = urlunsplit((parts.scheme, parts.netloc, "", "", ""))
        except ValueError:
            callback.url = ""
        callback.body = ""
        changed.append(callback)
    Callback.objects.bulk_update(changed, ["url", "body"], batch_size=BATCH)
    return len(changed)


def purge_visitors(
    before: datetime, *, dry_run: bool = False, progress: Callable[[int], Any] | None = None
) -> int:
    """Delete the visitors whose last click was before `before` and came to nothing.

    Kept are those that were successful, and those that a conversion or a share needs. Works in
    batches, each in a transaction of its own, so that nobody waits for it; `progress` is called
    with the number deleted so far. Returns how many were, or with `dry_run` would be, deleted.
    """
    using = router.db_for_write(Visitor)
    total = 0
    for ids in _batches(before, using):
        if not dry_run:
            # Asked again: one of them may have converted since.
            _purgeable(before, using).filter(pk__in=ids).delete()
        total += len(ids)
        if progress is not None:
            progress(total)
    return total


def _purgeable(before: datetime, using: str) -> models.QuerySet[Visitor]:
    needed = models.OuterRef("pk")
    return Visitor.objects.using(using).filter(
        ~models.Exists(Conversion.objects.filter(visitor=needed)),
        ~models.Exists(Share.objects.filter(visitor=needed)),
        clicked_on__lt=before,
        successful_on=None,
    )


def _batches(before: datetime, using: str) -> Iterator[list[int]]:
    """Walk along the primary key: looking for the next batch costs the same at the end."""
    after = 0
    while True:
        rows = _purgeable(before, using).filter(pk__gt=after).order_by("pk")
        ids = list(rows.values_list("pk", flat=True)[:BATCH])
        if not ids:
            return
        yield ids
        after = ids[-1]
