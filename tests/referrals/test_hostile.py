"""What referrals stand where a site is not as simple: replicas, odd rows, odd moments."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from affiliations.exceptions import InvalidMoney, InvalidTransition
from affiliations.models import Callback
from affiliations.referrals import invoices, services
from affiliations.referrals.exceptions import (
    AlreadyRegistered,
    CircularReferral,
    UnknownProgram,
)
from affiliations.referrals.models import Member, Program
from affiliations.referrals.statements import statement
from affiliations.rewards import ledger
from affiliations.rewards.testing import assert_ledger_balanced
from tests.referrals.factories import balance, euros, make_member, make_program
from tests.rewards.test_isolation import connected

pytestmark = pytest.mark.django_db


@pytest.fixture
def anna():
    make_program(depth=2)
    return make_member()


class Replica:
    """A router that reads where nothing has arrived yet: there is no such database at all."""

    def db_for_read(self, model, **hints):
        return "replica"

    def db_for_write(self, model, **hints):
        return "default"


def test_nothing_is_read_from_a_replica(settings, anna):
    settings.AFFILIATE_REFERRALS_BILLING_URL = "https://billing.example/{user_hash}"
    ben = services.register("ben", indicator=anna)
    settings.DATABASE_ROUTERS = [f"{__name__}.Replica"]
    # As they come from a view: nothing else was read with them.
    ben, anna = (Member.objects.using("default").get(pk=each.pk) for each in (ben, anna))
    carl = services.register("carl", indicator=ben)
    assert carl == services.find_member("carl")
    with pytest.raises(CircularReferral):
        services.register(anna.user_hash, indicator=carl)
    fresh = Member.objects.using("default").get(pk=carl.pk)
    assert [invoices.report_total(fresh, euros(each)) for each in (100, 0)] == [2000, -2000]
    assert invoices.pay(ben, "A-1", euros(100)) == 2000
    with pytest.raises(InvalidTransition):
        invoices.pay(ben, "A-1", euros(99))
    with pytest.raises(InvalidMoney):
        invoices.refund(ben, "A-1", euros(101))
    assert statement(anna)[:3] == (2000, 2000, 0)
    assert Callback.objects.using("default").count() == 2 + 2 * 2 + 1


def test_a_line_that_leads_back_to_itself_ends_somewhere(anna):
    """No registration makes one, but a hand in the admin may."""
    ben = make_member(anna)
    carl = make_member(anna)
    Member.objects.filter(pk=anna.pk).update(indicator=ben)
    anna.refresh_from_db()
    with pytest.raises(AlreadyRegistered):
        services.register(carl.user_hash, indicator=anna)


def test_a_long_line_is_not_followed_for_ever(anna, monkeypatch):
    monkeypatch.setattr(services, "FURTHEST", 3)
    line = [anna]
    for _ in range(6):
        line.append(make_member(line[-1]))
    with pytest.raises(CircularReferral):
        services.register(line[-3].user_hash, indicator=line[-1])
    with CaptureQueriesContext(connection) as queries, pytest.raises(AlreadyRegistered) as caught:
        services.register(anna.user_hash, indicator=line[-1])
    assert type(caught.value) is AlreadyRegistered
    assert len([each for each in queries if "SAVEPOINT" not in each["sql"]]) <= 5


@pytest.mark.parametrize(
    "moment",
    [
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
        datetime(999, 1, 1, tzinfo=UTC),
        datetime(9999, 1, 1, tzinfo=UTC),
        datetime(2020, 1, 1),  # noqa: DTZ001 - that is the point
        "2020-01-01",
    ],
)
def test_a_moment_that_is_none_or_yet_to_come(anna, moment):
    ben = make_member(anna)
    with pytest.raises(ValueError, match=r"^reported_on: "):
        invoices.report_total(ben, euros(100), reported_on=moment)
    # Otherwise nothing that is reported later would ever count.
    assert invoices.report_total(ben, euros(100), reported_on=now()) == 2000


def test_a_program_that_is_gone(anna):
    gone = make_program()
    Program.objects.filter(pk=gone.pk).delete()
    with pytest.raises(UnknownProgram, match=r"^program: "):
        services.register("ben", indicator=anna, program=gone)


def test_what_was_spent_and_is_then_taken_back_is_a_debt(anna):
    ben = make_member(anna)
    invoices.report_total(ben, euros(100))
    ledger.spend(ledger.account_of(anna.holder, "EUR"), euros(20), key="order")
    assert invoices.report_total(ben, euros(99)) == -2000
    assert balance(anna) == (0, -2000)
    assert invoices.report_total(ben, euros(100)) == 2000
    assert balance(anna) == (0, 0)
    assert_ledger_balanced()


def test_without_time_zones(settings, anna):
    settings.USE_TZ = False
    ben = make_member(anna)
    assert invoices.report_total(ben, euros(100), reported_on=now()) == 2000
    before = now() - timedelta(hours=1)
    assert invoices.report_total(ben, euros(0), reported_on=before) == 0
    with pytest.raises(ValueError, match=r"^reported_on: "):
        invoices.report_total(ben, euros(0), reported_on=datetime.now(UTC))
    assert invoices.refund(ben, "A-1", euros(5)) == 0
    assert balance(anna) == (2000, 2000)


def test_a_failing_database_in_the_callers_transaction_leaves_it_usable(anna, monkeypatch):
    """A share code that is taken, whatever the chances: nothing is half done."""
    monkeypatch.setattr(Member._meta.get_field("code"), "_get_default", lambda: anna.code)
    with pytest.raises(IntegrityError):
        services.register("ben", indicator=anna)
    assert not Member.objects.filter(user_hash="ben").exists()
    assert balance(anna) == (0, 0)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="has one writer at a time")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "change",
    [
        lambda anna, ben: services.register("carl", indicator=anna),
        lambda anna, ben: invoices.report_total(ben, euros(100)),
        lambda anna, ben: invoices.pay(ben, "A-1", euros(100)),
        lambda anna, ben: invoices.refund(ben, "A-1", euros(100)),
    ],
)
def test_a_database_in_which_locks_are_in_vain_is_refused(anna, change):
    ben = make_member(anna)
    with connected("repeatable read"), pytest.raises(ImproperlyConfigured):
        change(anna, ben)
    assert Member.objects.count() == 2
    assert balance(anna) == (2000, 0)
