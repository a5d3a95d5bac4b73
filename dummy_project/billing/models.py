"""What customers have to their credit."""

from django.db import models


class Credit(models.Model):
    """One call of the shop's; what is told twice, by the same id, is credited once."""

    webhook_id = models.CharField(max_length=100, unique=True)
    user_hash = models.CharField(max_length=200)
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=3)
    program = models.CharField(max_length=200)
    operation = models.CharField(max_length=40)
    received_on = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.user_hash}: {self.amount} {self.currency}"
