from django.conf import settings
from django.db import models

from tests.shop.signals import order_paid


class Order(models.Model):
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True
    )
    number = models.CharField(max_length=40, unique=True)
    total = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=3, default="EUR")
    paid = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.number

    def pay(self) -> None:
        """Mark the order as paid and announce it by a signal of the shop's own."""
        self.paid = True
        self.save(update_fields=["paid"])
        order_paid.send(sender=Order, instance=self)
