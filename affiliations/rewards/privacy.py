"""What the rewards hold on a person: show it, erase it, and let it go when it is old.

What was earned by what a person did stays: it is owed to somebody else. It does not say who it was,
once the core has erased that.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.apps import apps
from django.db import connections, models, router

from ..models import Partner
from ..money import Money
from ..privacy import purge
from . import ledger
from .models import Account, Commission, PartnerNetwork, Payout, PayoutDestination, Review

__all__ = ["export", "forget", "forget_settled", "purge_networks"]

#: What a payout says of whom it went to, once that is erased.
NOBODY = {"name": "", "email": "", "reason": ""}


def _caused(user: Any, idents: Iterable[str]) -> Any:
    """Return the commissions that were earned by what a user, or their browsers, did."""
    nobody = models.Q(conversion__user=None)
    browsers = models.Q(visitor__user=None, visitor__ident__in=set(filter(None, idents)))
    theirs = models.Q(conversion__user=user) | (nobody & (models.Q(visitor__user=user) | browsers))
    return Commission.objects.using(router.db_for_write(Commission)).filter(theirs)


def _partners_of(user: Any) -> list[int]:
    # Not of a replica, which may not know of it yet.
    rows = user.affiliate_partners.using(router.db_for_write(Partner))
    return list(rows.values_list("pk", flat=True))


def _holders(partners: Iterable[int]) -> list[str]:
    return [ledger.holder_of(partner) for partner in partners]


def export(*, user: Any, idents: Iterable[str], data: dict[str, Any], **kwargs: Any) -> None:
    """Add to an export what a user has caused, decided, and is owed through their partners."""
    using = router.db_for_write(Commission)
    partners = _partners_of(user)
    reviews = Review.objects.using(using).order_by("pk")
    caused = _caused(user, idents).select_related("partner").order_by("pk")
    accounts = Account.objects.using(using).filter(partner__in=partners).select_related("partner")
    networks = PartnerNetwork.objects.using(using).filter(partner__in=partners)
    destinations = PayoutDestination.objects.using(using).filter(holder__in=_holders(partners))
    payouts = Payout.objects.using(using).filter(account__partner__in=partners)
    data["rewards"] = {
        "commissions": [
            {
                "partner": each.partner.name,
                "earned": each.money and str(each.money.amount),
                "currency": each.currency,
                "converted_on": each.converted_on.isoformat(),
                "record": each.record,
                "reviews": [_shown(review) for review in reviews.filter(entry__commission=each.pk)],
            }
            for each in caused
        ],
        "accounts": [_balance(each) for each in accounts.order_by("pk")],
        "destinations": [
            {"method": each.get_method_display(), "name": each.name, "email": each.email}
            for each in destinations.order_by("pk")
        ],
        "payouts": [
            {
                "number": str(each.uid),
                "partner": each.account.partner and each.account.partner.name,
                "amount": str(each.money.amount),
                "currency": each.account.currency,
                "state": each.state,
                "method": each.get_method_display(),
                "name": each.name,
                "email": each.email,
                "reason": each.reason,
                "created_on": each.created_on.isoformat(),
                "settled_on": each.settled_on and each.settled_on.isoformat(),
            }
            for each in payouts.select_related("account__partner").order_by("pk")
        ],
        "networks": [
            {"partner": each.partner.name, "seen_on": each.seen_on.isoformat()}
            for each in networks.select_related("partner").order_by("pk")
        ],
        "decided": [
            {"review": pk, "outcome": outcome, "resolved_on": when and when.isoformat()}
            for pk, outcome, when in reviews.filter(resolved_by=user).values_list(
                "pk", "outcome", "resolved_on"
            )
        ],
    }


def _shown(review: Review) -> dict[str, Any]:
    return {
        "reason": review.reason,
        "detail": review.detail,
        "outcome": review.outcome,
        "opened_on": review.opened_on.isoformat(),
        "resolved_on": review.resolved_on and review.resolved_on.isoformat(),
    }


def _balance(account: Account) -> dict[str, Any]:
    found = ledger.balance(account)
    return {
        "partner": account.partner and account.partner.name,
        "currency": found.currency,
        "owed": str(Money(found.total, found.currency).amount),
        "available": str(Money(found.available, found.currency).amount),
    }


def forget(*, user: Any, idents: Iterable[str], counts: dict[str, int], **kwargs: Any) -> None:
    """Take the user out of what was flagged, and their partners' networks with them.

    All of a partner's networks: nobody can tell whose they were, and those of the others come back
    when they log in. Where it is paid, in contrast, is the partner's own, which the others need: it
    goes with the last of a partner's people. Then it is also taken out of its payouts, as soon as
    they are settled, as only until then somebody may have to ask what became of the money: those
    that are `payouts_sent` in `counts` are emptied then, see `forget_settled`.

    Who has decided on a review stays, as long as the user itself does: whoever was refused money
    may ask.
    """
    commissions = list(_caused(user, idents).values_list("pk", flat=True))
    reviews = Review.objects.using(router.db_for_write(Review)).exclude(detail="")
    counts["reviews"] = reviews.filter(entry__commission__in=commissions).update(detail="")
    partners = _partners_of(user)
    networks = PartnerNetwork.objects.using(router.db_for_write(PartnerNetwork))
    counts["networks"], _ = networks.filter(partner__in=partners).delete()
    _forget_where_paid(_alone(partners), counts)


def _alone(partners: list[int]) -> list[int]:
    """Return those of a user's partners that nobody else belongs to."""
    using = router.db_for_write(Partner)
    rows = Partner.objects.using(using).filter(pk__in=partners)
    # Of several of its people who are forgotten at once one is the last. Conversions go on, where
    # that is possible.
    no_key = connections[using].features.has_select_for_no_key_update
    list(rows.order_by("pk").select_for_update(no_key=no_key))
    alone = rows.annotate(number=models.Count("users")).filter(number=1)
    return list(alone.values_list("pk", flat=True))


