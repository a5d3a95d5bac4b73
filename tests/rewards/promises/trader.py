"""A site's process that does anything at all that moves money, at random.

What chaos_worker.py does in the role "trade"; test_many_at_once.py runs many of it at once.
"""

import json
import random
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import router
from django.db.models import QuerySet

from affiliations import savepoints
from affiliations.exceptions import InvalidMoney, InvalidTransition
from affiliations.models import Conversion
from affiliations.money import Money
from affiliations.rewards import commissions, ledger, payouts, reviews
from affiliations.rewards.exceptions import InsufficientBalance
from affiliations.rewards.models import Entry, Payout, PayoutBatch, Review
from affiliations.services import record_conversion, reverse_conversion

ORDER = "Order placed"
CURRENCIES = ("EUR", "USD")
#: Holders that only get credits, and spend them.
MEMBERS = 4
#: What the documentation says that a call may raise.
DOCUMENTED = (InvalidMoney, InvalidTransition, InsufficientBalance)
#: How often each step is taken, of a hundred or so.
WEIGHTS = {
    "convert": 30,
    "refund": 20,
    "decide": 10,
    "pay_out": 6,
    "settle": 20,
    "spend": 10,
    "post": 8,
}
#: How many of the latest rows are picked from, so that many pick the same.
NEAR = 20


def everybody(eligible):
    """Credit a conversion to all visitors who come into question, in equal parts."""
    return [(each, 1 / len(eligible)) for each in eligible]


def odd(commission):
    """Hold every fourth conversion for review."""
    return "a fourth" if commission.conversion_id % 4 == 0 else ""


def trade(
    *, name: str, steps: int, visitors: list[int], book: str, only: tuple[str, ...] = ()
) -> None:
    """Take so many steps, or only those of that name, and note in the book what each came to."""
    settings.AFFILIATE_ATTRIBUTION = everybody
    settings.AFFILIATE_HOLD = timedelta(0)
    settings.AFFILIATE_FLAGS = (odd,)
    settings.AFFILIATE_PAYOUT_MINIMUM = dict.fromkeys(CURRENCIES, 1)
    trader = Trader(name, visitors, only)
    if not only:
        # Soon a run may have paid out all that there is to spend.
        trader.take(trader.spend)
    for _ in range(steps):
        trader.step()
    Path(book, name).write_text(json.dumps(vars(trader.notes)))


class Notes:
    """What a trader knows that it has done."""

    def __init__(self):
        self.counts = Counter()
        #: [transition, payout's number] of those that were its own doing.
        self.won = []
        #: What was posted by which key: [holder, currency, minor].
        self.posted = {}


