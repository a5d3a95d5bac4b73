"""Whoever is killed while somebody is registered or has paid: all of it is there, or nothing."""

import os
from contextlib import suppress

import pytest

from affiliations.models import Callback
from affiliations.referrals import invoices, services
from affiliations.referrals.exceptions import AlreadyRegistered
from affiliations.referrals.models import Member, Operation
from affiliations.rewards.models import Entry
from affiliations.rewards.testing import assert_ledger_balanced
from tests.core.promises import chaos
from tests.referrals.factories import balance, euros, make_member, make_program
from tests.referrals.promises.registrar import BILLING

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by forking"),
]

LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
ROWS = (Member, Operation, Entry, Callback)
#: How many of each a registration adds, and a target that is reached, with two above.
REGISTERED, REACHED = [1, 5, 3, 1], [0, 4, 4, 2]


@pytest.fixture(autouse=True)
def billing(settings, task_engine):
    settings.AFFILIATE_REFERRALS_BILLING_URL = BILLING


@pytest.fixture
def ben():
    make_program(depth=2)
    return make_member(make_member())


def counted():
    return [model.objects.count() for model in ROWS]


def added(before):
    return [now - then for now, then in zip(counted(), before, strict=True)]


def register_again(user_hash, ben):
    """Do what was cut off; return how the ledger has it that there is one of it."""
    with suppress(AlreadyRegistered):
        services.register(user_hash, indicator=ben)
    return balance(services.find_member(user_hash))


def killed_registering(crew, ben, *, behind, stride, **options):
    """Register somebody, killed at one statement after the other; yield what each has left."""
    statement = 1
    while True:
        before, name = counted(), f"new-{statement}"
        at = {"statement": statement, "behind": behind, **options}
        ended = crew.run("register", user_hash=name, indicator=ben.pk, **at)
        assert ended in (0, -9)
        yield ended, added(before)
        assert register_again(name, ben) == (500, 500)
        assert added(before) == REGISTERED
        if not ended:
            return
        statement += stride


def killed_reporting(crew, ben, *, behind, stride, **options):
    """Have somebody reach the target, killed at one statement after the other."""
    statement = 1
    while True:
        member = make_member(ben)
        before, had = counted(), balance(ben)[1]
        at = {"statement": statement, "behind": behind, **options}
        ended = crew.run("report", member=member.pk, minor=10_000, **at)
        assert ended in (0, -9)
        yield ended, added(before)
        invoices.report_total(member, euros(100))
        assert balance(ben)[1] == had + 2000
        assert added(before) == REACHED
        if not ended:
            return
        statement += stride


KILLED = [(killed_registering, REGISTERED, 20), (killed_reporting, REACHED, 20)]


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=LONG)])
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(("killed", "whole", "least"), KILLED)
def test_all_of_it_is_there_or_nothing(crew, ben, killed, whole, least, behind, stride):
    turns = 0
    for ended, left in killed(crew, ben, behind=behind, stride=stride):
        nothing = left == [0] * len(ROWS)
        turns += nothing
        # PostgreSQL is asked to wake up who delivers once it is committed.
        assert left == whole or (nothing and ended)
        assert_ledger_balanced()
    chaos.report({"killed": killed.__name__, "behind": behind, "statements": turns})
    assert turns * stride > least


@pytest.mark.parametrize(("killed", "whole", "least"), KILLED)
def test_teeth_without_a_transaction(crew, ben, killed, whole, least):
    options = {"behind": True, "stride": 1, "broken": ["unjoined"]}
    for _, left in killed(crew, ben, **options):
        if left not in ([0] * len(ROWS), whole):
            return
        if left == whole:
            break
    pytest.fail("it did no harm")
