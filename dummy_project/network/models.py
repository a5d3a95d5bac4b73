"""What the network keeps: offers, clicks on them, and what advertisers reported of these."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from urllib.parse import parse_qsl, quote, urlsplit

from django.db import models

MACRO = re.compile(r"\{(\w+)\}")
#: Characters that are kept of what anybody may have written into an address.
MAX_TEXT = 100
MAX_TARGET = 2_000


def new_transaction_id() -> str:
    """Return the id of a click: 30 hexadecimal digits, the first two of them 10."""
    return "10" + secrets.token_hex(14)


class Offer(models.Model):
    """What an advertiser pays for, and where clicks on it lead."""

    offer_id = models.PositiveIntegerField(primary_key=True)
    advertiser = models.CharField(max_length=80)
    name = models.CharField(max_length=80)
    percent = models.PositiveSmallIntegerField()
    url = models.CharField(max_length=1000)
    security_token = models.CharField(max_length=100)

    class Meta:
        ordering = ("offer_id",)

    def __str__(self) -> str:
        return f"{self.name} ({self.offer_id})"

    def address(self, values: Mapping[str, str]) -> str:
        """Return where a click leads: the offer's address with its macros filled in."""
        return MACRO.sub(lambda macro: quote(values.get(macro[1], ""), safe=""), self.url)


class Click(models.Model):
    """One click on a publisher's link."""

    transaction_id = models.CharField(
        max_length=30, unique=True, default=new_transaction_id, editable=False
    )
    offer = models.ForeignKey(Offer, models.CASCADE, related_name="clicks")
    aff_id = models.CharField(max_length=MAX_TEXT, blank=True)
    aff_sub = models.CharField(max_length=MAX_TEXT, blank=True)
    clicked_on = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-clicked_on", "-pk")

    def __str__(self) -> str:
        return self.transaction_id

    @property
    def on(self) -> datetime:
        """When it came in."""
        return self.clicked_on


class Conversion(models.Model):
    """The sale that a click led to; there is one of a click at most."""

    class Status(models.TextChoices):
        APPROVED = "approved"
        REJECTED = "rejected"

    click = models.OneToOneField(Click, models.CASCADE, related_name="conversion")
    unique_id = models.CharField(max_length=MAX_TEXT, unique=True, null=True)  # noqa: DJ001
    adv_sub = models.CharField(max_length=MAX_TEXT, blank=True)
    amount = models.DecimalField(max_digits=11, decimal_places=2)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.APPROVED)
    converted_on = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-converted_on", "-pk")

    def __str__(self) -> str:
        return f"{self.click}, {self.amount}"

    @property
    def earned(self) -> Decimal:
        """What the publisher gets of it."""
        share = self.amount * self.click.offer.percent / 100
        return share.quantize(Decimal("0.01")) if self.status == "approved" else Decimal(0)


class Postback(models.Model):
    """One call of an advertiser's, or of whoever pretends to be one, and what it was told."""

    click = models.ForeignKey(Click, models.CASCADE, null=True, related_name="postbacks")
    target = models.CharField(max_length=MAX_TARGET)
    accepted = models.BooleanField()
    answer = models.CharField(max_length=200)
    received_on = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-received_on", "-pk")

    def __str__(self) -> str:
        return self.target

    @property
    def on(self) -> datetime:
        """When it came in."""
        return self.received_on

    @property
    def status(self) -> str:
        """What is to become of the sale, as the advertiser says."""
        return self.details.get("status", "approved")

    @property
    def details(self) -> dict[str, str]:
        """What the advertiser told, but for the empty."""
        return dict(parse_qsl(urlsplit(self.target).query))
