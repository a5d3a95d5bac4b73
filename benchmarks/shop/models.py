from django.conf import settings
from django.db import models


class BaseOrder(models.Model):
    # Without a constraint: tables of an app without migrations are made before the users' table.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", db_constraint=False
    )
    total = models.DecimalField(max_digits=12, decimal_places=2)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return str(self.pk)


class Order(BaseOrder):
    """An order whose creation is a trigger."""


class PlainOrder(BaseOrder):
    """The same order in a site without affiliates."""
