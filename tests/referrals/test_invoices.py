"""What members have paid, in whatever order and however often it is reported."""

from datetime import timedelta
from itertools import permutations

import pytest
from django.utils import timezone

from affiliations.exceptions import InvalidMoney, InvalidTransition
from affiliations.money import Money
from affiliations.referrals import invoices, services
from affiliations.referrals.models import Invoice, Operation
from affiliations.referrals.signals import credit_acquired, credit_lost
from affiliations.referrals.statements import statement
from affiliations.rewards.testing import assert_ledger_balanced
from affiliations.testing import freeze
from tests.referrals.factories import balance, euros, make_member, make_program

pytestmark = pytest.mark.django_db


@pytest.fixture
def anna():
    make_program()
    return make_member()


@pytest.fixture
def ben(anna):
    return make_member(anna)


def test_the_target_is_reached_once(anna, ben):
    told = [invoices.report_total(ben, euros(each)) for each in (0, "99.99", 100, 100, 250)]
    assert told == [0, 0, 2000, 0, 0]
    assert balance(anna) == (2000, 2000)
    assert (ben.paid, ben.generates_credit) == (euros(250), False)
    assert statement(anna)[:3] == (0, 2000, 0)
    assert_ledger_balanced()


def test_a_refund_below_the_target_takes_it_back_and_it_can_be_reached_again(anna, ben):
    told = [invoices.report_total(ben, euros(each)) for each in (100, 40, 40, 100, 0, 100)]
    assert told == [2000, -2000, 0, 2000, -2000, 2000]
    assert balance(anna) == (2000, 2000)
    assert statement(anna)[:3] == (0, 2000, 0)
    invoices.report_total(ben, euros(10))
    assert balance(anna) == (2000, 0)
    assert statement(anna)[:3] == (2000, 0, 0)
    assert_ledger_balanced()


def test_a_total_that_is_late_changes_nothing(anna, ben):
    now = timezone.now()
    assert invoices.report_total(ben, euros(100), reported_on=now) == 2000
    assert invoices.report_total(ben, euros(40), reported_on=now - timedelta(hours=1)) == 0
    assert (ben.paid, balance(anna)) == (euros(100), (2000, 2000))
    assert invoices.report_total(ben, euros(40), reported_on=now + timedelta(hours=1)) == -2000


def test_whatever_the_order_of_invoices_and_refunds(anna):
    steps = [
        lambda member: invoices.pay(member, "A-1", euros(60)),
        lambda member: invoices.pay(member, "A-2", euros(50)),
        lambda member: invoices.refund(member, "A-1", euros(5)),
        lambda member: invoices.refund(member, "A-1", euros(10)),
    ]
    for order in permutations(steps):
        member = make_member(anna)
        for step in [*order, *order]:
            step(member)
        assert member.paid == euros(100)
        assert member.acquired_on is not None
    assert balance(anna) == (24 * 2000, 24 * 2000)
    assert_ledger_balanced()


def test_all_of_an_invoice_is_refunded(anna, ben):
    assert invoices.pay(ben, "A-1", euros(100)) == 2000
    assert [invoices.refund(ben, "A-1") for _ in range(2)] == [-2000, 0]
    assert balance(anna) == (2000, 0)


def test_where_totals_are_reported_these_count(anna, ben):
    invoices.report_total(ben, euros(10))
    assert invoices.pay(ben, "A-1", euros(500)) == 0
    assert ben.paid == euros(10)


@pytest.mark.parametrize(
    ("report", "error", "named"),
    [
        (lambda it: invoices.report_total(it, Money(-1, "EUR")), InvalidMoney, "amount"),
        (lambda it: invoices.report_total(it, Money(1, "USD")), InvalidMoney, "currency"),
        (lambda it: invoices.report_total(it, 5), InvalidMoney, "amount"),
        (lambda it: invoices.report_total(it, euros(1), reported_on=1), ValueError, "reported_on"),
        (lambda it: invoices.pay(it, "", euros(1)), ValueError, "reference"),
        (lambda it: invoices.pay(it, "a\0", euros(1)), ValueError, "reference"),
        (lambda it: invoices.pay(it, "a" * 201, euros(1)), ValueError, "reference"),
        (lambda it: invoices.pay(it, "A-1", euros(3)), InvalidTransition, "reference"),
        (lambda it: invoices.refund(it, "A-1", euros("2.01")), InvalidMoney, "refunded"),
        (lambda it: invoices.refund(it, "A-2"), InvalidMoney, "refunded"),
    ],
)
def test_what_cannot_be_noted(ben, report, error, named):
    invoices.pay(ben, "A-1", euros(2))
    before = (Invoice.objects.count(), Operation.objects.count())
    with pytest.raises(error, match=f"^{named}: "):
        report(ben)
    ben.refresh_from_db()
    assert ben.paid == euros(2)
    assert (Invoice.objects.count(), Operation.objects.count()) == before


def test_a_sum_beyond_what_any_amount_may_be_is_refused_whole(ben):
    invoices.pay(ben, "A-1", Money(2**63 - 1, "EUR"))
    with pytest.raises(InvalidMoney, match="minor"):
        invoices.pay(ben, "A-2", euros(1))
    assert Invoice.objects.count() == 1


def test_others_hear_of_it(anna, ben):
    heard = []

    def acquired(*, member, operations, **kwargs):
        heard.append(("acquired", member, [each.minor for each in operations]))

    def lost(*, member, operations, **kwargs):
        heard.append(("lost", member, [each.minor for each in operations]))

    credit_acquired.connect(acquired)
    credit_lost.connect(lost)
    try:
        for each in (100, 200, 0):
            invoices.report_total(ben, euros(each))
    finally:
        credit_acquired.disconnect(acquired)
        credit_lost.disconnect(lost)
    assert heard == [("acquired", ben, [2000]), ("lost", ben, [-2000])]


def test_a_statement_is_read_page_by_page(anna, django_assert_num_queries):
    brought = [make_member(anna) for _ in range(4)]
    invoices.report_total(brought[0], euros(100))
    with django_assert_num_queries(2):
        first = statement(anna, limit=5)
        assert [each.about for each in first.operations]
    assert first[:3] == (6000, 2000, 0)
    assert [(each.kind, each.minor) for each in first.operations[:2]] == [
        ("acquired_credit", 2000),
        ("potencial_credit", -2000),
    ]
    rest = statement(anna, before=first.older)
    assert rest.older is None
    assert len(first.operations) + len(rest.operations) == 1 + 4 * 2 + 2


def test_a_statement_sums_each_currency_by_itself(anna):
    dollars = make_program(currency="USD", credit_minor=7, target_minor=0, reward_minor=3)
    make_member(anna)
    services.register("in-dollars", indicator=anna, program=dollars)
    assert statement(anna)[:3] == statement(anna, currency="EUR")[:3] == (2000, 0, 0)
    assert statement(anna, currency="USD")[:3] == (0, 3, 0)
    assert {each.entry.account.currency for each in statement(anna).operations if each.entry} == {
        "EUR",
        "USD",
    }


def test_what_is_held_is_never_let_go_by_time(anna, ben):
    with freeze() as clock:
        clock.tick(days=5000)
        assert balance(anna) == (2000, 0)
