"""What is held on a person: show it, erase it, and let it go when it is old.

Erasure takes the person out of the rows and leaves the rows: what a partner was credited with, and
so what it is owed, stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from django.db import connections, models, router, transaction
from django.db.models.functions import Cast, Concat
from django.utils import timezone

from .conf import settings
from .models import Callback, CallbackAttempt, Conversion, Reversal, Share, Visitor
from .querysets import CallbackQuerySet
from .savepoints import retried
from .signals import user_exported, user_forgotten

__all__ = ["erase_callbacks", "export_user", "forget_user", "purge", "purge_visitors"]

BATCH = 1000
ERASED = "erased"
#: The key too: it is a digest, and whoever can guess the reference can tell its digest.
NAMELESS = {
    "reference": ERASED,
    "key": Concat(models.Value(f"{ERASED}:"), Cast("pk", models.CharField())),
}


def _held(user: Any, using: str) -> tuple[list[int], list[int]]:
    """Return the keys of a user's visits and conversions.

    With those of the user's own go nameless ones: visits that led to what the user did or that the
    same browsers made, and conversions of these visits.
    """
    visitors, shares = Visitor.objects.using(using), Share.objects.using(using)
    led = shares.filter(conversion__user=user).values_list("visitor", flat=True)
    own = models.Q(user=user) | models.Q(user=None, pk__in=list(led))
    browsers = visitors.filter(own).exclude(ident="").values_list("ident", flat=True)
    own |= models.Q(user=None, ident__in=list(browsers))
    visits = list(visitors.filter(own).order_by("pk").values_list("pk", flat=True))
    credited = shares.filter(visitor__in=visits).values_list("conversion", flat=True)
    did = models.Q(user=user) | models.Q(user=None, pk__in=list(credited))
    conversions = Conversion.objects.using(using).filter(did).order_by("pk")
    return visits, list(conversions.values_list("pk", flat=True))


def export_user(user: Any) -> dict[str, Any]:
    """Return all that the suite holds on a user, as what `json.dumps` accepts."""
    using = router.db_for_read(Visitor)
    visits, conversions = _held(user, using)
    data = {
        "user": str(user.pk),
        "visitors": _shown_visitors(visits, using),
        "conversions": _shown_conversions(conversions, visits, using),
        "callbacks": _shown_callbacks(conversions, using),
        "partner_of": list(user.affiliate_partners.order_by("pk").values_list("name", flat=True)),
    }
    user_exported.send(Visitor, user=user, idents=_browsers(visits, using), data=data)
    return data


def _shown_visitors(visits: list[int], using: str) -> list[dict[str, Any]]:
    rows = Visitor.objects.using(using).filter(pk__in=visits).select_related("partner")
    return [
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
        for each in rows.order_by("pk")
    ]


def _shown_conversions(
    conversions: list[int], visits: list[int], using: str
) -> list[dict[str, Any]]:
    rows = Conversion.objects.using(using).filter(pk__in=conversions)
    return [
        {
            "trigger": each.trigger,
            "reference": each.reference,
            "amount": each.money and str(each.money.amount),
            "currency": each.currency,
            "created_on": each.created_on.isoformat(),
            "reversed_on": each.reversed_on and each.reversed_on.isoformat(),
            "reversals": [
                {
                    "reference": reversal.reference,
                    "amount": reversal.money and str(reversal.money.amount),
                    "created_on": reversal.created_on.isoformat(),
                }
                for reversal in each.reversals.all()
            ],
            "decision": _own_part(each.decision, visits),
        }
        for each in rows.prefetch_related("reversals").order_by("pk")
    ]


def _shown_callbacks(conversions: list[int], using: str) -> list[dict[str, Any]]:
    rows = Callback.objects.using(using).filter(conversion__in=conversions)
    rows = rows.select_related("partner").prefetch_related("attempt_log")
    return [
        {
            "id": each.webhook_id,
            "partner": each.partner and each.partner.name,
            "address": each.url,
            "body": each.body,
            "state": each.state,
            "reason": each.reason,
            "created_on": each.created_on.isoformat(),
            "attempts": [
                {
                    "started_on": attempt.started_on.isoformat(),
                    "status": attempt.status,
                    "error": attempt.error,
                }
                for attempt in each.attempt_log.all()
            ],
        }
        for each in rows.order_by("pk")
    ]


def _browsers(visits: list[int], using: str) -> set[str]:
    """Return the idents that visits were made with."""
    rows = Visitor.objects.using(using).filter(pk__in=visits).exclude(ident="")
    return set(rows.values_list("ident", flat=True))


def _own_part(decision: dict[str, Any], visits: list[int]) -> dict[str, Any]:
    """Leave out of a decision what it tells of visits that another user of the browser made."""
    candidates = [each for each in decision.get("candidates", []) if each["visitor"] in visits]
    return {**decision, "candidates": candidates}


def forget_user(user: Any) -> dict[str, int]:
    """Erase a user from everything that the suite holds; return how many rows of what it touched.

    Callbacks that still wait are canceled: they would carry what was just erased to a partner. The
    user itself, its sessions, and other apps' rows are the site's to delete.
    """
    using = router.db_for_write(Visitor)
    return retried(lambda: _forget(user, using), using)


def _forget(user: Any, using: str) -> dict[str, int]:
    elsewhere: dict[str, int] = {}
    visits, _ = _held(user, using)
    # First: what other apps wait for here may have led to more of the core's.
    idents = _browsers(visits, using)
    user_forgotten.send(Visitor, user=user, idents=idents, counts=elsewhere)
    visits, conversions = _held(user, using)
    visitors = Visitor.objects.using(using).filter(pk__in=visits)
    callbacks = Callback.objects.using(using).filter(conversion__in=conversions)
    # A session may still name these visits. They must not become the user's again, nor be
    # credited once more for what cannot be told to have converted any longer.
    visitors.in_window().update(clicked_on=timezone.now() - settings.WINDOW)
    erased = {
        "visitors": visitors.update(
            user=None, ident="", entry_point="", click_id="", sub_ids={}, referrer_host=""
        ),
        "conversions": Conversion.objects.using(using)
        .filter(pk__in=conversions)
        .update(user=None, **NAMELESS),
        "reversals": Reversal.objects.using(using)
        .filter(conversion__in=conversions)
        .update(**NAMELESS),
        "canceled": _cancel(callbacks),
        "callbacks": _erase_content(callbacks),
        "partners": user.affiliate_partners.count(),
    }
    user.affiliate_partners.clear()
    return erased | elsewhere


def erase_callbacks(callbacks: CallbackQuerySet) -> None:
    """Erase what callbacks tell of a person, and send none of them any more."""
    _cancel(callbacks)
    _erase_content(callbacks)


def _cancel(callbacks: CallbackQuerySet) -> int:
    return callbacks.waiting().update(
        state=Callback.State.CANCELED, due=None, token=None, settled_on=timezone.now()
    )


def _erase_content(callbacks: CallbackQuerySet) -> int:
    # What went wrong was said in the partner's words, or in those of the address.
    attempts = CallbackAttempt.objects.using(callbacks.db).filter(callback__in=callbacks)
    attempts.update(error="", answer="", answer_until=None)
    return callbacks.update(url="", body="", reason=ERASED, withdrawn=True)


def purge_visitors(
    before: datetime, *, dry_run: bool = False, progress: Callable[[int], Any] | None = None
) -> int:
    """Delete the visitors whose last click was before `before` and came to nothing.

    Kept are those that were successful, and those that a conversion or a share needs. The rest is
    as for `purge`. Raises ValueError where `before` lies within `AFFILIATE_WINDOW`: such visitors
    may still be credited.
    """
    if before > timezone.now() - settings.WINDOW:
        raise ValueError("before: visitors within AFFILIATE_WINDOW may still be credited")
    needed = models.OuterRef("pk")
    rows = Visitor.objects.using(router.db_for_write(Visitor)).filter(
        ~models.Exists(Conversion.objects.filter(visitor=needed)),
        ~models.Exists(Share.objects.filter(visitor=needed)),
        clicked_on__lt=before,
        successful_on=None,
    )
    return purge(rows, dry_run=dry_run, progress=progress)


def purge(
    rows: models.QuerySet[Any],
    *,
    dry_run: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> int:
    """Delete rows in batches, each in a transaction of its own; return how many there were.

    Those that somebody is working with at that moment are kept. `progress` is called with the
    number deleted so far; with `dry_run` none is.
    """
    if dry_run:
        return rows.count()
    total = 0
    for ids in _batches(rows):
        total += _delete(rows.filter(pk__in=ids))
        if progress is not None:
            progress(total)
    return total


def _batches(rows: models.QuerySet[Any]) -> Iterator[list[int]]:
    """Walk along the primary key: looking for the next batch costs the same at the end."""
    after = 0
    while True:
        following = rows.filter(pk__gt=after).order_by("pk")
        ids = list(following.values_list("pk", flat=True)[:BATCH])
        if not ids:
            return
        yield ids
        after = ids[-1]


def _delete(rows: models.QuerySet[Any]) -> int:
    using = rows.db
    skip_locked = connections[using].features.has_select_for_update_skip_locked
    with transaction.atomic(using=using):
        # Asked again, as one may have come back or converted since; and locked, so that none does
        # from here on. To wait for a row would mean to let others wait for the rest of the batch.
        locked = rows.select_for_update(skip_locked=skip_locked)
        ids = list(locked.values_list("pk", flat=True))
        rows.model._default_manager.using(using).filter(pk__in=ids).delete()
    return len(ids)
