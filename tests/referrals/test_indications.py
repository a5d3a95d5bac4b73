"""Whom members would bring, known by their e-mail addresses."""

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db.models.signals import pre_save

from affiliations.privacy import export_user, forget_user
from affiliations.referrals import indications
from affiliations.referrals.exceptions import ProgramEnded
from affiliations.referrals.indications import Refused, indicate, indicators, invite
from affiliations.referrals.models import EmailIndication, MailRefusal, Member
from affiliations.testing import freeze
from tests.core.factories import make_user
from tests.core.promises.test_races import at_once
from tests.referrals.factories import balance, make_member, make_program

pytestmark = pytest.mark.django_db

LINK = "https://shop.example/?ref=x"


@pytest.fixture
def anna():
    make_program()
    user = make_user("anna")
    user.email = "Anna@Example.com"
    user.save()
    return make_member(user=user)


def saved(found):
    return [each.email for each in found.saved]


def test_addresses_are_noted_as_they_are_compared(anna):
    found = indicate(anna, [" Ben@Example.COM ", "ben@example.com", "carl@example.com", "", " "])
    assert saved(found) == ["ben@example.com", "carl@example.com"]
    assert not found.refused
    assert EmailIndication.objects.count() == 2
    assert not EmailIndication.objects.filter(mail_due=True).exists()


@pytest.mark.parametrize(
    "email",
    [
        "x",
        "a@b",
        "a b@example.com",
        "@example.com",
        "a\0@example.com",
        "a\n@example.com",
        "ä\ud800@example.com",
        f"{'a' * 250}@example.com",
        "a@example.com,b@example.com",
    ],
)
def test_what_is_no_address(anna, email):
    assert indicate(anna, [email]) == ([], [Refused(email, "invalid")])
    assert indicators([email]) == {email: None}


def test_who_was_first_has_indicated_an_address(anna):
    dora, elsewhere = make_member(), make_member(program=make_program())
    assert saved(indicate(anna, ["ben@example.com"])) == ["ben@example.com"]
    assert indicate(dora, ["BEN@example.com"]).refused == [Refused("BEN@example.com", "indicated")]
    assert saved(indicate(anna, ["ben@example.com"])) == ["ben@example.com"]
    assert saved(indicate(elsewhere, ["ben@example.com"])) == ["ben@example.com"]
    assert indicators([" Ben@example.com", "carl@example.com"]) == {
        "Ben@example.com": anna,
        "carl@example.com": None,
    }


def test_nobody_indicates_themselves(anna):
    assert indicate(anna, ["anna@example.com"]).refused == [Refused("anna@example.com", "own")]


def test_in_a_program_that_has_ended_nobody_is(anna):
    anna.program.active = False
    anna.program.save()
    with pytest.raises(ProgramEnded):
        indicate(anna, ["ben@example.com"])


def test_there_are_not_too_many_at_once(anna):
    many = [f"user{number}@example.com" for number in range(1001)]
    for ask in (lambda: indicate(anna, many), lambda: indicators(many)):
        with pytest.raises(ValueError, match=r"^emails: "):
            ask()
    assert len(indicate(anna, many[:1000]).saved) == 1000


def test_who_is_invited_is_written_to_once(anna):
    first = invite(anna, ["ben@example.com"], LINK)
    assert (first.saved[0].mail_due, first.saved[0].link) == (True, LINK)
    EmailIndication.objects.update(mail_due=False)
    again = invite(anna, ["ben@example.com"], LINK)
    assert saved(again) == ["ben@example.com"]
    assert not EmailIndication.objects.filter(mail_due=True).exists()


@pytest.mark.parametrize("link", ["", "x" * 501])
def test_a_link_is_one(anna, link):
    with pytest.raises(ValueError, match=r"^link: "):
        invite(anna, ["ben@example.com"], link)


def test_invitations_are_limited(anna, settings):
    settings.AFFILIATE_REFERRALS_INVITATIONS = (2, timedelta(hours=1))
    with freeze() as clock:
        found = invite(anna, [f"{name}@example.com" for name in "bcd"], LINK)
        assert (len(found.saved), found.refused) == (2, [Refused("d@example.com", "limit")])
        assert saved(invite(anna, ["b@example.com"], LINK)) == ["b@example.com"]
        assert indicate(anna, ["e@example.com"]).saved
        clock.tick(hours=1, seconds=1)
        assert invite(anna, ["d@example.com"], LINK).saved


