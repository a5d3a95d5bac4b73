"""Go the way of an affiliate network: the ten steps of Affiliate Hopper, and what else it asks."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import requests
from django.contrib.auth.models import User
from django.urls import reverse

from affiliations.conf import settings
from affiliations.links.models import Transaction
from affiliations.models import ApiKey, Callback, Conversion

from .network.models import Click, Postback
from .seed import ROUTER_PATH
from .shop.models import Order, Product
from .walk import Walk, broken, browser, require, said

API = "/api/links"
ITEM = "rain-teapot"
#: The two links of the network's that lead to it, and where they land.
FIRST, SECOND = "xfghjde45", "WTY76R"
LANDINGS = {FIRST: "/products/rain-teapot/", SECOND: "/"}
SCOPES = ("links:read", "links:write", "links:transact")
State = Transaction.State


class NetworkWalk(Walk):
    """A customer who comes through an affiliate network's links, on two browsers."""

    title = "A network's way: the ten steps of Affiliate Hopper, and beyond"

    def __init__(self, url: str, deadline: float) -> None:
        super().__init__(url, deadline)
        self.second_browser = browser()
        # The shop's backend: it has no cookies, and a key instead, which is shown nowhere.
        self.backend = browser()
        self.key = ""
        self.link = self.router_link = self.landing = ""

    def steps(self) -> tuple[Callable[[], Iterator[str]], ...]:
        """Return the steps in their order, the document's ten first."""
        return (
            self.click,
            self.router,
            self.ident,
            self.transaction,
            self.landing_page,
            self.log_in,
            self.acquire,
            self.complete,
            self.relay,
            self.fulfilled,
            self.api,
            self.direct_visit,
            self.purchased,
            self.refund,
        )

    def run(self) -> bool:
        """Take the steps, and close what they used besides the browser."""
        with self.second_browser, self.backend:
            return super().run()

    # The document's ten

    def click(self) -> Iterator[str]:
        """The user clicks on the network's affiliate link"""
        page = self.ask("GET", "/network/")
        links = self.links_on(page)
        require(len(links) == 3, f"{len(links)} links on the network's page instead of 3")
        yield f"{said(page)}, {len(links)} links"
        self.link = links[0]
        self.router_link = self.follow(self.link)
        yield f"GET {self.link} → 302"
        yield f"the network's transaction: {Click.objects.get()}"

    def router(self) -> Iterator[str]:
        """The browser is redirected to the router, with the network's query"""
        parts = urlsplit(self.router_link)
        require(parts.path == f"{ROUTER_PATH}{FIRST}", f"it leads to {self.router_link}")
        query = parse_qs(parts.query)
        require(query["transaction_id"] == [str(Click.objects.get())], f"the query is {query}")
        yield f"Location: {self.router_link}"

    def ident(self) -> Iterator[str]:
        """An anonymous user_ident is made, and set as a cookie"""
        answer = self.ask("GET", self.router_link, 302, headers=self.referrer)
        self.landing = answer.headers["Location"]
        yield said(answer).replace(f"?{urlsplit(self.router_link).query}", "?…")
        cookies = answer.raw.headers.getlist("Set-Cookie")
        written = [each for each in cookies if each.startswith(f"{settings.COOKIE_NAME}=")]
        require(len(written) == 1, f"{len(written)} cookies {settings.COOKIE_NAME} instead of 1")
        for each in ("HttpOnly", "SameSite=Lax"):
            require(each in written[0], f"the cookie is not {each}: {written[0]}")
        yield f"Set-Cookie: {written[0]}"

    def transaction(self) -> Iterator[str]:
        """An unfulfilled transaction is there, with the network's id and its whole query"""
        found = self.the_only(Transaction.objects.filter(path=FIRST))
        require(found.state == State.OPEN, f"transaction {found} is {found.state}")
        require(found.user is None, f"transaction {found} is that of {found.user}")
        cookie = self.ident_of(self.browser)
        require(found.ident == cookie.partition(":")[0], f"transaction {found} is another's")
        network_id = str(Click.objects.get())
        require(found.network_id == network_id, f"its network id is {found.network_id!r}")
        query = dict(parse_qsl(urlsplit(self.router_link).query))
        require(found.query == query, f"its query is {found.query}, not {query}")
        yield f"transaction {found}: {found.state}, item {found.item_id}, ident {found.ident}"
        yield f"its network_id: {found.network_id}, its query: {found.query}"

    def landing_page(self) -> Iterator[str]:
        """The user is redirected to the marketing landing page"""
        wanted = self.url + LANDINGS[FIRST]
        require(self.landing == wanted, f"the router led to {self.landing}, not to {wanted}")
        yield f"Location: {self.landing}, without the network's parameters"
        yield said(self.ask("GET", self.landing))

    def log_in(self) -> Iterator[str]:
        """The anonymous user signs up, and is logged in"""
        answer, user = self.register()
        yield said(answer)
        yield f"user {user.pk}, {user}"

    def acquire(self) -> Iterator[str]:
        """All transactions of the user_ident are the user's, also those of a second browser"""
        user = self.user()
        first = self.the_only(Transaction.objects.filter(path=FIRST))
        require(first.user == user, f"transaction {first} is that of {first.user}")
        yield f"transaction {first}: {first.state}, user {first.user_id}"
        links = self.links_on(self.ask("GET", "/network/"))
        router_link = self.follow(links[1], browser=self.second_browser)
        self.ask("GET", router_link, 302, browser=self.second_browser, headers=self.referrer)
        cookie = self.ident_of(self.second_browser)
        require(cookie not in ("", self.ident_of(self.browser)), "both browsers have one ident")
        second = self.the_only(Transaction.objects.filter(path=SECOND))
        require(second.user is None, f"transaction {second} is that of {second.user}")
        yield f"on a second browser, through another link: transaction {second}, nobody's"
        self.key = ApiKey.objects.issue(name="--check", scopes=SCOPES)[1]
        told = self.call("POST", "/acquire", anonymous_ident=cookie, user_id=user.pk)
        require(told == {"acquired": 1, "fulfilled": 0}, f"/acquire answered {told}")
        yield f"POST {API}/acquire → {told}"
        yield self.valid(expected=True)

    def complete(self) -> Iterator[str]:
        """The user pays, and the purchase is completed, once"""
        yield said(self.send(f"/products/{ITEM}/"))
        order = self.order()
        yield f"order {order}, {order.total} {order.currency}"
        done = self.completed()
        require(done.path == SECOND, f"transaction {done} was completed, not the most recent one")
        require(done.order_id == order.number, f"transaction {done} has the order {done.order_id}")
        yield f"transaction {done}, the most recent one: {done.state}, {done.money}"
        told = self.call(
            "POST",
            "/complete",
            item_id=ITEM,
            user_id=order.user_id,
            AmountPaid=str(order.total),
            order_id=order.number,
        )
        again = {"completed": True, "transaction": done.pk}
        require(told == again, f"/complete answered {told}, not {again}")
        yield f"POST {API}/complete, for the same order → {told}"
        self.completed()
        paid = self.the_only(Conversion.objects.filter(trigger="Link completed"))
        yield f"one payout: conversion {paid.pk}: {paid}, {paid.money}"

    def relay(self) -> Iterator[str]:
        """The completion is relayed to the network, which accepts it"""
        done = self.completed()
        yield from self.accepted(done, done.relay, "approved")
        earned = done.visitor.successful_on if done.visitor else None
        require(earned, f"the visitor of transaction {done} is not successful")

    def fulfilled(self) -> Iterator[str]:
        """All transactions of the item and the user are fulfilled"""
        for each in Transaction.objects.filter(item_id=ITEM, user=self.user()).order_by("pk"):
            require(each.is_fulfilled, f"transaction {each} is {each.state}")
            payout = f"pays out {each.money}" if each.money else "pays nothing out"
            yield f"transaction {each}: {each.state}, {payout}"
        yield self.valid(expected=False)

    # What else the document asks for

    def api(self) -> Iterator[str]:
        """Links are listed, generated, looked up and deleted over the API, with a key only"""
        for method, path in (("GET", "/list"), ("POST", "/generate"), ("DELETE", "/delete")):
            refused = self.ask(method, API + path, 401, browser=self.backend)
            yield f"{said(refused)} without a key"
        made = self.call(
            "POST",
            "/generate",
            201,
            item_id="dusk-cup",
            MarketingLandingPage=f"{self.url}/products/dusk-cup/",
            CallbackURL=f"{self.url}/network/aff_lsr",
            FloorPrice="12.50",
        )
        path = made["UniquePath"]
        yield f"POST {API}/generate → UniquePath {path}"
        listed = {each["UniquePath"] for each in self.call("GET", "/list")["links"]}
        missing = {path, *LANDINGS} - listed
        require(not missing, f"/list does not have {missing}")
        yield f"GET {API}/list → {len(listed)} paths, {path} among them"
        told = self.call("GET", f"/{path}")
        wanted = {
            "mlp": f"{self.url}/products/dusk-cup/",
            "item_id": "dusk-cup",
            "floor_price": "12.50",
        }
        require(told == wanted, f"/{path} answered {told}, not {wanted}")
        yield f"GET {API}/{path} → {told}"
        self.call("DELETE", f"/delete?UniquePath={path}", 204)
        self.call("GET", f"/{path}", 404)
        self.ask("GET", f"{ROUTER_PATH}{path}", 404)
        yield f"DELETE {API}/delete?UniquePath={path} → 204, and it leads nowhere any more"

    def direct_visit(self) -> Iterator[str]:
        """Whoever does not come through the network is redirected, and nothing is recorded"""
        before = Transaction.objects.count()
        with browser() as stranger:
            elsewhere = {"Referer": "https://elsewhere.example/"}
            answer = self.ask(
                "GET", f"{ROUTER_PATH}{FIRST}", 302, browser=stranger, headers=elsewhere
            )
            require(not stranger.cookies, f"a cookie was set: {stranger.cookies}")
        landing = answer.headers["Location"]
        require(landing == self.url + LANDINGS[FIRST], f"it was led to {landing}")
        more = Transaction.objects.count() - before
        require(not more, f"{more} transactions more")
        yield f"{said(answer)}, Location: {landing}"
        yield "no transaction, no cookie"

    def purchased(self) -> Iterator[str]:
        """Whoever has purchased the item is led to it, not to its landing page"""
        answer = self.ask("GET", self.follow(self.link), 302, headers=self.referrer)
        order = self.order()
        landing = answer.headers["Location"]
        require(landing == order.get_absolute_url(), f"it led to {landing}, not to order {order}")
        yield f"Location: {landing}"
        yield said(self.ask("GET", landing))
        yield self.valid(expected=False)

    def refund(self) -> Iterator[str]:
        """A refund holds the payout back: the network is told, and whoever has to know is mailed"""
        order, sold = self.order(), self.completed()
        with redirect_stdout(io.StringIO()) as mails:
            answer = self.send(f"/orders/{order}/refund/", seen_on=f"/orders/{order}/")
        yield said(answer)
        sold.refresh_from_db()
        require(sold.state == State.REFUNDED, f"transaction {sold} is {sold.state}")
        yield f"transaction {sold}: {sold.state}"
        require(sold.conversion and sold.conversion.reversed_on, "its conversion is not reversed")
        yield f"conversion {sold.conversion_id} is reversed"
        yield from self.accepted(sold, sold.adjustment, "rejected")
        subject = f"Subject: Refund: hold the payout of transaction {sold.pk}"
        mail = mails.getvalue()
        require(subject in mail, f"no mail with “{subject}”, but {mail[:200]!r}")
        to = re.search(r"^To: (.+)$", mail, re.MULTILINE)
        yield f"{subject}, to {to[1] if to else 'nobody'}"

    # How to ask

    @property
    def referrer(self) -> dict[str, str]:
        """What a browser sends along from the network's page, redirected or not."""
        return {"Referer": f"{self.url}/network/"}

    def links_on(self, page: requests.Response) -> list[str]:
        """Return the network's own links on a page of its."""
        links = [html.unescape(each) for each in re.findall(r'href="([^"]+)"', page.text)]
        return [each for each in links if urlsplit(each).path == reverse("network:click")]

    def follow(self, link: str, browser: requests.Session | None = None) -> str:
        """Click on a link of the network's; return where it leads."""
        answer = self.ask("GET", link, 302, browser=browser, headers=self.referrer)
        return answer.headers["Location"]

    def call(self, method: str, path: str, status: int = 200, **fields: Any) -> Any:
        """Call the API as the shop's backend does, with its key; return the answer."""
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = self.ask(
            method,
            API + path,
            status,
            browser=self.backend,
            headers=headers,
            json=fields or None,
        )
        return answer.json() if answer.content else None

    def valid(self, *, expected: bool) -> str:
        """Return the evidence that the API knows whether something is open; raises FlowError."""
        told = self.call("POST", "/validate-item-id", item_id=ITEM, user_id=self.user().pk)
        require(told == {"valid": expected}, f"/validate-item-id answered {told}")
        return f"POST {API}/validate-item-id → {told}"

    def accepted(self, sold: Transaction, callback: Callback | None, status: str) -> Iterator[str]:
        """Show that the network was told of a transaction, and accepted it; raises FlowError."""
        if callback is None:
            broken(f"transaction {sold} has no call to the network")
        calls = Postback.objects.filter(click__transaction_id=sold.network_id)
        self.wait(lambda: Callback.objects.get(pk=callback.pk).state != Callback.State.PENDING)
        callback.refresh_from_db()
        call = next((each for each in calls if each.status == status), None)
        if call is None:
            broken(f"no call as {status} arrived; it is {callback.state} {callback.reason}".strip())
        require(call.accepted, f"the network refused it: {call.answer}")
        require(
            callback.state == Callback.State.DELIVERED,
            f"callback {callback} is {callback.state}: {callback.reason}",
        )
        require("security_token={security_token}" in callback.url, "the outbox holds the token")
        yield f"GET {call.target}"
        yield f"{call.answer} So callback {callback} is {callback.state}."
        conversion = Click.objects.get(transaction_id=sold.network_id).conversion
        require(conversion.status == status, f"the network has it as {conversion.status}")
        yield f"at the network: {conversion.amount} for {conversion.adv_sub}, {conversion.status}"

    def ident_of(self, browser: requests.Session) -> str:
        """Return the suite's cookie of a browser, "" if it has none."""
        return browser.cookies.get(settings.COOKIE_NAME) or ""

    def user(self) -> User:
        """Return the customer."""
        return User.objects.get(username=self.name)

    def order(self) -> Order:
        """Return what the customer has ordered."""
        return Order.objects.get(user__username=self.name, product=Product.objects.get(slug=ITEM))

    def completed(self) -> Transaction:
        """Return the one transaction that was completed; raises FlowError."""
        return self.the_only(Transaction.objects.filter(state=State.COMPLETED))

    def the_only(self, rows: Any) -> Any:
        """Return the one row there is; raises FlowError."""
        found = list(rows)
        what = rows.model._meta.verbose_name_plural
        require(len(found) == 1, f"{len(found)} {what} in the database instead of 1")
        return found[0]
