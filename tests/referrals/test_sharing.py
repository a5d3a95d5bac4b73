"""From a member's share link to a new user who is registered with both credits."""

import re

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from affiliations.models import Callback, Visitor
from affiliations.privacy import export_user, forget_user
from affiliations.referrals import invoices, services, sharing
from affiliations.referrals.checks import check_settings
from affiliations.referrals.exceptions import UnknownProgram
from affiliations.referrals.models import Invoice, Member, Operation
from affiliations.rewards.testing import assert_ledger_balanced
from affiliations.testing import freeze
from tests.core.factories import make_partner, make_user
from tests.referrals.factories import balance, euros, make_member, make_program

pytestmark = pytest.mark.django_db


@pytest.fixture
def anna():
    make_program()
    return make_member(user=make_user("anna"))


def follow(client, member, path="/", **extra):
    return client.get(f"{path}?{sharing.share_query(member)}", **extra)


def sign_up(client, username="ben"):
    response = client.post("/signup/", {"username": username})
    assert response.status_code == 201
    return get_user_model().objects.get(username=username)


def test_who_signs_up_by_a_share_link_is_registered_and_both_are_credited(client, anna):
    response = follow(client, anna, "/echo/")
    assert (response.status_code, response["Location"]) == (302, "/echo/")
    assert response["Cache-Control"] == "private, no-store"
    member = sign_up(client).affiliate_member
    assert (member.indicator, member.program) == (anna, anna.program)
    assert (balance(member), balance(anna)) == ((500, 500), (2000, 0))
    assert len(member.user_hash) == 32
    # Nobody else who signs up in this browser was sent by her.
    client.logout()
    sign_up(client, "carl")
    assert Member.objects.count() == 2
    assert_ledger_balanced()


def test_the_rest_of_the_query_and_a_partners_key_are_kept_apart(client, anna):
    partner = make_partner()
    query = f"a=1&affiliate_id={partner.uid}&{sharing.share_query(anna)}&b=%C3%A9"
    response = client.get(f"/echo/?{query}")
    assert response["Location"] == "/echo/?a=1&b=%C3%A9"
    assert Visitor.objects.get().partner == partner
    assert sign_up(client).affiliate_member.indicator == anna


@pytest.mark.parametrize("policy", ["first", "last"])
def test_of_several_links_the_policy_chooses(client, settings, anna, policy):
    settings.AFFILIATE_ATTRIBUTION = policy
    dora = make_member()
    follow(client, anna)
    follow(client, dora)
    assert sign_up(client).affiliate_member.indicator == (anna if policy == "first" else dora)


def test_the_window_is_that_of_visits(client, settings, anna):
    settings.SESSION_COOKIE_AGE = 10**9
    with freeze() as clock:
        follow(client, anna)
        clock.tick(days=30, seconds=2)
        sign_up(client)
    assert Member.objects.get() == anna


def test_a_code_of_nobody_leads_on_and_leaves_nothing(client, anna):
    response = client.get("/?ref=abcdefghjkmn")
    assert (response.status_code, response["Location"]) == (302, "/")
    assert not client.cookies
    sign_up(client)
    assert Member.objects.get() == anna


NO_CODES = ["", "x", "producthunt", "a" * 11, "a" * 13, "ABCDEFGHJKMN", "abcdefghijkl"]


@pytest.mark.parametrize(
    "code", [*NO_CODES, "%00", "%ED%A0%80", "ä" * 12, "'--", "a" * 5000, "٣" * 12]
)
def test_what_is_no_code_is_left_to_the_site(client, anna, code, django_assert_num_queries):
    with django_assert_num_queries(0):
        response = client.get(f"/?ref={code}&a=1")
    assert response.status_code == 200
    assert not client.cookies
    sign_up(client)
    assert Member.objects.get() == anna


