"""Commissions that a policy splits stay exact, to the unit, whatever is refunded.

The rewards divide the amount of a conversion first: each partner's part is a whole number of minor
units, by the largest remainder of the weights (a flat sum is divided by the weights themselves).
Then all partners whom one rule pays are paid as one: that rule's percentage of the sum of their
parts is rounded once, half to even, and divided among them by the largest remainder again. So it
is held against this: the parts sum to the amount; what partners of one rule earn sums to that
rule's commission on all that they have; and a conversion that one rule pays for costs what it
would cost if one partner had brought it.
"""

import random
from collections import Counter, defaultdict
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from django.utils import timezone

from affiliations.models import Conversion, Share, Visitor
from affiliations.money import Money
from affiliations.rewards import audit, commissions, ledger, receivers, terms
from affiliations.rewards.models import Account, Commission, Entry
from affiliations.services import record_conversion, reverse_conversion
from tests.attribution.oracle import largest_remainder
from tests.core.factories import make_partner
from tests.rewards.factories import ORDER, make_rule

pytestmark = pytest.mark.django_db

POLICIES = ("linear", "position_based", "time_decay")
FEW, MANY = 240, 10_000
DAY = timedelta(days=1)
FLAT, CAP = 501, 250
RATES = {"general": Fraction(10), "own": Fraction("7.5"), "capped": Fraction("33.3333")}


@pytest.fixture(autouse=True)
def with_rewards(without_rewards):
    """Let conversions earn something, which they do in the tests of the rewards alone."""
    receivers.connect()
    yield
    receivers.disconnect()


