"""Programs and members for tests, as plain functions."""

from itertools import count

from affiliations.models import ApiKey
from affiliations.money import Money
from affiliations.referrals import services
from affiliations.referrals.models import Program
from affiliations.rewards import ledger

numbers = count(1)


def make_program(**fields):
    """Return a program of 5 euros at sign-up, and 20 once 100 are paid, or of what is said."""
    defaults = {
        "name": f"Program {next(numbers)}",
        "currency": "EUR",
        "credit_minor": 500,
        "target_minor": 10_000,
        "reward_minor": 2000,
    }
    return Program.objects.create(**{**defaults, **fields})


def make_member(indicator=None, **options):
    """Return a new member whom this one has brought, or who has come by themselves."""
    if indicator is None:
        options.setdefault("program", Program.objects.first() or make_program())
    return services.register(f"user-{next(numbers)}", indicator=indicator, **options)


def euros(amount):
    """Return so many euros."""
    return Money.of(amount, "EUR")


def balance(member):
    """Return what is owed to a member and what is available of it, in minor units."""
    total, available, _ = ledger.balance(ledger.account_of(member.holder, member.currency))
    return total, available


SCOPES = ("referrals:read", "referrals:write", "referrals:register")


def make_key(scopes=SCOPES, partner=None):
    """Return the token of a key that may do everything, or what is said."""
    return ApiKey.objects.issue(name="a program", scopes=scopes, partner=partner)[1]
