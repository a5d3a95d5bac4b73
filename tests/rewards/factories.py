"""Rules, conversions and accounts for tests, as plain functions."""

from decimal import Decimal
from itertools import count

from django.utils import timezone

from affiliations.models import Subscription
from affiliations.money import Money
from affiliations.rewards import ledger
from affiliations.rewards.models import CommissionRule, PartnerGroup, PayoutDestination
from affiliations.services import record_conversion
from tests.core.factories import make_partner, make_user, make_visitor

ORDER = "Order placed"
numbers = count(1)


def make_rule(percent=None, **fields):
    """Return a published rule of 10 %, or of what is said."""
    if percent is None and "flat_minor" not in fields:
        percent = Decimal(10)
    fields.setdefault("published_on", timezone.now())
    fields.setdefault("name", f"Rule {next(numbers)}")
    return CommissionRule.objects.create(percent=percent, **fields)


def make_group(*partners):
    """Return a group of these partners."""
    group = PartnerGroup.objects.create(name=f"Group {next(numbers)}")
    group.partners.set(partners)
    return group


def convert(*partners, minor=10_000, currency="EUR", trigger=ORDER, user=None, reference=""):
    """Return a conversion of a new user, or of this one, that these partners share equally."""
    visitors = []
    for partner in partners or [make_partner()]:
        Subscription.objects.get_or_create(partner=partner, trigger=trigger)
        visitors.append(make_visitor(partner))
    return record_conversion(
        trigger=trigger,
        reference=reference or f"A-{next(numbers)}",
        user=user or make_user(),
        money=None if minor is None else Money(minor, currency),
        known={visitor.pk: "session" for visitor in visitors},
    )


def account_of(partner, currency="EUR"):
    """Return a partner's account."""
    return ledger.account_of(partner, currency)


def pay_to(holder):
    """Say where a holder is paid, where nobody has; return the destination."""
    fields = {"method": "wise", "name": "Anna Moor", "email": "anna@example.com"}
    return PayoutDestination.objects.get_or_create(holder=holder, defaults=fields)[0]


def total(partner, currency="EUR"):
    """Return what is owed to a partner, in minor units."""
    return ledger.balance(account_of(partner, currency)).total