class Shop:
    """Partners whom four rules pay, and what is recorded of them at random."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.partners = [make_partner({ORDER: ""}) for _ in range(6)]
        make_rule(10)
        make_rule(Decimal("7.5"), partner=self.partners[3])
        make_rule(flat_minor=FLAT, currency="EUR", partner=self.partners[4])
        # In yen, the general one is for this partner too.
        make_rule(
            Decimal("33.3333"),
            currency="EUR",
            cap_minor=CAP,
            partner=self.partners[5],
            trigger=ORDER,
        )
        self.count = 0

    def rule_of(self, partner, currency):
        """Return by which rule a partner is paid."""
        number = [each.pk for each in self.partners].index(partner)
        if number == 5:
            return "capped" if currency == "EUR" else "general"
        return {3: "own", 4: "flat"}.get(number, "general")

    def money(self):
        """Return an amount: often a very small one, or none."""
        currency = self.draw.choice(["EUR", "EUR", "JPY"])
        minor = self.draw.choice([None, 0, 1, 1, 2, 3, 5, 99, *[0] * 8])
        if minor == 0:
            minor = self.draw.randint(1, 10 ** self.draw.randint(1, 12))
        return None if minor is None else Money(minor, currency)

    def convert(self):
        """Record a conversion that up to six clicks have led to, some of the same partner."""
        self.count += 1
        now = timezone.now()
        visitors = Visitor.objects.bulk_create(
            Visitor(
                partner=self.draw.choice(self.partners),
                entry_point="http://testserver/",
                clicked_on=now - self.draw.random() * 29 * DAY,
            )
            for _ in range(self.draw.randint(1, 6))
        )
        return record_conversion(
            trigger=ORDER,
            reference=f"A-{self.count}",
            money=self.money(),
            known={each.pk: "session" for each in visitors},
        )

    def refund(self, conversion):
        """Take all of it back, or parts of it, or nothing."""
        minor, way = conversion.amount_minor, self.draw.randint(0, 9)
        if way == 0:
            assert reverse_conversion(conversion)
        while minor and way in (1, 2) and self.draw.random() < 0.8:
            some = self.draw.randint(1, minor)
            assert reverse_conversion(conversion, Money(some, conversion.currency))
            minor -= some

    def trade(self, number):
        """Record so many conversions, and refund some of them."""
        for _ in range(number):
            self.refund(self.convert())


def rounded(exact):
    """Round half to even, as the documentation of the rewards has it."""
    below, rest = divmod(exact, 1)
    return int(below) + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1))


def expected(shop, conversion, shares):
    """Return what each rule pays for a conversion, and what each partner has of it exactly."""
    amount = conversion.amount_minor or 0
    bases = largest_remainder(amount, [Fraction(share.weight) for share in shares])
    exact = defaultdict(lambda: defaultdict(Fraction))
    for share, base in zip(shares, bases, strict=True):
        partner = share.visitor.partner_id
        rule = shop.rule_of(partner, conversion.currency)
        earned = FLAT * Fraction(share.weight) if rule == "flat" else base * RATES[rule] / 100
        exact[rule][partner] += earned
    totals = {rule: rounded(sum(parts.values())) for rule, parts in exact.items()}
    if "capped" in totals:
        totals["capped"] = min(totals["capped"], CAP)
    return totals, exact


def wrong(shop):
    """Return what is wrong with what was posted: of each conversion, and of all together."""
    found = Counter()
    shares = defaultdict(list)
    for share in Share.objects.select_related("visitor").order_by("pk"):
        shares[share.conversion_id].append(share)
    earned = defaultdict(list)
    for each in Commission.objects.all():
        earned[each.conversion_id].append(each)
    posted, gone = defaultdict(list), Counter()
    for entry in Entry.objects.all():
        if entry.kind == Entry.Kind.COMMISSION:
            posted[entry.commission_id].append(entry)
        else:
            gone[entry.reverses_id] -= entry.minor
    owed = Counter()
    for conversion in Conversion.objects.all():
        amount = conversion.amount_minor or 0
        theirs, of_it = shares[conversion.pk], earned[conversion.pk]
        found["weights"] += sum(share.weight for share in theirs) != 1
        found["parts"] += sum(each.base_minor for each in of_it) != amount
        totals, exact = expected(shop, conversion, theirs)
        by_rule = Counter()
        for each in of_it:
            rule = shop.rule_of(each.partner_id, conversion.currency)
            by_rule[rule] += each.minor
            quota = exact[rule][each.partner_id]
            if rule != "capped":
                found["far from its quota"] += abs(each.minor - quota) >= 1
            entries = posted[each.pk]
            found["lost or doubled"] += [entry.minor for entry in entries] != [each.minor] * bool(
                each.minor
            )
            back = Fraction(conversion.reversed_minor, amount) if amount else 0
            taken = each.minor if conversion.reversed_on else rounded(each.minor * back)
            for entry in entries:
                found["refunded"] += gone.pop(entry.pk, 0) != taken
            owed[each.partner_id, each.currency] += each.minor - taken
        found["commission"] += sum(by_rule[rule] != total for rule, total in totals.items())
        if set(totals) == {"general"}:
            found["on the whole"] += sum(by_rule.values()) != rounded(Fraction(amount, 10))
    found["refunded"] += len(gone)
    for account in Account.objects.exclude(partner=None):
        found["balances"] += (
            ledger.balance(account).total != owed[account.partner_id, account.currency]
        )
    found["partners"] += len({each.partner_id for each in Commission.objects.all()}) != 6
    found["audit"] += len(list(audit.Audit().differences()))
    return +found


LONG = [pytest.mark.long, pytest.mark.timeout(7200)]


@pytest.mark.parametrize("number", [FEW, pytest.param(MANY, marks=LONG)])
def test_what_is_split_sums_to_the_commission_on_the_whole(settings, number):
    shop = Shop("split")
    for policy in POLICIES:
        settings.AFFILIATE_ATTRIBUTION = f"affiliations.attribution.policy.{policy}"
        shop.trade(-(-number // len(POLICIES)))
    assert Conversion.objects.count() >= number
    assert Conversion.objects.filter(reversed_minor__gt=0).count() > number / 10
    assert Share.objects.count() > 2 * number
    assert wrong(shop) == {}


def each_by_itself(total, weights):
    """Round each part without a look at the others."""
    weights = [Fraction(weight) for weight in weights]
    return [round(total * weight / sum(weights)) for weight in weights]


@pytest.mark.parametrize(
    ("module", "caught"), [(commissions, {"parts", "commission"}), (terms, {"commission"})]
)
def test_teeth_parts_that_are_rounded_by_themselves(settings, monkeypatch, module, caught):
    settings.AFFILIATE_ATTRIBUTION = "affiliations.attribution.policy.linear"
    monkeypatch.setattr(module, "apportion", each_by_itself)
    shop = Shop("tooth")
    shop.trade(60)
    assert caught <= set(wrong(shop))


def test_teeth_a_share_that_is_posted_again(settings):
    settings.AFFILIATE_ATTRIBUTION = "affiliations.attribution.policy.linear"
    shop = Shop("tooth")
    shop.trade(30)
    entry = Entry.objects.filter(kind="commission").first()
    entry.pk, entry.key, entry._state.adding = None, "again", True
    entry.save(force_insert=True)
    assert {"lost or doubled", "balances", "audit"} <= set(wrong(shop))