def test_a_link_is_followed_whatever_the_case_is_not(client, anna):
    client.get(f"/?ref={anna.code.upper()}")
    sign_up(client)
    assert Member.objects.count() == (2 if anna.code.isdigit() else 1)


@pytest.mark.parametrize(
    "extra",
    [
        {"HTTP_USER_AGENT": "Googlebot/2.1 (+http://www.google.com/bot.html)"},
        {"HTTP_SEC_PURPOSE": "prefetch"},
        {"HTTP_SEC_GPC": "1"},
    ],
)
def test_who_is_not_to_be_noted(client, anna, extra):
    assert follow(client, anna, **extra).status_code == 302
    assert not client.cookies


def test_a_head_request_notes_nobody(client, anna):
    assert client.head(f"/?{sharing.share_query(anna)}").status_code == 302
    assert not client.cookies


def test_their_own_link_is_nobodys(client, anna):
    client.force_login(anna.user)
    follow(client, anna)
    assert sharing.SESSION_KEY not in client.session


def test_an_ended_program_registers_nobody_and_keeps_nobody_from_signing_up(client, anna):
    dora = make_member()
    follow(client, anna)
    anna.program.active = False
    anna.program.save()
    sign_up(client)
    follow(client, dora)
    assert sharing.SESSION_KEY not in client.session
    assert Member.objects.count() == 2


@pytest.mark.parametrize("junk", [None, 7, "x", [], [1], ["a", 1], [True, 1], [2**70, 1], [-1, 0]])
def test_whatever_else_stands_in_the_session(client, anna, junk):
    follow(client, anna)
    session = client.session
    session[sharing.SESSION_KEY] = junk
    session.save()
    sign_up(client)
    assert Member.objects.get() == anna


def test_whom_staff_make_nobody_has_sent(client, anna):
    client.force_login(make_user("staff"))
    follow(client, anna)
    client.post("/signup/", {"username": "ben"})
    assert Member.objects.get() == anna


def test_a_registration_that_fails_keeps_nobody_from_signing_up(client, anna, settings, caplog):
    settings.AFFILIATE_REFERRALS_USER_HASH = "tests.referrals.test_sharing.broken"
    follow(client, anna)
    assert sign_up(client)
    assert Member.objects.get() == anna
    assert "A new user was not registered as referred" in caplog.text


def broken(user):
    raise RuntimeError


def their_name(user):
    return f"shop:{user.username}"


def test_the_hash_is_the_sites_own_where_it_has_one(client, anna, settings):
    settings.AFFILIATE_REFERRALS_USER_HASH = "tests.referrals.test_sharing.their_name"
    follow(client, anna)
    assert sign_up(client).affiliate_member.user_hash == "shop:ben"


def test_everybody_is_a_member_once_they_ask(anna):
    ben = make_user("ben")
    member = sharing.member_of(ben)
    assert (member.user, member.indicator, member.program) == (ben, None, anna.program)
    assert sharing.member_of(ben) == member
    anna.program.active = False
    anna.program.save()
    assert sharing.member_of(ben) == member
    with pytest.raises(UnknownProgram):
        sharing.member_of(make_user("carl"))


def test_who_follows_no_link_costs_no_query(client, anna):
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/?reference=1&href=2").status_code == 200
    assert not queries


@pytest.mark.django_db(transaction=True)
async def test_it_is_the_same_in_async_code(async_client):
    def prepare():
        make_program()
        return make_member()

    anna = await sync_to_async(prepare)()
    response = await async_client.get(f"/aecho/?{sharing.share_query(anna)}")
    assert response["Location"] == "/aecho/"
    response = await async_client.post("/asignup/", {"username": "ben"})
    assert response.status_code == 201
    member = await Member.objects.aget(user__username="ben")
    assert member.indicator_id == anna.pk


