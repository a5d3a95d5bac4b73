"""Go the way of friends: somebody brings somebody, and both are credited."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from affiliations.money import Money
from affiliations.referrals.models import Member
from affiliations.rewards import ledger

from . import seed
from .billing.models import Credit
from .shop.models import Order
from .walk import Walk, browser, require, said

CREDIT = Money(seed.FRIENDS["credit_minor"], "EUR")
REWARD = Money(seed.FRIENDS["reward_minor"], "EUR")
#: Of 24 and 54 euros: together they reach the target, and neither does alone.
ITEMS = ("/products/morning-mug/", "/products/reed-vase/")


class FriendsWalk(Walk):
    """A customer who brings a friend, and the friend."""

    title = "The friends' way: from a share link to two credits in the billing system"
    #: Who brings, and by which link.
    indicator = ""
    link = ""

    def steps(self) -> tuple[Callable[[], Iterator[str]], ...]:
        """Return the steps in their order."""
        return (self.share, self.follow, self.sign_up, self.pay, self.refund)

    def share(self) -> Iterator[str]:
        """A customer finds a share link on the page “Invite friends”"""
        self.register()
        page = self.ask("GET", "/friends/")
        links = re.findall(r'<p class="aff-link"><a href="([^"]+)"', page.text)
        require(len(links) == 1, f"{page.url} has {len(links)} share links instead of 1")
        self.link, self.indicator = links[0], self.member().user_hash
        yield f"{said(page)}, shows {self.link}"
        require("no-store" in page.headers["Cache-Control"], "caches may keep it")
        # The friend's browser is another one.
        self.browser.close()
        self.browser = browser()
        self.name = f"friend-of-{self.name}"

    def follow(self) -> Iterator[str]:
        """A friend follows it, and the address shows nothing of it any more"""
        answer = self.ask("GET", self.link, 302)
        location = answer.headers["Location"]
        require(urlsplit(location).query == "", f"it leads to {location}")
        yield f"{said(answer)}, to {location}"

    def sign_up(self) -> Iterator[str]:
        """The friend signs up: credited at once, and so is, for later, who brought them"""
        answer, _user = self.register()
        yield said(answer)
        member = self.member()
        indicator = member.indicator
        require(indicator is not None, "nobody is said to have brought them")
        yield f"member {member}, brought by {indicator}"
        yield self.has(member, CREDIT.minor, CREDIT.minor)
        yield self.has(self.bringer(), REWARD.minor, 0)

    def pay(self) -> Iterator[str]:
        """The friend's second order reaches the target: the credit is acquired, once"""
        for item in ITEMS:
            yield self.has(self.bringer(), REWARD.minor, 0)
            yield said(self.send(item))
        yield f"paid: {self.member().paid}"
        yield self.has(self.bringer(), REWARD.minor, REWARD.minor)
        yield from self.told(2)

    def refund(self) -> Iterator[str]:
        """An order that is refunded takes it back, and the billing system is told"""
        order = Order.objects.filter(user__username=self.name).latest("pk")
        yield said(self.send(f"/orders/{order}/refund/", seen_on=f"/orders/{order}/"))
        yield self.has(self.bringer(), REWARD.minor, 0)
        yield from self.told(3)

    def member(self) -> Member:
        """Return who the customer is in the program."""
        return Member.objects.get(user__username=self.name)

    def bringer(self) -> Member:
        """Return who has brought the friend."""
        return Member.objects.get(user_hash=self.indicator)

    def has(self, member: Member, total: int, available: int) -> str:
        """Return the evidence of what a member is owed; raises FlowError."""
        found = ledger.balance(ledger.account_of(member.holder, "EUR"))
        require(
            found[:2] == (total, available),
            f"{member} has {found[:2]}, not {(total, available)}",
        )
        owed = Money(total, "EUR")
        return f"{member}: {owed}, of which {Money(available, 'EUR')} are available"

    def told(self, number: int) -> Iterator[str]:
        """Yield what the billing system was told; raises FlowError where that is not so much."""
        hashes = (self.indicator, self.member().user_hash)
        calls = Credit.objects.filter(user_hash__in=hashes).order_by("pk")
        self.wait(lambda: calls.count() >= number)
        require(calls.count() == number, f"{calls.count()} calls arrived instead of {number}")
        for call in calls:
            yield f"billing: {call.operation} of {call.amount} {call.currency} to {call.user_hash}"
