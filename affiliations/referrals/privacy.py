"""What the referrals hold on a person: show it, erase it, and let it go when it is old."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import connections, models, router
from django.db.models.functions import Cast, Concat
from django.utils import timezone

from ..models import Callback
from ..privacy import BATCH, ERASED, erase_callbacks
from ..savepoints import retried
from .conf import settings
from .indications import normal
from .models import EmailIndication, Invoice, Member, Operation, make_code

__all__ = ["export", "forget", "purge_indications"]

NAMELESS = Concat(models.Value(f"{ERASED}:"), Cast("pk", models.CharField()))
#: What an indication is without its address. That it was made stays, and counts.
GONE = {"email": NAMELESS, "link": "", "mail_due": False, "waiting_since": None}


def _addressed(user: Any, using: str) -> models.QuerySet[EmailIndication]:
    """Return the indications of a user's own address, by whomever."""
    email = normal(getattr(user, "email", "") or "")
    rows = EmailIndication.objects.using(using)
    return rows.filter(email=email) if email else rows.none()


def _known(rows: models.QuerySet[EmailIndication]) -> models.QuerySet[EmailIndication]:
    # No address begins like this.
    return rows.exclude(email__startswith=f"{ERASED}:")


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
    theirs = EmailIndication.objects.using(using).filter(indicator=member)
    return {
        "has_indicated": list(_known(theirs).order_by("pk").values_list("email", flat=True)),
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
    if addressed := _addressed(user, using).update(**GONE):
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
    reference = Concat(NAMELESS, models.Value(f":{mark}"))
    Invoice.objects.using(using).filter(member=member).update(reference=reference)
    theirs = EmailIndication.objects.using(using).filter(indicator=member)
    if indicated := _known(theirs).update(**GONE):
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


def purge_indications(
    before: datetime, *, dry_run: bool = False, progress: Callable[[int], Any] | None = None
) -> int:
    """Erase the addresses that were indicated before `before` and that nobody has registered with.

    Returns how many. From then on they are as new: whoever comes by one was brought by nobody, and
    any member may indicate it, and have it written to, once more. Refusals of mails stay.

    In batches, each in a transaction of its own; those that somebody is working with at that moment
    are kept. `progress` is called with the number erased so far; with `dry_run` none is. Raises
    ValueError where `before` lies within the time of `AFFILIATE_REFERRALS_INVITATIONS`: a member
    might send more of them than that.
    """
    if before > timezone.now() - settings.REFERRALS_INVITATIONS[1]:
        raise ValueError("before: by AFFILIATE_REFERRALS_INVITATIONS, later ones still count")
    rows = EmailIndication.objects.using(router.db_for_write(EmailIndication))
    rows = rows.filter(waiting_since__lt=before).order_by("waiting_since", "pk")
    if dry_run:
        return rows.count()
    total, following = 0, rows
    while erased := _erase(following):
        total += len(erased)
        if progress is not None:
            progress(total)
        # Behind the last one, so that nobody looks again at those that were kept.
        since, pk = erased[-1]
        behind = models.Q(waiting_since__gt=since) | models.Q(pk__gt=pk)
        following = rows.filter(behind, waiting_since__gte=since)
    return total


def _erase(rows: models.QuerySet[EmailIndication]) -> list[tuple[Any, int]]:
    """Erase the first of some addresses; return since when they were waiting, and their keys."""
    using = rows.db
    skip_locked = connections[using].features.has_select_for_update_skip_locked

    def once() -> list[tuple[Any, int]]:
        some = rows.select_for_update(skip_locked=skip_locked)
        found = list(some.values_list("waiting_since", "pk")[:BATCH])
        pks = [pk for _, pk in found]
        EmailIndication.objects.using(using).filter(pk__in=pks).update(**GONE)
        return found

    return retried(once, using)
