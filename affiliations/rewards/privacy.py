"""What the rewards hold on a person: show it, erase it, and let it go when it is old.

What was earned by what a person did stays: it is owed to somebody else. It does not say who it was,
once the core has erased that.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import models, router

from ..money import Money
from ..privacy import purge
from . import ledger
from .models import Account, Commission, PartnerNetwork, Review

__all__ = ["export", "forget", "purge_networks"]


def _caused(user: Any, idents: Iterable[str]) -> Any:
    """Return the commissions that were earned by what a user, or their browsers, did."""
    nobody = models.Q(conversion__user=None)
    browsers = models.Q(visitor__user=None, visitor__ident__in=set(filter(None, idents)))
    theirs = models.Q(conversion__user=user) | (nobody & (models.Q(visitor__user=user) | browsers))
    return Commission.objects.using(router.db_for_write(Commission)).filter(theirs)


def export(*, user: Any, idents: Iterable[str], data: dict[str, Any], **kwargs: Any) -> None:
    """Add to an export what a user has caused, decided, and is owed through their partners."""
    using = router.db_for_write(Commission)
    partners = list(user.affiliate_partners.values_list("pk", flat=True))
    reviews = Review.objects.using(using).order_by("pk")
    caused = _caused(user, idents).select_related("partner").order_by("pk")
    accounts = Account.objects.using(using).filter(partner__in=partners).select_related("partner")
    networks = PartnerNetwork.objects.using(using).filter(partner__in=partners)
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
    when they log in. Who has decided on a review stays, as long as the user itself does: whoever
    was refused money may ask.
    """
    commissions = list(_caused(user, idents).values_list("pk", flat=True))
    reviews = Review.objects.using(router.db_for_write(Review)).exclude(detail="")
    counts["reviews"] = reviews.filter(entry__commission__in=commissions).update(detail="")
    partners = list(user.affiliate_partners.values_list("pk", flat=True))
    networks = PartnerNetwork.objects.using(router.db_for_write(PartnerNetwork))
    counts["networks"], _ = networks.filter(partner__in=partners).delete()


def purge_networks(before: datetime, **options: Any) -> int:
    """Delete the networks that no partner's people were seen in since `before`.

    `options` and the answer are those of `affiliations.privacy.purge`.
    """
    rows = PartnerNetwork.objects.using(router.db_for_write(PartnerNetwork))
    return purge(rows.filter(seen_on__lt=before), **options)
