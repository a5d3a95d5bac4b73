"""Sell, and take back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from affiliations.models import Conversion
from affiliations.services import reverse_conversion

from .models import Order, Product

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@transaction.atomic
def place_order(*, user: User, product: Product) -> Order:
    """Sell one piece of a product at today's price.

    Saving the order is all that it takes: the trigger "Order placed" listens to it, and records the
    conversion and the partner's callback in this same transaction.
    """
    return Order.objects.create(
        user=user, product=product, total=product.price, currency=product.currency
    )


@transaction.atomic
def refund_order(*, order: Order) -> bool:
    """Give the money back, once, and tell whether this call did.

    A partner is credited for sales that last: the conversion of this order is taken back as well.
    """
    waiting = Order.objects.filter(pk=order.pk, refunded_on=None)
    if not waiting.update(refunded_on=timezone.now()):
        return False
    for conversion in Conversion.objects.filter(trigger="Order placed", reference=order.number):
        reverse_conversion(conversion)
    return True
