"""Go the way of the money: from an order to the partner's own account."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from io import StringIO
from urllib.parse import urljoin

from django.core.management import call_command
from django.core.management.base import CommandError

from affiliations.models import Conversion, Partner
from affiliations.money import Money
from affiliations.rewards import ledger, payoutfiles, payouts
from affiliations.rewards.explaining import explain
from affiliations.rewards.models import Account, Entry, Method, Payout

from . import seed
from .shop.models import Order
from .walk import Walk, broken, require, said

ITEM = "/products/rain-teapot/"
LOG = "/partner-site/log/"
#: What an order of it earns: 10 % of 68.00 EUR.
EARNED = Money(6_80, "EUR")
PHOTOGRAPHS = Money(60_00, "EUR")


class EarningsWalk(Walk):
    """Another customer of the partner's, and what the partner is paid in the end."""

    title = "The money's way: from an order to the partner's own account"
    #: What the partner was owed before, in minor units.
    before = 0

    def steps(self) -> tuple[Callable[[], Iterator[str]], ...]:
        """Return the steps in their order."""
        return (
            self.earn,
            self.see,
            self.refund,
            self.draft,
            self.hand_over,
            self.settle,
            self.audit,
        )

    def earn(self) -> Iterator[str]:
        """An order earns its partner a commission, which is held"""
        page = self.ask("GET", "/partner-site/")
        links = [html.unescape(each) for each in re.findall(r'href="([^"]+)"', page.text)]
        link = next((each for each in links if ITEM in each), "") or broken(f"no link to {ITEM}")
        answer = self.ask("GET", link, 302, headers={"Referer": page.url})
        self.ask("GET", urljoin(link, answer.headers["Location"]))
        self.register()
        self.before = ledger.balance(self.account()).total
        yield said(self.send(ITEM))
        order = self.order()
        yield f"order {order}, {order.total} {order.currency}"
        entries = self.entries()
        require(len(entries) == 1, f"{len(entries)} entries are posted for it instead of 1")
        entry = entries[0]
        require(entry.money == EARNED, f"it has earned {entry.money}, not {EARNED}")
        yield f"entry {entry.pk}: {entry.money} for {entry.account}"
        yield from explain(self.conversion()).splitlines()
        yield self.owed(self.before + EARNED.minor, available=0)

    def see(self) -> Iterator[str]:
        """The shop's page says what it has earned, and the partner's what all of them have"""
        total = Money(self.before + EARNED.minor, "EUR")
        for path, wanted in (("/", f"earned {EARNED}"), (LOG, f"earned <strong>{total}</strong>")):
            page = self.ask("GET", path)
            require(wanted in page.text, f"{page.url} does not say “{wanted}”")
            yield f"{said(page)}, says “{wanted}”"

    def refund(self) -> Iterator[str]:
        """A refund takes the commission back"""
        order = self.order()
        yield said(self.send(f"/orders/{order}/refund/", seen_on=f"/orders/{order}/"))
        entry, *reversals = self.entries()
        require(len(reversals) == 1, f"{len(reversals)} entries take it back instead of 1")
        back = reversals[0]
        require(back.reverses == entry, f"entry {back.pk} reverses {back.reverses}, not {entry}")
        yield f"entry {back.pk}: {back.money}, which reverses entry {entry.pk}"
        yield self.owed(self.before, available=0)

    def draft(self) -> Iterator[str]:
        """What is available is drafted, once, and what is held is not"""
        entry = ledger.post(
            self.account(),
            PHOTOGRAPHS,
            kind=Entry.Kind.CREDIT,
            key=f"photographs-{self.name}",
            memo="For photographs",
        )
        yield f"entry {entry.pk}, a credit: {entry.money}, available at once"
        yield self.owed(self.before + PHOTOGRAPHS.minor, available=PHOTOGRAPHS.minor)
        yield from self.manage("make_payouts", currency=["EUR"])
        payout = self.payout()
        require(payout.money == PHOTOGRAPHS, f"drafted are {payout.money}, not {PHOTOGRAPHS}")
        yield f"payout {payout}: {payout.state}, {payout.money}"
        yield self.owed(self.before, available=0)
        require(payouts.make_payouts(currency="EUR") is None, "a second run drafts something")
        yield "a second run drafts nothing"

    def hand_over(self) -> Iterator[str]:
        """Approved, it is sent to where the partner is paid, by a file"""
        payout = self.payout()
        require(payouts.approve_batch(payout.batch) == 1, "there is no draft to approve")
        sent = payouts.send_batch(payout.batch, Method.PAYPAL)
        require(sent == 1, f"{sent} payouts are sent instead of 1")
        payout.refresh_from_db()
        yield f"payout {payout}: {payout.state}, to {payout.name}, {payout.email}"
        for name, content in payoutfiles.files(payout.batch, Method.PAYPAL):
            text = content.decode().strip()
            require(payout.reference in text, f"{name} does not name {payout.reference}: {text}")
            yield f"{name}: {text}"

    def settle(self) -> Iterator[str]:
        """The provider's file says that it has arrived, and does so once"""
        payout = self.payout()
        answer = f"Customer ID,Status,Amount\n{payout.reference},Completed,{payout.money.amount}\n"
        lines = payoutfiles.read(answer.encode())
        yield f"read: {answer.splitlines()[1]}"
        results = [payoutfiles.apply(lines) for _ in range(2)]
        require([each.paid for each in results] == [1, 0], f"it came to {results}")
        payout.refresh_from_db()
        require(payout.state == Payout.State.PAID, f"payout {payout} is {payout.state}")
        yield f"payout {payout}: {payout.state}, settled on {payout.settled_on:%Y-%m-%d}"
        yield self.owed(self.before, available=0)

    def audit(self) -> Iterator[str]:
        """Recomputed from all conversions and rules, nothing differs"""
        yield from self.manage("audit_ledger")

    def manage(self, command: str, **options: object) -> Iterator[str]:
        """Run one of the suite's commands and yield what it says; raises FlowError."""
        told = StringIO()
        try:
            call_command(command, stdout=told, stderr=StringIO(), **options)
        except CommandError as error:
            broken(f"manage {command}: {error} {told.getvalue()}".strip())
        for line in told.getvalue().splitlines():
            yield f"manage {command}: {' '.join(line.split())}"

    def account(self) -> Account:
        """Return the partner's account."""
        return ledger.account_of(Partner.objects.get(name=seed.PARTNER), "EUR")

    def owed(self, minor: int, *, available: int) -> str:
        """Return the evidence that so much is owed to the partner; raises FlowError."""
        found = ledger.balance(self.account())
        wanted = (minor, available)
        require(found[:2] == wanted, f"owed and available are {found[:2]}, not {wanted}")
        owed, held = Money(found.total, "EUR"), Money(found.held, "EUR")
        return f"owed to {seed.PARTNER}: {owed}, of which {held} are held"

    def order(self) -> Order:
        """Return what the customer has ordered."""
        return Order.objects.get(user__username=self.name)

    def conversion(self) -> Conversion:
        """Return what the order has led to."""
        return Conversion.objects.get(trigger="Order placed", reference=self.order().number)

    def entries(self) -> list[Entry]:
        """Return what is posted for the order."""
        rows = Entry.objects.filter(commission__conversion=self.conversion())
        return list(rows.select_related("account__partner", "reverses").order_by("pk"))

    def payout(self) -> Payout:
        """Return what the partner is paid."""
        rows = Payout.objects.filter(account=self.account())
        return rows.select_related("account", "batch").latest("pk")
