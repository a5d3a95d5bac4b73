"""Many at once: one member, one credit, and no limit that more of them can get past."""

from collections import Counter
from contextlib import nullcontext, suppress
from itertools import count
from threading import Barrier, BrokenBarrierError
from time import sleep

import pytest
from django.db import OperationalError, connection, transaction

from affiliations.money import Money
from affiliations.referrals import invoices, services
from affiliations.referrals.exceptions import AlreadyRegistered
from affiliations.referrals.models import Member, Operation
from affiliations.referrals.statements import statement
from affiliations.rewards import ledger
from affiliations.rewards.models import Entry
from affiliations.rewards.testing import assert_ledger_balanced
from tests.core.factories import make_user
from tests.core.promises.test_races import FIFTY, at_once
from tests.referrals.factories import balance, euros, make_member, make_program

pytestmark = pytest.mark.django_db(transaction=True)
serial = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="lets no two transactions write at once"
)

THIRTY = 8 if connection.vendor == "sqlite" else 30
Kind = Operation.Kind


def tried(*works):
    """Do all of these at once; return what each came to, or the type of what it raised."""
    left = list(works)

    def work():
        mine = left.pop()
        try:
            return mine()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            return type(error)

    return at_once(len(works), work)


def entries(member, kind):
    """Return what was posted for a member of a kind."""
    rows = Entry.objects.filter(referral_operation__member=member, referral_operation__kind=kind)
    return sorted(rows.values_list("minor", flat=True))


@pytest.fixture
def anna():
    make_program()
    return make_member()


@pytest.mark.parametrize("surrounding", [nullcontext, transaction.atomic])
@pytest.mark.parametrize("same", ["hash", "user"])
def test_of_many_registrations_of_the_same_one_is_made(anna, surrounding, same):
    user, numbers = make_user(), count(1)

    def work():
        user_hash = "ben" if same == "hash" else f"ben-{next(numbers)}"
        with surrounding():
            return services.register(
                user_hash, indicator=anna, user=user if same == "user" else None
            ).pk

    told = tried(*[work] * FIFTY)
    ben = Member.objects.get(indicator=anna)
    assert Counter(told) == {ben.pk: 1, AlreadyRegistered: FIFTY - 1}
    assert entries(ben, Kind.SIGNUP_CREDIT) == [500]
    assert entries(anna, Kind.POTENTIAL_CREDIT) == [2000]
    assert_ledger_balanced()


def by_totals(ben):
    return [lambda: invoices.report_total(ben, euros(100))] * FIFTY


def by_invoices(ben):
    each = euros(150).minor // FIFTY

    def pay(number):
        return lambda: invoices.pay(ben, f"A-{number}", Money(each, "EUR"))

    return [pay(number) for number in range(FIFTY)]


@pytest.mark.parametrize("reports", [by_totals, by_invoices])
def test_of_many_reports_that_reach_the_target_one_earns(anna, reports):
    ben = make_member(anna)
    told = tried(*reports(ben))
    assert Counter(told) == {2000: 1, 0: FIFTY - 1}
    assert entries(anna, Kind.ACQUIRED_CREDIT) == [2000]
    assert balance(anna) == (2000, 2000)
    assert_ledger_balanced()


