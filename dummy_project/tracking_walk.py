"""Go the way of Attribution.io's clients: a browser becomes a customer, and is asked about."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

from affiliations.tracking.client import Client
from affiliations.tracking.models import Property

from .seed import PROPERTY, PURCHASE
from .shop.models import Order
from .walk import Walk, require, said

ITEM = "/products/dusk-cup/"
#: As an advertisement leads there.
LANDING = "/products/dusk-cup/?utm_source=google&utm_medium=cpc&utm_campaign=autumn"


class TrackingWalk(Walk):
    """A customer who comes by an advertisement, and programs that tell of them, and ask."""

    title = "Attribution.io's way: from a cookie to a customer, told and asked by its client"

    def __init__(self, url: str, deadline: float) -> None:
        super().__init__(url, deadline)
        self.cookie = secrets.token_hex(8)
        prop = Property.objects.get(public_key=PROPERTY)
        # Staff would make a new one in the admin; it is shown nowhere.
        secret = prop.renew_secret()
        prop.save()
        base = f"{url}/attribution/"
        self.client = Client(PROPERTY, secret, base_url=base)

    def steps(self) -> tuple[Callable[[], Iterator[str]], ...]:
        """Return the steps in their order."""
        return (self.see, self.buy, self.identify, self.again, self.ask_about, self.refuse)

    def see(self) -> Iterator[str]:
        """A page tells that somebody has come by an advertisement, known by a cookie alone"""
        answer = self.post(type="pageview", url=self.url + LANDING, status=201)
        yield f"{said(answer)}, cookie {self.cookie}"

    def buy(self) -> Iterator[str]:
        """They sign up and order; the shop's own view records the purchase"""
        self.register()
        yield said(self.send(ITEM))
        self.order = Order.objects.get(user__username=self.name)
        yield f"order {self.order}, {self.order.total} {self.order.currency}"

    def identify(self) -> Iterator[str]:
        """A program that knows both says that cookie and customer are one person"""
        status = self.client.trigger_identity(self.cookie, client_id=self.name)
        require(status == 201, f"it was answered by {status}")
        yield f"POST identities → {status}, {self.cookie} is {self.name}"

    def again(self) -> Iterator[str]:
        """What is told twice is one event"""
        told = {"event_public_key": PURCHASE, "client_id": self.name, "transaction_id": "by phone"}
        for status in (201, 200):
            yield said(self.post(status=status, amount="12.00", currency="EUR", **told))

    def ask_about(self) -> Iterator[str]:
        """Asked who that is, the shop knows what brought them and what they are worth"""
        found = self.client.fetch_customer_info_full(self.name)
        require(found, f"nobody is known as {self.name}")
        touch = (found or {})["first_touch"]
        require(touch and touch["channel"] == "paid_search", f"they were brought by {touch}")
        yield f"{self.name} was brought by {touch['channel'].replace('_', ' ')}"
        worth = {"amount": str(self.order.total + 12), "currency": "EUR"}
        require((found or {})["revenue"] == [worth], f"they are worth {(found or {})['revenue']}")
        yield f"{(found or {})['conversions']} conversions, {worth['amount']} {worth['currency']}"
        names = {each["value"] for each in (found or {})["identities"]}
        require({self.cookie, self.name} <= names, f"they go by {names}")
        yield f"goes by {', '.join(sorted(names))}"

    def refuse(self) -> Iterator[str]:
        """Nobody is told of anybody without the secret"""
        answer = self.ask("GET", f"/attribution/api/v1/{PROPERTY}/customers/{self.name}", 401)
        yield said(answer)

    def post(self, *, status: int, **fields: Any) -> Any:
        """Tell of an event, as a page does; return the answer."""
        event = {"public_key": PROPERTY, "aliases": [self.cookie], **fields}
        return self.ask("POST", "/attribution/events", status, json={"event": event})