class Trader:
    """Draws one step after the other."""

    def __init__(self, name: str, visitors: list[int], only: tuple[str, ...]) -> None:
        self.draw = random.Random(name)
        self.name = name
        self.visitors = visitors
        self.weights = {
            getattr(self, kind): weight
            for kind, weight in WEIGHTS.items()
            if kind in only or not only
        }
        self.notes = Notes()
        self.using = router.db_for_write(Entry)
        self._count_conflicts()

    def _count_conflicts(self) -> None:
        is_conflict = savepoints._is_conflict

        def counted(error):
            found = is_conflict(error)
            self.notes.counts["conflicts"] += found
            return found

        savepoints._is_conflict = counted

    def step(self) -> None:
        """Do one thing, whatever it is."""
        [what] = self.draw.choices([*self.weights], [*self.weights.values()])
        self.take(what)

    def take(self, what) -> None:
        """Do something; an error that is none of the documented ones ends the process."""
        try:
            what()
        except DOCUMENTED as error:
            self.notes.counts[f"{what.__name__}: {type(error).__name__}"] += 1
        else:
            self.notes.counts[what.__name__] += 1

    def _late(self, rows):
        """Return one of the latest rows, or None."""
        found = list(rows.order_by("-pk")[:NEAR])
        return self.draw.choice(found) if found else None

    def convert(self) -> None:
        # As in a site's own transaction, which it tries again where the database ended it.
        number = self.draw.getrandbits(48)
        some = self.draw.sample(self.visitors, self.draw.randint(1, 2))
        money = Money(self.draw.randint(0, 20_000), self.draw.choice(CURRENCIES))
        savepoints.retried(
            lambda: record_conversion(
                trigger=ORDER,
                reference=f"{self.name}-{number}",
                money=money,
                known=dict.fromkeys(some, "session"),
            ),
            self.using,
        )

    def refund(self) -> None:
        """Take back a part or all of it, some of it under a name that others give as well."""
        conversion = self._late(Conversion.objects.all())
        if conversion is None or not conversion.amount_minor:
            return
        minor = max(1, conversion.amount_minor // 3)
        money = self.draw.choice([None, Money(minor, conversion.currency)])
        named = f"R-{self.draw.randint(1, 3)} of {conversion.pk}"
        reverse_conversion(conversion, money, reference=self.draw.choice(["", named, named]))

    def decide(self) -> None:
        review = self._late(Review.objects.filter(outcome=Review.Outcome.OPEN))
        if review is not None:
            by_name = {"release": reviews.release, "reject": reviews.reject}
            name = self.draw.choice([*by_name])
            by_name[name](review, by=None)
            self.notes.won.append(["decided", review.pk])

    def pay_out(self) -> None:
        payouts.make_payouts(currency=self.draw.choice(CURRENCIES))

    def settle(self) -> None:
        """Approve a batch, or take a payout to its next state, or let it fail."""
        if self.draw.random() < 0.2:
            batch = self._late(PayoutBatch.objects.all())
            if batch is not None:
                payouts.approve_batch(batch)
            return
        live = Payout.objects.filter(settled_on=None).select_related("account")
        payout = self._late(live)
        if payout is None:
            return
        if self.draw.random() < 0.3:
            payouts.fail(payout, "no such bank")
            self.notes.won.append(["settled", payout.pk])
        elif payout.state == Payout.State.DRAFT:
            payouts.approve(payout)
        elif payout.state == Payout.State.APPROVED:
            payouts.mark_sent(payout)
            self.notes.won.append(["sent", payout.pk])
        else:
            payouts.mark_paid(payout)
            self.notes.won.append(["settled", payout.pk])

    def spend(self) -> None:
        number = self.draw.randrange(2000)
        account = ledger.account_of(f"member:{number % MEMBERS}", CURRENCIES[number % 2])
        key, minor = f"order-{number}", 10 + number % 500
        ledger.spend(account, Money(minor, account.currency), key=key)
        self.notes.posted[key] = [account.holder, account.currency, -minor]

    def post(self) -> None:
        """Give a member a credit; the same by the same key now and then, or something else."""
        number = self.draw.randrange(2000)
        account = ledger.account_of(f"member:{number % MEMBERS}", CURRENCIES[number % 2])
        minor = 100 + number % 900
        if self.draw.random() < 0.1:
            key = f"gift-{self.draw.randrange(2000)}"
            with suppress(InvalidTransition):
                other = Money(5000, account.currency)
                self._post(account, other, key)
            # Whether it was the first of that key, its row alone tells.
            return
        key = f"gift-{number}"
        self._post(account, Money(minor, account.currency), key)

    def _post(self, account, money, key) -> None:
        savepoints.retried(
            lambda: ledger.post(account, money, kind=Entry.Kind.CREDIT, key=key), self.using
        )
        self.notes.posted[key] = [account.holder, account.currency, money.minor]


# What is broken on purpose: each lets others in where a lock has kept them out


def unlocked_payouts() -> None:
    """Draft without waiting for another run, and take a while to claim."""
    claim, lock = payouts._claim, ledger.lock

    def late(*arguments):
        time.sleep(0.05)
        claim(*arguments)

    def nobody(account_ids, using):
        pass

    def draft(*arguments):
        ledger.lock = nobody
        try:
            return drafted(*arguments)
        finally:
            ledger.lock = lock

    drafted, payouts._draft, payouts._claim = payouts._draft, draft, late


def unlocked_refunds() -> None:
    """Refund by what was read, whoever has refunded since."""
    gone_of = commissions.gone_of

    def late(*arguments):
        time.sleep(0.05)
        return gone_of(*arguments)

    commissions.gone_of = late
    QuerySet.select_for_update = lambda rows, **options: rows.all()


def unlocked_spending() -> None:
    """Spend by what was read, whoever has spent since."""
    balance = ledger.balance

    def late(*arguments):
        found = balance(*arguments)
        time.sleep(0.05)
        return found

    ledger.balance = late
    ledger.lock = lambda account_ids, using: None
