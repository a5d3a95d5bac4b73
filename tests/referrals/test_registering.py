"""Who becomes a member, what both are credited, and why somebody is refused."""

from datetime import timedelta
from urllib.parse import parse_qs

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from affiliations.models import Callback
from affiliations.referrals import invoices, pages, services
from affiliations.referrals.exceptions import (
    AlreadyRegistered,
    CircularReferral,
    InvalidMember,
    ProgramEnded,
    SelfReferral,
    UnknownMember,
    UnknownProgram,
)
from affiliations.referrals.models import Member, Operation
from affiliations.referrals.signals import member_registered
from affiliations.rewards import ledger
from affiliations.rewards.models import Entry
from affiliations.rewards.testing import assert_ledger_balanced
from tests.core.factories import make_user
from tests.referrals.factories import balance, euros, make_member, make_program

pytestmark = pytest.mark.django_db


def kinds(member):
    return [
        (each.kind, each.minor) for each in Operation.objects.filter(member=member).order_by("pk")
    ]


@pytest.fixture
def anna():
    make_program()
    return make_member()


def test_both_are_credited_one_of_them_for_later(anna):
    ben = services.register("ben", indicator=anna)
    assert (ben.indicator, ben.program, ben.user) == (anna, anna.program, None)
    assert balance(ben) == (500, 500)
    assert balance(anna) == (2000, 0)
    assert kinds(ben) == [("signup", 0), ("signup_credit", 500)]
    assert kinds(anna) == [("signup", 0), ("indication", 0), ("potencial_credit", 2000)]
    assert ben.generates_credit
    assert_ledger_balanced()


def test_whoever_comes_by_themselves_is_credited_nothing(anna):
    assert balance(anna) == (0, 0)
    assert not anna.generates_credit
    assert kinds(anna) == [("signup", 0)]


def test_what_a_ledger_keeps_for_ever_names_nobody(anna):
    services.register("ben@example.com", indicator=anna)
    for entry in Entry.objects.all():
        assert "ben" not in entry.memo + entry.key


def test_what_was_promised_is_kept(anna):
    ben = services.register("ben", indicator=anna)
    program = anna.program
    program.credit_minor, program.target_minor, program.reward_minor = 1, 2, 3
    program.save()
    carl = services.register("carl", indicator=anna)
    assert (ben.credit, ben.target, ben.reward) == (euros("5.00"), euros(100), euros(20))
    assert (carl.credit, carl.target, carl.reward) == tuple(
        euros(each) for each in ("0.01", "0.02", "0.03")
    )
    assert invoices.report_total(carl, euros("0.02")) == 3
    assert invoices.report_total(ben, euros("0.02")) == 0


def test_without_a_reward_it_is_the_target():
    make_program(reward_minor=None)
    ben = make_member(make_member())
    assert ben.reward == euros(100)


def test_another_program_can_be_chosen(anna):
    other = make_program(credit_minor=700)
    ben = services.register("ben", indicator=anna, program=other)
    assert (ben.program, balance(ben)) == (other, (700, 700))


def test_a_program_of_nothing_moves_nothing():
    make_program(credit_minor=0, reward_minor=0)
    ben = make_member(make_member())
    assert kinds(ben) == [("signup", 0)]
    assert not Entry.objects.exists()
    assert invoices.report_total(ben, euros(1000)) == 0


def test_a_target_of_nothing_is_reached_at_once():
    make_program(target_minor=0)
    anna = make_member()
    ben = make_member(anna)
    assert balance(anna) == (2000, 2000)
    assert ben.acquired_on is not None


def test_the_depth_says_how_far_up_somebody_is_credited():
    make_program(depth=2)
    anna = make_member()
    ben = make_member(anna)
    carl = make_member(ben)
    dora = make_member(carl)
    assert [balance(each)[0] for each in (anna, ben, carl, dora)] == [4000, 4500, 2500, 500]
    assert invoices.report_total(dora, euros(100)) == 2000
    assert [balance(each)[1] for each in (anna, ben, carl, dora)] == [0, 2500, 2500, 500]


def test_beyond_an_indicators_limit_only_who_is_new_is_credited():
    make_program(max_per_indicator=2)
    anna = make_member()
    brought = [make_member(anna) for _ in range(3)]
    assert [balance(each) for each in brought] == [(500, 500)] * 3
    assert balance(anna) == (4000, 0)
    for each in brought:
        invoices.report_total(each, euros(100))
    assert balance(anna) == (4000, 4000)
    assert balance(make_member(brought[0])) == (500, 500)


def test_the_limit_is_each_members_own_at_any_depth():
    make_program(depth=2, max_per_indicator=2)
    anna = make_member()
    ben = make_member(anna)
    carl, dora = make_member(ben), make_member(ben)
    eve = make_member(ben)
    # Anna has had Ben and Carl, Ben has had Carl and Dora.
    assert [each.reward_minor for each in (ben, carl, dora, eve)] == [2000, 2000, 2000, 0]
    assert [balance(each) for each in (anna, ben)] == [(4000, 0), (4500, 500)]
    for each in (carl, dora, eve):
        invoices.report_total(each, euros(100))
    assert [balance(each) for each in (anna, ben)] == [(4000, 2000), (4500, 4500)]
    # Of Dora's Anna has nothing, and is not told so.
    assert [pages.stats(each).rewarded for each in (anna, ben)] == [0, 2]
    # Carl has had nobody yet, whatever became of whoever brought him.
    frank = make_member(carl)
    assert invoices.report_total(frank, euros(100)) == 2000
    assert [balance(each)[0] for each in (anna, ben, carl)] == [4000, 4500, 2500]