def test_limits_hold_however_many_come_at_once():
    make_program(max_per_indicator=2, max_referrals=5)
    few, many = make_member(), make_member()
    told = tried(*[lambda: make_member(few).reward_minor] * (THIRTY // 2))
    assert Counter(told) == {2000: 2, 0: THIRTY // 2 - 2}
    # Of whoever is beyond the indicator's limit the sign-up counts towards the program's.
    counted = Member.objects.filter(credit_minor__gt=0).count()
    assert counted == min(5, THIRTY // 2)
    tried(*[lambda: make_member(many).reward_minor] * THIRTY)
    assert Member.objects.filter(credit_minor__gt=0).count() == 5
    assert (balance(few), statement(few).potential) == ((4000, 0), 4000)
    assert_ledger_balanced()


@pytest.mark.parametrize("limits", [{"max_per_indicator": 3}, {"max_referrals": 3}])
def test_a_limit_holds_however_many_come_at_once(limits):
    make_program(**limits)
    anna = make_member()
    told = tried(*[lambda: make_member(anna).reward_minor] * THIRTY)
    assert Counter(told) == {2000: 3, 0: THIRTY - 3}
    assert balance(anna) == (6000, 0)
    assert_ledger_balanced()


def test_a_limit_above_holds_however_many_come_below():
    make_program(depth=2, max_per_indicator=5)
    anna = make_member()
    below = [make_member(anna) for _ in range(3)]
    tried(*[lambda each=each: make_member(each).reward_minor for each in below * (THIRTY // 3)])
    assert balance(anna) == (10_000, 0)
    most = min(5, THIRTY // 3)
    assert [balance(each)[0] for each in below] == [500 + most * 2000] * 3
    assert_ledger_balanced()


def test_refunds_and_payments_at_once_all_count(anna):
    ben = make_member(anna)
    invoices.pay(ben, "old", euros(100))
    told = tried(
        *[lambda: invoices.refund(ben, "old")] * 5,
        *[lambda: invoices.pay(ben, "new", euros(120))] * 5,
    )
    ben.refresh_from_db()
    assert ben.paid == euros(120)
    assert sum(told) == 0
    assert set(told) <= {0, 2000, -2000}
    assert balance(anna) == (2000, 2000)
    assert_ledger_balanced()


@pytest.mark.parametrize("limits", [{}, {"max_per_indicator": 1000, "max_referrals": 1000}])
def test_in_a_line_nobody_is_in_anybodys_way(limits):
    """Whoever is brought, pays and is refunded at any place of it: no deadlock is heard of."""
    make_program(depth=3, **limits)
    line = [make_member()]
    for _ in range(3):
        line.append(make_member(line[-1]))

    def bring(indicator):
        def work():
            new = make_member(indicator)
            return sum(invoices.report_total(new, euros(each)) for each in (100, 20))

        return work

    def swing(member):
        return lambda: sum(invoices.report_total(member, euros(each)) for each in (100, 20))

    bringing = [bring(each) for each in line] * (FIFTY // 8)
    swinging = [swing(each) for each in line[1:]] * (FIFTY // 8)
    told = tried(*bringing, *swinging)
    assert [each for each in told if not isinstance(each, int)] == []
    for each in line[1:]:
        invoices.report_total(each, euros(0))
    assert [balance(each)[1] for each in line] == [0, 500, 500, 500]
    for each, member in enumerate(line):
        below = Operation.objects.filter(member=member, kind=Kind.POTENTIAL_CREDIT)
        standing = below.filter(entry__minor__gt=0, entry__reversals=None).count()
        assert balance(member)[0] == 2000 * standing + (500 if each else 0)
    assert_ledger_balanced()


# Two that come to the same place together, if nothing keeps them apart


@pytest.fixture
def together(monkeypatch):
    """Let two meet behind what they have looked at, or go on where nobody comes."""
    pair = Barrier(2)

    def meet(module, name):
        there = getattr(module, name)

        def late(*arguments):
            with suppress(BrokenBarrierError):
                pair.wait(1)
            return there(*arguments)

        monkeypatch.setattr(module, name, late)

    return meet


@pytest.fixture
def unlocked(monkeypatch):
    def read(rows, pk):
        return rows.get(pk=pk)

    monkeypatch.setattr(services, "locked", read)
    monkeypatch.setattr(invoices, "locked", read)


def pay_two(anna, together):
    ben = make_member(anna)
    together(invoices, "settle")
    told = tried(
        lambda: invoices.pay(ben, "A-1", euros(60)), lambda: invoices.pay(ben, "A-2", euros(60))
    )
    ben.refresh_from_db()
    return sorted(map(str, told)), ben.paid, balance(anna)


def refund_one(anna, together):
    ben = make_member(anna)
    invoices.pay(ben, "A-1", euros(100))
    together(invoices, "settle")
    told = tried(lambda: invoices.refund(ben, "A-1"), lambda: invoices.pay(ben, "A-2", euros(120)))
    ben.refresh_from_db()
    return len(told), ben.paid, balance(anna)


def bring_two(anna, together, **limits):
    program = anna.program
    for name, value in limits.items():
        setattr(program, name, value)
    program.save()
    together(services, "_note")
    told = tried(*[lambda: make_member(anna).reward_minor] * 2)
    return sorted(map(str, told)), balance(anna)


def bring_two_of_one(anna, together):
    return bring_two(anna, together, max_per_indicator=1)


def bring_two_in_all(anna, together):
    return bring_two(anna, together, max_referrals=1)


RIGHT = [
    (pay_two, (["0", "2000"], euros(120), (2000, 2000))),
    (refund_one, (2, euros(120), (2000, 2000))),
    (bring_two_of_one, (["0", "2000"], (2000, 0))),
    (bring_two_in_all, (["0", "2000"], (2000, 0))),
]


@pytest.mark.parametrize(("do", "right"), RIGHT)
def test_two_are_kept_apart(anna, together, do, right):
    assert do(anna, together) == right
    assert_ledger_balanced()


@serial
@pytest.mark.parametrize(("do", "right"), RIGHT)
def test_teeth_without_the_lock(anna, together, unlocked, do, right):
    if do is pay_two and connection.vendor == "mysql":
        pytest.skip("to add an invoice locks the member, so that one of the two is ended")
    assert do(anna, together) != right


def pay_beside_a_run():
    """Have somebody pay while a run has one of two accounts and goes on to the other.

    Returns what became of both.
    """
    make_program(depth=2)
    anna = make_member()
    # Whose account is the first, and who is credited last.
    low = ledger.account_of(anna.holder, "EUR").pk
    ben = make_member(anna)
    high = ledger.account_of(ben.holder, "EUR").pk
    carl = make_member(ben)
    begun = Barrier(2)

    def run():
        with transaction.atomic():
            ledger.lock([low], "default")
            begun.wait(10)
            sleep(1)
            ledger.lock([low, high], "default")

    def pay():
        begun.wait(10)
        with transaction.atomic():
            return invoices.report_total(carl, euros(100))

    return tried(run, pay)


@serial
def test_who_pays_and_a_run_of_payouts_do_not_wait_for_each_other():
    assert sorted(map(str, pay_beside_a_run())) == ["2000", "None"]
    assert_ledger_balanced()


@pytest.mark.skipif(connection.vendor != "mysql", reason="only there a foreign key is in the way")
def test_teeth_from_whom_is_nearest_upwards(monkeypatch):
    monkeypatch.setattr(services, "_in_order", lambda members, currency: members)
    assert OperationalError in pay_beside_a_run()
