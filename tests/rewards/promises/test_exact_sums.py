"""Row M6 of the promises: amounts come back, and add up, exactly on this database."""

import random
from decimal import Decimal

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import DecimalField, ExpressionWrapper, F, FloatField, Sum, Value
from django.db.models.functions import Cast
from django.utils import timezone

from affiliations.rewards import ledger
from affiliations.rewards.models import Entry
from affiliations.sums import halves, joined

pytestmark = pytest.mark.django_db

NUMBER = 10_000
LARGEST = 2**62


@pytest.fixture
def amounts():
    """Entries of ten thousand amounts; returns these by key."""
    chance = random.Random("M6")
    edges = [1, -1, LARGEST, -LARGEST, 2**63 - 1, 1 - 2**63, 10**9, -(10**9), 2**53 + 1]
    found = edges + [
        chance.choice([-1, 1, 1]) * chance.randint(1, 2 ** chance.randint(1, 62))
        for _ in range(NUMBER - len(edges))
    ]
    found[:2000:4] = [chance.randint(LARGEST - 10**6, LARGEST) for _ in range(500)]
    account, contra = ledger.account_of("member:1", "EUR"), ledger.site_account("credit", "EUR")
    now = timezone.now()
    Entry.objects.bulk_create(
        [
            Entry(
                account=account,
                contra=contra,
                kind="credit",
                minor=minor,
                key=f"k{number}",
                available_on=now,
            )
            for number, minor in enumerate(found)
        ],
        batch_size=1000,
    )
    return {f"k{number}": minor for number, minor in enumerate(found)}


def test_ten_thousand_amounts_come_back_and_add_up(amounts):
    assert len(amounts) == NUMBER
    assert dict(Entry.objects.values_list("key", "minor")) == amounts
    row = Entry.objects.aggregate(**halves("all", "minor"))
    total = sum(amounts.values())
    assert joined(row, "all") == total
    assert abs(total) > 2**64
    assert ledger.balance(Entry.objects.first().account).total == total
    assert ledger.balance(Entry.objects.first().contra).total == -total
    for sign in ("gt", "lt"):
        rows = Entry.objects.filter(**{f"minor__{sign}": 0})
        ours = [minor for minor in amounts.values() if (minor > 0) == (sign == "gt")]
        assert joined(rows.aggregate(**halves("some", "minor")), "some") == sum(ours)


def test_teeth_floats_differ(amounts):
    found = Entry.objects.aggregate(total=Sum(Cast("minor", FloatField())))["total"]
    assert int(found) != sum(amounts.values())


@pytest.mark.skipif(connection.vendor != "sqlite", reason="others have decimal numbers")
def test_teeth_on_sqlite_decimals_are_floats_and_sums_end_at_the_largest_integer(amounts):
    major = ExpressionWrapper(
        F("minor") / Value(Decimal(100)), DecimalField(max_digits=21, decimal_places=2)
    )
    found = dict(Entry.objects.annotate(major=major).values_list("key", "major"))
    wrong = sum(found[key] * 100 != minor for key, minor in amounts.items())
    assert wrong > 500
    with pytest.raises(OperationalError, match="overflow"), transaction.atomic():
        Entry.objects.aggregate(Sum("minor"))
