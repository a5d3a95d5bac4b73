"""Sell, and take back."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from affiliations.links import services as links
from affiliations.links.exceptions import NotCompleted, NothingToRefund
from affiliations.models import Conversion
from affiliations.money import Money
from affiliations.referrals import invoices
from affiliations.referrals.models import Member
from affiliations.services import reverse_conversion

from .models import Order, Product

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@transaction.atomic
def place_order(*, user: User, product: Product) -> Order:
    """Sell one piece of a product at today's price.

    For the partners, saving the order is all that it takes: the trigger "Order placed" listens to
    it, and records the conversion and the partner's callback in this same transaction. For the
    networks the purchase is completed, which pays out the click that led to it, if one did. What
    somebody has paid whom a friend has brought counts for the friend's credit.
    """
    order = Order.objects.create(
        user=user, product=product, total=product.price, currency=product.currency
    )
    # Most customers come through no link, and some buy what they came for a second time.
    with suppress(NotCompleted):
        links.complete(
            item_id=product.slug,
            user=user,
            amount=order.total,
            currency=order.currency,
            order_id=order.number,
        )
    if member := Member.objects.filter(user=user).first():
        invoices.pay(member, order.number, Money.of(order.total, order.currency))
    return order


@transaction.atomic
def refund_order(*, order: Order) -> bool:
    """Give the money back, once, and tell whether this call did.

    Partners are credited, and networks paid, for sales that last: the conversion of this order is
    taken back as well, and so is what a network was told.
    """
    waiting = Order.objects.filter(pk=order.pk, refunded_on=None)
    if not waiting.update(refunded_on=timezone.now()):
        return False
    for conversion in Conversion.objects.filter(trigger="Order placed", reference=order.number):
        reverse_conversion(conversion)
    with suppress(NothingToRefund):
        links.refund(item_id=order.product.slug, user=order.user, order_id=order.number)
    if member := Member.objects.filter(user=order.user, invoices__reference=order.number).first():
        invoices.refund(member, order.number)
    return True


def purchased_url(user: User, item_id: str) -> str | None:
    """Return where a user finds a product that is theirs: what AFFILIATE_LINKS_PURCHASED names."""
    kept = Order.objects.filter(user=user.pk, product__slug=item_id, refunded_on=None)
    order = kept.first()
    return order.get_absolute_url() if order else None


def client_ids(user: User) -> list[str]:
    """Return what other programs call a user: what AFFILIATE_TRACKING_CLIENT_IDS names."""
    return [user.get_username()]
