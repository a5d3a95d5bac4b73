"""What the referrals hold on a person: show it, and erase it."""

from __future__ import annotations

from typing import Any

from django.db import models, router
from django.db.models.functions import Cast, Concat

from ..models import Callback
from ..privacy import ERASED, erase_callbacks
from .indications import normal
from .models import EmailIndication, Invoice, Member, Operation, make_code

__all__ = ["export", "forget"]


def _addressed(user: Any, using: str) -> models.QuerySet[EmailIndication]:
    """Return the indications of a user's own address, by whomever."""
    email = normal(getattr(user, "email", "") or "")
    rows = EmailIndication.objects.using(using)
    return rows.filter(email=email) if email else rows.none()


def export(*, user: Any, data: dict[str, Any], **kwargs: Any) -> None:
    """Add the user's membership to an export: what they have paid, and what happened to them.

    And who has indicated their address, also where they are no member.
    """
    using = router.db_for_read(Member)
    indicated = [
        {"program": each.program.name, "created_on": each.created_on.isoformat()}
        for each in _addressed(user, using).select_related("program").order_by("pk")
    ]
    member = Member.objects.using(using).filter(user=user).first()
    if member is not None:
        data["referrals"] = {"indicated": indicated, **_membership(member, using)}
    elif indicated:
        data["referrals"] = {"indicated": indicated}


def _membership(member: Member, using: str) -> dict[str, Any]:
    theirs = EmailIndication.objects.using(using).filter(indicator=member).order_by("pk")
    return {
        "has_indicated": list(theirs.values_list("email", flat=True)),
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
            for each in member.operations.select_related("entry").order_by("pk")
        ],
    }


def forget(*, user: Any, counts: dict[str, int], **kwargs: Any) -> None:
    """Take the user out of their membership; what both were credited stays, without whose it was.

    The billing system is told nothing more of them: what waits for it is canceled. The addresses
    that they have indicated, and theirs wherever it was, are erased too.
    """
    using = router.db_for_write(Member)
    number = Cast("pk", models.CharField())
    nameless = Concat(models.Value(f"{ERASED}:"), number)
    gone = {"email": nameless, "link": "", "mail_due": False}
    if addressed := _addressed(user, using).update(**gone):
        counts["indications"] = addressed
    # Locked: whoever reports an invoice at this moment writes a call that has to be erased as well.
    member = Member.objects.using(using).select_for_update().filter(user=user).first()
    if member is None:
        return
    told = Operation.objects.using(using).filter(
        models.Q(member=member) | models.Q(about__indicator=member), callback__isnull=False
    )
    calls = list(told.values_list("callback", flat=True))
    erase_callbacks(Callback.objects.using(using).filter(pk__in=calls))
    # Nobody can have taken it for a reference, or a hash, of their own, which would keep this one
    # from being erased.
    mark = make_code()
    reference = Concat(nameless, models.Value(f":{mark}"))
    Invoice.objects.using(using).filter(member=member).update(reference=reference)
    theirs = EmailIndication.objects.using(using).filter(indicator=member)
    if indicated := theirs.exclude(email__startswith=f"{ERASED}:").update(**gone):
        counts["indications"] = counts.get("indications", 0) + indicated
    counts["members"] = (
        Member.objects.using(using)
        .filter(pk=member.pk)
        .update(
            user=None,
            user_hash=f"{ERASED}:{member.pk}:{mark}",
            code=make_code(),
        )
    )
