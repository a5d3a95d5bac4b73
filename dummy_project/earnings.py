"""Agree on what partners earn, and let them have earned for some months already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from affiliations.models import Conversion, Partner, Subscription, Visitor
from affiliations.money import Money
from affiliations.rewards import ledger, payouts, reviews, rules
from affiliations.rewards.models import (
    CommissionRule,
    Entry,
    Method,
    PartnerGroup,
    Payout,
    PayoutDestination,
    Review,
)
from affiliations.rewards.models.rules import LEAD
from affiliations.services import reverse_conversion
from affiliations.testing import Clock, freeze

from . import ways
from .shop.models import Order, Product
from .shop.services import place_order, refund_order

GROUP = "Friends of the kiln"
#: A partner without a site of the demo's own: it is told of nothing.
SHELF = "Shelf & Spoon"
CURRENCY = "EUR"
#: Where partners are paid, as they have told the shop's staff.
DESTINATIONS = {
    "Blog of Anna": (Method.PAYPAL, "Anna Lindqvist", "anna@blog-of-anna.example"),
    SHELF: (Method.WISE, "Marten de Wit", "marten@shelf-and-spoon.example"),
}
#: What everybody earns, what friends do, and what somebody who signs up is worth.
RULES: tuple[dict[str, Any], ...] = (
    {"name": "Orders", "trigger": "Order placed", "percent": Decimal(8)},
    {
        "name": "Orders that friends bring",
        "trigger": "Order placed",
        "percent": Decimal(10),
        "tiers": [[5, "12"]],
    },
    {
        "name": "Sign-ups",
        "trigger": "User registered",
        "flat_minor": 1_00,
        "currency": CURRENCY,
        "period_cap_minor": 20_00,
    },
)
#: How many days ago the past begins, and every how many days somebody orders.
PAST, PACE = 120, 3
#: What is ordered, again and again, and in which turns it is for the other partner.
BASKET = ("rain-teapot", "morning-mug", "reed-vase", "salt-bowl", "dusk-cup", "pebble-plate")
OF_SHELF = (1, 4, 5, 9, 14, 16, 20, 27, 33)
#: Turns in which somebody comes with a mail address that is thrown away, and what staff decide.
ODD = {8: "release", 19: "reject", 37: ""}
#: Turns whose orders come back, whole or in part, and how many days later.
BACK = {6: (None, 4), 13: (Money(10_00, CURRENCY), 9), 22: (None, 40)}
#: Days on which is paid out what is available. The last time staff have not got any further.
PAYDAYS = (60, 90, PAST - 1)
PHOTOGRAPHS = Money(25_00, CURRENCY)


def prepare(anna: Partner, *, past: bool) -> None:
    """Agree on what partners earn, unless that was done; with a past where nothing happened yet."""
    if CommissionRule.objects.exists():
        return
    past = past and not Conversion.objects.exists()
    # A rule holds from a few seconds after it was published on.
    with freeze(timezone.now() - (timedelta(days=PAST) if past else 2 * LEAD)) as clock:
        agree(anna)
        clock.now += LEAD
        if past:
            with untold(anna):
                live(anna, clock)


def agree(anna: Partner) -> None:
    """Publish the rules, and draft one that staff are still thinking about."""
    group = PartnerGroup.objects.create(name=GROUP)
    group.partners.add(anna)
    everybodys, friends, sign_ups = (CommissionRule(**fields) for fields in RULES)
    friends.group = group
    for rule in (everybodys, friends, sign_ups):
        rule.save()
        rules.publish(rule)
    draft = rules.draft_replacement(friends)
    draft.percent, draft.tiers = Decimal(12), []
    draft.save()
    pay_to(anna)


def pay_to(partner: Partner) -> None:
    """Note where a partner is paid."""
    method, name, email = DESTINATIONS[partner.name]
    holder = ledger.account_of(partner, CURRENCY).holder
    PayoutDestination.objects.create(holder=holder, method=method, name=name, email=email)


@contextmanager
def untold(partner: Partner) -> Iterator[None]:
    """Tell a partner nothing meanwhile: nobody wants to hear today what was months ago."""
    addresses = dict(partner.subscriptions.values_list("pk", "callback_url"))
    partner.subscriptions.update(callback_url="")
    yield
    for pk, address in addresses.items():
        partner.subscriptions.filter(pk=pk).update(callback_url=address)


def live(anna: Partner, clock: Clock) -> None:
    """Let customers order, send back, and be odd; let staff decide, and pay."""
    shelf = Partner.objects.create(name=SHELF, active=True)
    Subscription.objects.create(partner=shelf, trigger="Order placed")
    pay_to(shelf)
    begin = clock.now
    orders: dict[int, Order] = {}
    for day in range(1, PAST):
        clock.now = begin + timedelta(days=day)
        turn, rest = divmod(day, PACE)
        if not rest:
            orders[turn] = order(turn, shelf if turn in OF_SHELF else anna)
        for number, placed in orders.items():
            happen(number, placed, day - PACE * number)
        if day in PAYDAYS:
            thank(anna, day)
            pay(last=day == PAYDAYS[-1])
    clock.now = begin + timedelta(days=PAST)


def order(turn: int, partner: Partner) -> Order:
    """Let a new customer, whom a partner has sent, order something."""
    domain = "mailinator.com" if turn in ODD else "customers.example"
    user = User.objects.create_user(f"customer-{turn}", f"customer-{turn}@{domain}")
    product = Product.objects.get(slug=BASKET[turn % len(BASKET)])
    ways.come(user, turn)
    Visitor.objects.create(partner=partner, user=user, entry_point=f"https://kiln.example/{turn}")
    return place_order(user=user, product=product)


def happen(turn: int, placed: Order, days: int) -> None:
    """Let something come back, or be decided, that many days after it was ordered."""
    money, after = BACK.get(turn, (None, None))
    if days == after and money is None:
        refund_order(order=placed)
    elif days == after:
        reverse_conversion(Conversion.objects.get(reference=placed.number), money)
    decision = ODD.get(turn)
    if days == 2 and decision:
        review = Review.objects.get(entry__commission__conversion__reference=placed.number)
        staff = User.objects.filter(is_superuser=True).order_by("pk").first()
        getattr(reviews, decision)(review, by=staff)


def thank(anna: Partner, day: int) -> None:
    """Owe Anna something that no rule pays."""
    account = ledger.account_of(anna, CURRENCY)
    memo = "For the photographs in this month’s letter"
    ledger.post(account, PHOTOGRAPHS, kind=Entry.Kind.CREDIT, key=f"photographs-{day}", memo=memo)


def pay(*, last: bool) -> None:
    """Draft what is available; but for the last time, send it, and let the first by Wise fail."""
    batch = payouts.make_payouts(currency=CURRENCY)
    if batch is None or last:
        return
    payouts.approve_batch(batch)
    for method in Method:
        payouts.send_batch(batch, method)
    failed = Payout.objects.filter(state=Payout.State.FAILED).exists()
    for payout in batch.payouts.filter(state=Payout.State.SENT):
        if payout.method == Method.WISE and not failed:
            payouts.fail(payout, "The recipient’s bank has returned it")
        else:
            payouts.mark_paid(payout, f"demo-{payout.pk}")
