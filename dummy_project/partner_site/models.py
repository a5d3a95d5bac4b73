"""What the partner knows of the deal, and what they were called for."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

from django.db import models


class Deal(models.Model):
    """What the shop's staff handed to the partner; a real one keeps it in its own settings."""

    name = models.CharField(max_length=80, unique=True)
    shop_url = models.CharField(max_length=200)
    query_key = models.CharField(max_length=64)
    uid = models.CharField(max_length=8)
    secret = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name

    def link(self, path: str, place: str) -> str:
        """Return the affiliate link to a page of the shop; `place` tells the links apart."""
        return f"{self.shop_url}{path}?{urlencode({self.query_key: self.uid, 'sub1': place})}"


class ReceivedCallback(models.Model):
    """One call from the shop, genuine or not."""

    class Event(models.TextChoices):
        REGISTRATION = "registration", "Somebody registered"
        ORDER = "order", "Somebody ordered"

    event = models.CharField(max_length=20, choices=Event.choices)
    visitor_id = models.CharField(max_length=100)
    target = models.TextField()
    webhook_id = models.CharField(max_length=100, blank=True)
    timestamp = models.CharField(max_length=100, blank=True)
    signature = models.TextField(blank=True)
    verified = models.BooleanField()
    problem = models.CharField(max_length=200, blank=True)
    repeated = models.BooleanField(default=False)
    received_on = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-received_on", "-pk")

    def __str__(self) -> str:
        return self.webhook_id or self.target

    @property
    def is_test(self) -> bool:
        """Tell whether the shop only tried the address: such a call counts for nothing."""
        return self.webhook_id.startswith("test_")

    @property
    def details(self) -> dict[str, str]:
        """What the shop filled into the query of the callback URL, the empty ones left out."""
        return dict(parse_qsl(urlsplit(self.target).query))