# What is wrong with the settings


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("BILLING_URL", "", ""),
        ("BILLING_URL", "https://b.example/{user_hash}?t={security_token}", ""),
        ("BILLING_URL", "http://b.example/%s", ""),
        ("BILLING_URL", "https://b.example/", "E001"),
        ("BILLING_URL", "https://b.example/#{user_hash}", "E001"),
        ("BILLING_URL", "ftp://b.example/{user_hash}", "E001"),
        ("BILLING_URL", None, "E001"),
        ("CURRENCY", "EUR", ""),
        ("CURRENCY", "eur", "E002"),
        ("KEY", "invited_by", ""),
        ("KEY", "a&b", "E003"),
        ("USER_HASH", their_name, ""),
        ("USER_HASH", "nodots", "E004"),
        ("USER_HASH", "tests.referrals.test_sharing.nothing", "E010"),
        ("KEY", "affiliate_id", "E011"),
    ],
)
def test_a_wrong_setting_is_told(settings, name, value, found):
    setattr(settings, f"AFFILIATE_REFERRALS_{name}", value)
    told = [each.id for each in check_settings(None)]
    assert told == ([f"affiliations_referrals.{found}"] if found else [])


# What is held on a person


def test_a_member_is_exported_and_erased(client, settings, anna):
    settings.AFFILIATE_REFERRALS_BILLING_URL = "https://billing.example/{user_hash}"
    follow(client, anna)
    user = sign_up(client)
    ben = user.affiliate_member
    invoices.pay(ben, "A-1", euros(100))
    services.register("carl", indicator=ben)
    told = export_user(user)["referrals"]
    assert (told["hash"], told["brought_by"]) == (ben.user_hash, anna.user_hash)
    assert told["invoices"] == [{"reference": "A-1", "paid_minor": 10_000, "refunded_minor": 0}]
    assert [each["operation"] for each in told["operations"]] == [
        "signup",
        "signup_credit",
        "indication",
        "potencial_credit",
    ]
    before = [balance(each) for each in (anna, ben)]
    known = [ben.user_hash, ben.code, "A-1"]
    assert forget_user(user)["members"] == 1
    ben.refresh_from_db()
    assert (ben.user, ben.indicator) == (None, anna)
    assert [balance(each) for each in (anna, ben)] == before
    rows = [*Member.objects.values(), *Invoice.objects.values(), *Callback.objects.values()]
    for text in known:
        assert text not in str(rows)
    # Of the others it stays.
    assert Operation.objects.filter(callback__url__contains=anna.user_hash).exists()
    assert "referrals" not in export_user(user)
    assert_ledger_balanced()


def test_nobody_keeps_another_from_being_erased(anna):
    services.register(f"erased:{anna.pk}", indicator=anna)
    assert forget_user(anna.user)["members"] == 1
    assert Member.objects.get(pk=anna.pk).user_hash.startswith(f"erased:{anna.pk}:")


def test_no_reference_keeps_a_member_from_being_erased(anna):
    """Whatever numbers their invoices will have had, the billing system may have used before."""
    first = Invoice.objects.create(member=anna, reference="A-1").pk
    for number in range(first, first + 19):
        invoices.pay(anna, f"erased:{number}", euros(1))
    with CaptureQueriesContext(connection) as queries:
        assert forget_user(anna.user)["members"] == 1
    table = Invoice._meta.db_table
    assert sum(table in each["sql"] for each in queries) == 1
    references = set(Invoice.objects.values_list("reference", flat=True))
    assert len(references) == 20
    for reference in references:
        assert re.fullmatch(r"erased:\d+:\w{12}", reference)


def test_whoever_is_no_member_is_exported_and_erased_as_ever():
    user = make_user("ben")
    assert "referrals" not in export_user(user)
    assert "members" not in forget_user(user)


def test_share_codes_are_not_guessed(anna):
    codes = {make_member().code for _ in range(50)}
    assert len(codes) == 50
    assert all(len(code) == 12 and code.isalnum() for code in codes)


def test_somebody_elses_browser(anna):
    follow(Client(), anna)
    sign_up(Client())
    assert Member.objects.get() == anna