def test_a_limit_is_of_its_own_program():
    make_program(max_per_indicator=1)
    other = make_program(max_per_indicator=1)
    anna = make_member()
    for program in (None, None, other, other):
        make_member(anna, program=program)
    assert balance(anna) == (4000, 0)


def test_a_credit_that_was_lost_counts_towards_the_limit_once():
    make_program(max_per_indicator=2)
    anna = make_member()
    ben = make_member(anna)
    for paid in (100, 0, 100, 0):
        invoices.report_total(ben, euros(paid))
    assert [make_member(anna).reward_minor for _ in range(2)] == [2000, 0]


def test_beyond_a_programs_limit_nobody_is():
    make_program(max_referrals=1)
    anna = make_member()
    first, second = make_member(anna), make_member(anna)
    assert (balance(first), balance(second), balance(anna)) == ((500, 500), (0, 0), (2000, 0))


# Who is refused


def refused(error, *args, **options):
    before = [Member.objects.count(), Operation.objects.count(), Entry.objects.count()]
    with pytest.raises(error) as caught:
        services.register(*args, **options)
    assert before == [Member.objects.count(), Operation.objects.count(), Entry.objects.count()]
    return str(caught.value)


@pytest.mark.parametrize(
    "user_hash", ["", " ", "a b", "a\0", "a\n", "ä", "a" * 201, "\ud800", None, 7, ["a"]]
)
def test_what_is_no_hash(anna, user_hash):
    assert refused(InvalidMember, user_hash, indicator=anna).startswith("user_hash: ")
    with pytest.raises(UnknownMember, match=r"^user_hash: "):
        services.find_member(user_hash)


def test_who_is_not_logged_in_is_nobody(anna):
    told = refused(InvalidMember, "ben", indicator=anna, user=AnonymousUser())
    assert told.startswith("user: ")


def test_nobody_is_registered_twice(anna):
    user = make_user()
    ben = services.register("ben", indicator=anna, user=user)
    refused(AlreadyRegistered, "ben", indicator=anna)
    refused(AlreadyRegistered, "ben-too", indicator=anna, user=user)
    assert services.register("BEN", indicator=anna).pk != ben.pk
    assert services.find_member("ben") == ben


def test_nobody_brings_themselves(anna):
    refused(SelfReferral, anna.user_hash, indicator=anna)
    user = make_user()
    ben = services.register("ben", indicator=anna, user=user)
    refused(SelfReferral, "other-ben", indicator=ben, user=user)


def test_nobody_is_brought_by_whom_they_have_brought(anna):
    carl = make_member(make_member(anna))
    refused(CircularReferral, anna.user_hash, indicator=carl)
    assert issubclass(CircularReferral, AlreadyRegistered)


@pytest.mark.parametrize(
    "fields",
    [
        {"active": False},
        {"valid_until": timezone.now()},
        {"valid_from": timezone.now() + timedelta(days=1)},
    ],
)
def test_a_program_that_is_not_open(anna, fields):
    over = make_program(**fields)
    refused(ProgramEnded, "ben", indicator=anna, program=over)
    anna.program.active = False
    anna.program.save()
    with pytest.raises(UnknownProgram, match=r"^program: "):
        services.usual_program()
    refused(UnknownProgram, "ben")
    refused(ProgramEnded, "ben", indicator=anna)


def test_others_hear_of_it_and_a_failing_one_harms_nothing(anna):
    heard = []

    def hear(*, member, **kwargs):
        heard.append(member)
        raise RuntimeError

    member_registered.connect(hear)
    try:
        ben = services.register("ben", indicator=anna)
    finally:
        member_registered.disconnect(hear)
    assert heard == [ben] == [Member.objects.get(user_hash="ben")]


def test_what_a_registration_costs(anna):
    make_member(anna)
    with CaptureQueriesContext(connection) as queries:
        make_member(anna)
    mine = [each for each in queries if "SAVEPOINT" not in each["sql"]]
    assert len(mine) <= 22


# What the billing system is told


@pytest.mark.parametrize(
    "url", ["https://billing.example/{user_hash}/add", "https://billing.example/%s/add"]
)
def test_the_billing_system_is_told_of_both_credits(settings, anna, url):
    settings.AFFILIATE_REFERRALS_BILLING_URL = url
    ben = services.register("be/n", indicator=anna)
    [told] = Callback.objects.all()
    assert (told.method, told.url) == ("POST", "https://billing.example/be%2Fn/add")
    assert parse_qs(told.body) == {
        "amount": ["5.00"],
        "program_name": [anna.program.name],
        "user_indicator_hash": [anna.user_hash],
        "operation": ["signup_credit"],
        "currency": ["EUR"],
    }
    invoices.report_total(ben, euros(100))
    invoices.report_total(ben, euros(100))
    told = Callback.objects.latest("pk")
    assert Callback.objects.count() == 2
    assert told.url == f"https://billing.example/{anna.user_hash}/add"
    assert parse_qs(told.body)["amount"] == ["20.00"]
    invoices.report_total(ben, euros(99))
    told = Callback.objects.latest("pk")
    assert (Callback.objects.count(), parse_qs(told.body)["amount"]) == (3, ["-20.00"])


def test_without_an_address_nobody_is(anna):
    make_member(anna)
    assert not Callback.objects.exists()


def test_the_credits_can_be_spent(anna):
    ben = services.register("ben", indicator=anna)
    ledger.spend(ledger.account_of(ben.holder, "EUR"), euros(3), key="order")
    assert balance(ben) == (200, 200)
