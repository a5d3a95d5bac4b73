"""Go the way of a partner with a site of their own: what `--check` shows first."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urljoin, urlsplit

from affiliations import signing
from affiliations.exceptions import InvalidSignature
from affiliations.models import Callback, Conversion, Visitor

from . import seed
from .partner_site.models import Deal, ReceivedCallback
from .shop.models import Order
from .walk import FlowError, Walk, require, said

LANDING = "/products/rain-teapot/"


class PartnerWalk(Walk):
    """A customer who comes from the partner's page."""

    title = "A partner's way: from their own page to their credit"
    #: What the partner's page links to.
    link = ""

    def steps(self) -> tuple[Callable[[], Iterator[str]], ...]:
        """Return the steps in their order."""
        return (
            self.partner_page,
            self.click,
            self.sign_up,
            self.order,
            self.callbacks,
            self.success,
            self.refund,
        )

    def partner_page(self) -> Iterator[str]:
        """The partner's page links to the shop"""
        page = self.ask("GET", "/partner-site/")
        yield said(page)
        deal = Deal.objects.get()
        links = [html.unescape(each) for each in re.findall(r'href="([^"]+)"', page.text)]
        ours = [each for each in links if f"{deal.query_key}={deal.uid}" in each]
        require(ours, f"no link on the page carries {deal.query_key}={deal.uid}")
        self.link = next((each for each in ours if LANDING in each), ours[0])
        yield f"{len(ours)} affiliate links, such as {self.link}"

    def click(self) -> Iterator[str]:
        """A click on a link is recorded, and leads on without the affiliate part"""
        referrer = {"Referer": f"{self.url}/partner-site/"}
        answer = self.ask("GET", self.link, 302, headers=referrer)
        landing = urljoin(self.link, answer.headers["Location"])
        yield f"{said(answer)}, Location: {answer.headers['Location']}"
        key = Deal.objects.get().query_key
        clean, dirty = urlsplit(landing), urlsplit(self.link)
        require(key not in parse_qs(clean.query), f"the Location still holds {key}")
        require(clean[:3] == dirty[:3], f"the redirect leads elsewhere: {landing}")
        kept = answer.headers.get("Cache-Control", "")
        require("no-store" in kept, f"the redirect may be cached: Cache-Control is {kept!r}")
        yield f"Cache-Control: {kept}"
        yield said(self.ask("GET", landing))
        visitor = self.visitor()
        require(visitor.entry_point == landing, f"the entry point is {visitor.entry_point}")
        yield f"visitor {visitor.pk} of {visitor.partner}, entered at {visitor.entry_point}"

    def sign_up(self) -> Iterator[str]:
        """The visitor signs up"""
        answer, user = self.register()
        yield said(answer)
        visitor = self.visitor()
        require(visitor.user == user, f"visitor {visitor.pk} has the user {visitor.user}")
        yield f"user {user}, and visitor {visitor.pk} is known to be them"
        yield self.converted("User registered")

    def order(self) -> Iterator[str]:
        """The visitor orders"""
        yield said(self.send(LANDING))
        order = Order.objects.filter(user__username=self.name).first()
        if order is None:
            raise FlowError(f"no order of {self.name} in the database")
        yield f"order {order}, {order.total} {order.currency}"
        yield self.converted("Order placed")

    def callbacks(self) -> Iterator[str]:
        """The partner's site is called for both, and finds both calls genuine"""
        visitor = self.visitor()
        secret = signing.decode_secret(Deal.objects.get().secret)
        for event in ReceivedCallback.Event.values:
            call = self.received(event, visitor)
            yield f"GET {call.target}"
            yield f"webhook-id: {call.webhook_id}"
            yield f"webhook-timestamp: {call.timestamp}, webhook-signature: {call.signature}"
            require(call.verified, f"the partner refused it: {call.problem}")
            try:
                signing.verify([secret], headers_of(call), call.target.encode(), int(time.time()))
            except InvalidSignature as error:
                raise FlowError(f"its signature does not verify: {error}") from error
            yield "its signature fits the request"
        page = self.ask("GET", "/partner-site/log/")
        shown = page.text.count("signature verified")
        require(shown == len(seed.SUBSCRIPTIONS), f"the log shows {shown} verified calls")
        yield f"{said(page)}, shows {shown} verified calls"

    def success(self) -> Iterator[str]:
        """The visitor is successful, and nothing is left to deliver"""
        visitor = self.visitor()
        require(visitor.successful_on, f"visitor {visitor.pk} has no successful_on")
        yield f"visitor {visitor.pk}: successful_on {visitor.successful_on:%Y-%m-%d %H:%M:%S} UTC"
        delivered = Callback.State.DELIVERED
        self.wait(lambda: not Callback.objects.exclude(state=delivered).exists())
        for callback in Callback.objects.order_by("pk"):
            require(callback.state == delivered, f"callback {callback} is {callback.state}")
            attempt = callback.attempt_log.latest("number")
            yield f"callback {callback}: {callback.state}, attempt {attempt}, {attempt.status}"

    def refund(self) -> Iterator[str]:
        """A refund takes the order's conversion back, and only that"""
        order = Order.objects.get(user__username=self.name)
        yield said(self.send(f"/orders/{order}/refund/", seen_on=f"/orders/{order}/"))
        taken_back = list(Conversion.objects.exclude(reversed_on=None))
        triggers = [conversion.trigger for conversion in taken_back]
        require(triggers == ["Order placed"], f"taken back: {', '.join(triggers) or 'nothing'}")
        yield f"conversion {taken_back[0].pk}, {taken_back[0]}, is reversed"

    def visitor(self) -> Visitor:
        """Return the one visitor there is; raises FlowError."""
        visitors = list(Visitor.objects.select_related("partner", "user"))
        require(len(visitors) == 1, f"{len(visitors)} visitors in the database instead of 1")
        return visitors[0]

    def converted(self, trigger: str) -> str:
        """Return the evidence that a trigger converted, once; raises FlowError."""
        found = list(Conversion.objects.filter(trigger=trigger, visitor=self.visitor()))
        require(len(found) == 1, f"{len(found)} conversions of {trigger!r} instead of 1")
        worth = f", {found[0].money}" if found[0].money else ""
        return f"conversion {found[0].pk}: {found[0]}{worth}"

    def received(self, event: str, visitor: Visitor) -> ReceivedCallback:
        """Return what the partner's site was called for an event, once it was; raises FlowError."""
        calls = ReceivedCallback.objects.filter(event=event, visitor_id=str(visitor.pk))
        self.wait(calls.exists)
        call = calls.order_by("-verified", "pk").first()
        if call is None:
            rows = Callback.objects.order_by("pk")
            outbox = "; ".join(f"{row.url} is {row.state} {row.reason}".strip() for row in rows)
            raise FlowError(f"no call for {event!r} arrived; the outbox: {outbox or 'empty'}")
        return call


def headers_of(call: ReceivedCallback) -> dict[str, str]:
    """Return the headers of Standard Webhooks that a call came with."""
    return {
        "webhook-id": call.webhook_id,
        "webhook-timestamp": call.timestamp,
        "webhook-signature": call.signature,
    }