def _forget_where_paid(partners: list[int], counts: dict[str, int]) -> None:
    using = router.db_for_write(Payout)
    destinations = PayoutDestination.objects.using(using).filter(holder__in=_holders(partners))
    counts["destinations"], _ = destinations.delete()
    _forget_changes(partners)
    # A provider's words on why nobody was paid may name them.
    named = ~models.Q(name="", email="", reason="")
    kept = Payout.objects.using(using).filter(named | models.Q(settled_on=None))
    ids = list(kept.filter(account__partner__in=partners).values_list("pk", flat=True))
    rows = Payout.objects.using(using).filter(pk__in=ids)
    # Whoever sends or settles one of them at this moment is waited for, or waits, and then finds
    # the destination gone.
    list(rows.order_by("pk").select_for_update())
    counts["payouts"] = rows.filter(named, settled_on__isnull=False).update(**NOBODY)
    counts["payouts_sent"] = rows.filter(named, settled_on=None).count()


def _forget_changes(partners: list[int]) -> None:
    """Keep of the changes in the admin that there were some, and no longer from where to where."""
    if not partners or not apps.is_installed("django.contrib.admin"):
        return
    rows = apps.get_model("admin", "LogEntry").objects.filter(
        content_type__app_label=PayoutDestination._meta.app_label,
        content_type__model=PayoutDestination._meta.model_name,
    )
    # By what it was called, as there may have been others before.
    for holder in _holders(partners):
        rows.filter(object_repr__startswith=f"{holder}: ").update(change_message="")


def forget_settled(payout: Payout) -> None:
    """Keep no longer where a payout that was settled just now went, if that was erased meanwhile.

    That is: if its holder has no destination any more, whoever has deleted that. The method stays.
    """
    using = router.db_for_write(Payout)
    holder = Account.objects.using(using).filter(pk=payout.account_id).values("holder")[:1]
    if PayoutDestination.objects.using(using).filter(holder=models.Subquery(holder)).exists():
        return
    known = Payout.objects.using(using).filter(pk=payout.pk).exclude(name="", email="")
    if known.update(**NOBODY):
        payout.name = payout.email = payout.reason = ""


def purge_networks(before: datetime, **options: Any) -> int:
    """Delete the networks that no partner's people were seen in since `before`.

    `options` and the answer are those of `affiliations.privacy.purge`.
    """
    rows = PartnerNetwork.objects.using(router.db_for_write(PartnerNetwork))
    return purge(rows.filter(seen_on__lt=before), **options)
