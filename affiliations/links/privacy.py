"""What the links hold on a person: show it, and erase it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import models, router

from ..models import Callback
from ..privacy import erase_callbacks, purge
from .models import Transaction

__all__ = ["export", "forget", "purge_transactions"]


def _held(user: Any, idents: Iterable[str]) -> Any:
    rows = Transaction.objects.using(router.db_for_write(Transaction))
    # The browsers of the user's own transactions, too, where no visitor was recorded with them.
    theirs = rows.filter(user=user).exclude(ident="").values_list("ident", flat=True)
    browsers = {*theirs, *filter(None, idents)}
    return rows.filter(models.Q(user=user) | models.Q(user=None, ident__in=browsers))


def export(*, user: Any, idents: Iterable[str], data: dict[str, Any], **kwargs: Any) -> None:
    """Add the user's transactions to an export."""
    data["links"] = [
        {
            "path": each.path,
            "item": each.item_id,
            "browser": each.ident,
            "state": each.state,
            "clicks": each.clicks,
            "created_on": each.created_on.isoformat(),
            "clicked_on": each.clicked_on.isoformat(),
            "completed_on": each.completed_on and each.completed_on.isoformat(),
            "refunded_on": each.refunded_on and each.refunded_on.isoformat(),
            "network_transaction": each.network_id,
            "query": each.query,
            "landing_page": each.landing_page,
            "amount": each.money and str(each.money.amount),
            "currency": each.currency,
            "order": each.order_id,
            "given": each.given,
        }
        for each in _held(user, idents).order_by("pk")
    ]


def forget(*, user: Any, idents: Iterable[str], counts: dict[str, int], **kwargs: Any) -> None:
    """Take the user out of their transactions; what was paid stays, without whose it was."""
    rows = Transaction.objects.using(router.db_for_write(Transaction))
    # Locked: whoever completes one at this moment writes a call that has to be erased as well.
    held = _held(user, idents).select_for_update().order_by("pk")
    pks = list(held.values_list("pk", flat=True))
    told = models.Q(relayed_transactions__in=pks) | models.Q(adjusted_transactions__in=pks)
    calls = Callback.objects.using(rows.db).filter(told).values_list("pk", flat=True)
    erase_callbacks(Callback.objects.using(rows.db).filter(pk__in=list(calls)))
    rows.filter(pk__in=pks).fulfill()
    counts["transactions"] = rows.filter(pk__in=pks).update(
        user=None,
        ident="",
        network_id="",
        query={},
        landing_page="",
        order_id="",
        given={},
        # Digests of what can be guessed tell it.
        order_key=None,
        request_key=None,
    )


def purge_transactions(before: datetime, **options: Any) -> int:
    """Delete the transactions whose last click was before `before` and that nobody was paid for.

    Open ones too: what is bought from then on is not paid out. `options` and the answer are those
    of `affiliations.privacy.purge`.
    """
    rows = Transaction.objects.using(router.db_for_write(Transaction))
    return purge(rows.filter(clicked_on__lt=before, completed_on=None), **options)