@pytest.mark.django_db(transaction=True)
def test_the_limit_is_exact_also_of_many_at_once(anna, settings):
    settings.AFFILIATE_REFERRALS_INVITATIONS = (5, timedelta(hours=1))
    names = [f"user{number}@example.com" for number in range(12)]
    at_once(12, lambda: invite(anna, [names.pop()], LINK))
    assert EmailIndication.objects.count() == 5


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_is_first(anna):
    members = [anna, *(make_member() for _ in range(9))]
    found = at_once(10, lambda: indicate(members.pop(), ["ben@example.com"]))
    assert sorted(len(each.saved) for each in found) == [0] * 9 + [1]
    assert EmailIndication.objects.count() == 1


def test_who_wants_no_mails_gets_none_from_anybody(anna):
    [ben] = invite(anna, ["ben@example.com"], LINK).saved
    elsewhere = make_member(program=make_program())
    assert indications.refuse_mails(ben.token)
    assert indications.refuse_mails(ben.token)
    assert not EmailIndication.objects.filter(mail_due=True).exists()
    found = invite(elsewhere, ["Ben@example.com"], LINK)
    assert found.refused == [Refused("Ben@example.com", "unwanted")]
    assert saved(indicate(elsewhere, ["ben@example.com"])) == ["ben@example.com"]
    assert "ben" not in str(list(MailRefusal.objects.values()))


@pytest.mark.parametrize("token", ["", "x", "a\0", "ä", "\ud800", "a" * 5000])
def test_a_token_of_nobody(token):
    assert not indications.refuse_mails(token)


# Who signs up with an address that somebody has indicated


def sign_up(client, name):
    users = get_user_model()

    def with_email(sender, instance, **kwargs):
        instance.email = f"{name}@example.com"

    pre_save.connect(with_email, sender=users)
    try:
        assert client.post("/signup/", {"username": name}).status_code == 201
    finally:
        pre_save.disconnect(with_email, sender=users)
    return users.objects.get(username=name)


def test_who_signs_up_with_an_indicated_address_is_registered(client, anna):
    invite(anna, ["ben@example.com"], LINK)
    ben = sign_up(client, "ben").affiliate_member
    assert (ben.indicator, balance(anna)) == (anna, (2000, 0))
    indication = EmailIndication.objects.get()
    assert (indication.member, indication.mail_due) == (ben, False)


def test_a_link_that_was_followed_counts_for_more(client, anna):
    dora = make_member()
    indicate(anna, ["ben@example.com"])
    client.get(f"/?ref={dora.code}")
    assert sign_up(client, "ben").affiliate_member.indicator == dora
    assert EmailIndication.objects.get().member is None


def test_an_address_of_nobody_registers_nobody(client, anna):
    sign_up(client, "ben")
    assert Member.objects.get() == anna


# What is held on a person


def test_addresses_are_exported_and_erased(client, anna):
    dora = make_member(user=make_user("dora"))
    indicate(anna, ["ben@example.com", "carl@example.com"])
    indicate(dora, ["erna@example.com"])
    ben = sign_up(client, "ben")
    assert export_user(anna.user)["referrals"]["has_indicated"] == [
        "ben@example.com",
        "carl@example.com",
    ]
    assert len(export_user(ben)["referrals"]["indicated"]) == 1
    assert forget_user(ben)["indications"] == 1
    assert forget_user(anna.user)["indications"] == 1
    left = set(EmailIndication.objects.values_list("email", flat=True))
    assert {each for each in left if "@" in each} == {"erna@example.com"}


def test_an_address_of_a_user_who_is_no_member(anna):
    carl = make_user("carl")
    carl.email = "CARL@example.com"
    carl.save()
    indicate(anna, ["carl@example.com"])
    assert export_user(carl)["referrals"]["indicated"][0]["program"] == anna.program.name
    assert forget_user(carl)["indications"] == 1
    assert "referrals" not in export_user(carl)
