"""Walk through the whole flow over real HTTP, and show the evidence of each step."""

from __future__ import annotations

import html
import os
import re
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import requests
from django.contrib.auth.models import User
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, OperationalError, connection

from affiliations import signing
from affiliations.exceptions import InvalidSignature
from affiliations.models import Callback, Conversion, Visitor

from . import seed
from .partner_site.models import Deal, ReceivedCallback
from .server import Demo
from .shop.models import Order

#: Seconds that all of it may take.
LIMIT = 60
#: Seconds before that at which a step gives up waiting, so that there is time to tidy up.
TIDY = 5
#: Seconds that a page may take, and a callback.
PAGE = 10
PATIENCE = 15
#: As a browser: a click of a robot is not recorded.
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
LANDING = "/products/rain-teapot/"
PREFIX = "test_affiliations_demo_"


class FlowError(Exception):
    """A step did not come out as it has to; says why."""


def require(holds: object, otherwise: str) -> None:
    """Go on if something holds; raises FlowError."""
    if not holds:
        raise FlowError(otherwise)


def check() -> int:
    """Walk through the flow; print each step with its evidence; return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    started = time.monotonic()
    watchdog = threading.Timer(LIMIT, give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        with temporary_database() as name, demo() as shop:
            print(f"  {shop.url}, {connection.display_name} database {name}\n", flush=True)
            done = Walk(shop.url, started + LIMIT - TIDY).run()
    finally:
        watchdog.cancel()
    took = f"{time.monotonic() - started:.1f} s"
    print(f"\n  Everything holds ({took})." if done else f"\n  It does not hold ({took}).")
    return 0 if done else 1


def give_up() -> None:
    """End the process: something hangs where no step can see it."""
    print(f"✗ It took longer than {LIMIT} s.", file=sys.stderr, flush=True)
    if connection.vendor != "sqlite":
        print(f"  Its database, {PREFIX}…, may be left behind.", file=sys.stderr, flush=True)
    os._exit(1)


@contextmanager
def temporary_database() -> Iterator[str]:
    """Give the process a new, migrated database beside the one of the settings, and drop it."""
    own = connection.settings_dict["NAME"]
    name = PREFIX + secrets.token_hex(4)
    with tempfile.TemporaryDirectory() as directory:
        test = connection.settings_dict["TEST"]
        test["NAME"] = str(Path(directory, name)) if connection.vendor == "sqlite" else name
        if connection.vendor == "mysql":
            test["CHARSET"] = "utf8mb4"
        connection.creation.create_test_db(verbosity=0)
        try:
            yield name
        finally:
            drop(own)


def drop(own: str) -> None:
    """Drop the temporary database, once the last request has let go of it."""
    for patience in (0.1, 0.4, 2):
        try:
            return connection.creation.destroy_test_db(own, verbosity=0)
        except OperationalError:
            time.sleep(patience)
    return connection.creation.destroy_test_db(own, verbosity=0)


@contextmanager
def demo() -> Iterator[Demo]:
    """Open the shop on a free port."""
    shop = Demo()
    try:
        seed.prepare(shop.url)
        shop.start()
        yield shop
    finally:
        shop.stop()


class Walk:
    """One customer's way from the partner's page to the partner's credit, step by step.

    A step yields its evidence, a line at a time, and raises FlowError where the flow is broken.
    """

    def __init__(self, url: str, deadline: float) -> None:
        self.url = url
        self.deadline = deadline
        self.browser = requests.Session()
        self.browser.trust_env = False
        self.browser.headers["User-Agent"] = BROWSER
        self.link = ""
        self.name = f"customer-{secrets.token_hex(3)}"

    def run(self) -> bool:
        """Take the steps until one fails; tell whether all came out well."""
        steps = (
            self.partner_page,
            self.click,
            self.sign_up,
            self.order,
            self.callbacks,
            self.success,
            self.refund,
        )
        with self.browser:
            return all(self.take(number, step) for number, step in enumerate(steps, start=1))

    def take(self, number: int, step: Callable[[], Iterator[str]]) -> bool:
        """Take one step and print its evidence; tell whether it came out well."""
        print(f"{number} {step.__doc__}")
        try:
            for evidence in step():
                print(f"  ✓ {evidence}", flush=True)
        except FlowError as error:
            print(f"  ✗ {error}", flush=True)
            return False
        except (requests.RequestException, ObjectDoesNotExist, DatabaseError) as error:
            print(f"  ✗ {type(error).__name__}: {error}", flush=True)
            return False
        return True

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
        fields = {"username": self.name, "password": secrets.token_urlsafe()}
        yield said(self.send("/sign-up/", **fields))
        user = User.objects.filter(username=self.name).first()
        require(user, f"no user {self.name} in the database")
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

    def ask(self, method: str, path: str, status: int = 200, **options: Any) -> requests.Response:
        """Make one request, as a browser that follows no redirect; raises FlowError."""
        left = self.deadline - time.monotonic()
        require(left > 0, "the time is up")
        url = urljoin(self.url, path)
        answer = self.browser.request(
            method, url, timeout=min(left, PAGE), allow_redirects=False, **options
        )
        require(
            answer.status_code == status,
            f"{method} {url} answered {answer.status_code}, not {status}",
        )
        return answer

    def send(self, path: str, *, seen_on: str = "", **fields: str) -> requests.Response:
        """Fill in a form that is seen on a page and send it; it has to be accepted."""
        page = self.ask("GET", seen_on or path)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        if token is None:
            raise FlowError(f"{page.url} has no form to send")
        data = {"csrfmiddlewaretoken": token[1], **fields}
        return self.ask("POST", path, 302, data=data, headers={"Referer": page.url})

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

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait for something, as long as there is time."""
        patience = min(self.deadline, time.monotonic() + PATIENCE)
        while not until() and time.monotonic() < patience:
            time.sleep(0.1)


def said(answer: requests.Response) -> str:
    """Return a request and its answer in a line."""
    return f"{answer.request.method} {answer.url} → {answer.status_code}"


def headers_of(call: ReceivedCallback) -> dict[str, str]:
    """Return the headers of Standard Webhooks that a call came with."""
    return {
        "webhook-id": call.webhook_id,
        "webhook-timestamp": call.timestamp,
        "webhook-signature": call.signature,
    }
