"""What the referrals hold on a person: show it, and erase it."""

from __future__ import annotations

from typing import Any

from django.db import models, router
from django.db.models.functions import Cast, Concat

from ..models import Callback
from ..privacy import ERASED, erase_callbacks
from .models import Invoice, Member, Operation, make_code

__all__ = ["export", "forget"]


def export(*, user: Any, data: dict[str, Any], **kwargs: Any) -> None:
    """Add the user's membership to an export: what they have paid, and what happened to them."""
    member = Member.objects.using(router.db_for_read(Member)).filter(user=user).first()
    if member is None:
        return
    operations = member.operations.select_related("entry", "about").order_by("pk")
    data["referrals"] = {
        "hash": member.user_hash,
        "program": member.program.name,
        "share_code": member.code,
        "registered_on": member.registered_on.isoformat(),
        "brought_by": member.indicator and member.indicator.user_hash,
        "paid": str(member.paid),
        "invoices": [
            {
                "reference": each.reference,
                "paid_minor": each.minor,
                "refunded_minor": each.refunded_minor,
            }
            for each in member.invoices.order_by("pk")
        ],
        "operations": [
            {
                "operation": each.kind,
                "amount_minor": each.minor,
                "created_on": each.created_on.isoformat(),
            }
            for each in operations
        ],
    }


def forget(*, user: Any, counts: dict[str, int], **kwargs: Any) -> None:
    """Take the user out of their membership; what both were credited stays, without whose it was.

    The billing system is told nothing more of them: what waits for it is canceled.
    """
    using = router.db_for_write(Member)
    # Locked: whoever reports an invoice at this moment writes a call that has to be erased as well.
    member = Member.objects.using(using).select_for_update().filter(user=user).first()
    if member is None:
        return
    named = Operation.objects.using(using).filter(
        models.Q(member=member) | models.Q(about__indicator=member), callback__isnull=False
    )
    calls = list(named.values_list("callback", flat=True))
    erase_callbacks(Callback.objects.using(using).filter(pk__in=calls))
    number = Cast("pk", models.CharField())
    Invoice.objects.using(using).filter(member=member).update(
        reference=Concat(models.Value(f"{ERASED}:"), number)
    )
    counts["members"] = (
        Member.objects.using(using)
        .filter(pk=member.pk)
        .update(user=None, user_hash=f"{ERASED}:{member.pk}", code=make_code())
    )
