"""The pages of members, and the mails to whom they invite."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core import mail
from django.core.management import call_command
from django.template import Context, Template
from django.test import Client, RequestFactory
from django.utils import timezone

from affiliations.referrals import invoices, mails, sharing
from affiliations.referrals.indications import indicate, invite
from affiliations.referrals.models import EmailIndication, MailRefusal, Member
from tests.core.factories import make_user
from tests.core.promises.test_races import at_once
from tests.referrals.factories import euros, make_member, make_program

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def anna():
    make_program()
    user = make_user("anna@example.com")
    user.first_name, user.last_name, user.email = "Anna", "Arendt", "anna@example.com"
    user.save()
    return make_member(user=user)


@pytest.fixture
def page(client, anna, settings, django_capture_on_commit_callbacks):
    settings.LOGIN_URL = "/login/"
    client.force_login(anna.user)

    def ask(emails=None):
        if emails is None:
            return client.get("/friends/")
        with django_capture_on_commit_callbacks(execute=True):
            response = client.post("/friends/", {"emails": emails}, follow=True)
        assert response.status_code == 200
        return response

    return ask


def text_of(response):
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def test_a_member_sees_the_link_and_what_came_of_it(anna, page):
    invoices.report_total(make_member(anna), euros(100))
    make_member(anna)
    response = page()
    html, text = response.content.decode(), text_of(response)
    assert f"http://testserver/?ref={anna.code}" in html
    assert '<svg class="aff-qr"' in html
    assert "Your friend gets 5.00 EUR at sign-up. You get 20.00 EUR once they have paid" in text
    assert "Signed up 2 Have earned you a credit 1 To come 20.00 EUR Earned 20.00 EUR" in text
    assert "no-store" in response["Cache-Control"]
    # Nothing is loaded from anywhere else, and no script is.
    assert "<script" not in html
    assert set(re.findall(r'(?:src|<link[^>]+href)="([^"]+)"', html)) == {
        "/static/affiliations/referrals.css"
    }


def test_whoever_is_not_logged_in_is_asked_to(settings):
    settings.LOGIN_URL = "/login/"
    assert Client().get("/friends/")["Location"] == "/login/?next=/friends/"


def test_a_user_becomes_a_member_by_looking(client, anna):
    ben = make_user("ben")
    client.force_login(ben)
    assert client.get("/friends/").status_code == 200
    assert Member.objects.get(user=ben).indicator is None


def test_without_a_program_there_is_nothing_to_see(client):
    client.force_login(make_user())
    response = client.get("/friends/")
    assert response.status_code == 404
    assert "There is no program at the moment" in text_of(response)


def test_friends_are_invited_and_written_to(anna, page):
    text = text_of(page("ben@example.com, carl@example.com\n ben@example.com; nonsense"))
    assert "2 friends are invited." in text
    assert "No e-mail addresses: nonsense" in text
    assert "ben@example.com" in text
    assert "was written to" in text_of(page())
    first, second = mail.outbox
    assert (first.to, second.to) == (["ben@example.com"], ["carl@example.com"])
    assert first.subject == "Anna Arendt invites you"
    assert f"http://testserver/?ref={anna.code}" in first.body
    assert "You get 5.00 EUR when you sign up." in first.body
    assert "anna@example.com" not in first.body
    token = EmailIndication.objects.get(email="ben@example.com").token
    assert first.extra_headers == {
        "List-Unsubscribe": f"<http://testserver/friends/stop/{token}/>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    page("ben@example.com")
    call_command("send_invitations")
    assert len(mail.outbox) == 2


@pytest.mark.parametrize(
    ("emails", "said"),
    [
        ("", "This field is required."),
        ("x" * 10_001, "Ensure this value has at most 10000 characters"),
        ("\0", "Null characters are not allowed."),
        ("anna@example.com", "You cannot invite yourself."),
        (HOSTILE, "No e-mail addresses: &lt;script&gt;"),
        (" ".join(f"a{number}@b.de" for number in range(1001)), "too many at once"),
        ("ben\ud7ff@example.com", "No e-mail addresses"),
    ],
)
def test_what_cannot_be_invited_is_said(page, emails, said):
    response = page(emails)
    assert said in response.content.decode().replace("&#x27;", "'")
    assert HOSTILE not in response.content.decode()
    assert not mail.outbox


def test_whether_others_know_somebody_is_not_told(page):
    dora = make_member()
    indicate(dora, ["ben@example.com"])
    text = text_of(page("ben@example.com"))
    assert "Some were invited before, or want no invitations." in text
    assert "Dora" not in text
    assert not mail.outbox


def test_beyond_the_limit_nobody_is_written_to(page, settings):
    settings.AFFILIATE_REFERRALS_INVITATIONS = (1, timedelta(days=1))
    assert "Some have to wait" in text_of(page("ben@example.com carl@example.com"))
    assert len(mail.outbox) == 1


@pytest.mark.parametrize(
    ("first", "last", "subject"),
    [
        ("Anna", "", "Anna invites you"),
        ("Zoë-Marie", "O'Neill", "Zoë-Marie O'Neill invites you"),
        ("", "", "A friend invites you"),
        ("visit evil.example", "", "A friend invites you"),
        ("Free money at", "https://evil.example", "A friend invites you"),
        ("a@b.de", "", "A friend invites you"),
        ("Anna\nBcc: x@example.com", "", "A friend invites you"),
        ("A" * 41, "", "A friend invites you"),
    ],
)
def test_no_name_is_an_advertisement(anna, page, first, last, subject):
    anna.user.first_name, anna.user.last_name = first, last
    anna.user.save()
    page("ben@example.com")
    assert mail.outbox[0].subject == subject


def test_a_mail_server_that_refuses_has_it_due_again(anna, page, monkeypatch, caplog):
    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    with monkeypatch.context() as patched:
        patched.setattr(mail.EmailMessage, "send", refuse)
        assert "1 friend is invited." in text_of(page("ben@example.com"))
    assert EmailIndication.objects.get().mail_due
    assert "could not be sent" in caplog.text
    assert mails.send_due() == 1
    assert (len(mail.outbox), mails.send_due()) == (1, 0)


@pytest.mark.django_db(transaction=True)
def test_of_many_that_send_at_once_one_does(anna):
    invite(anna, [f"user{number}@example.com" for number in range(5)], "http://x.example/?ref=1")
    assert sum(at_once(6, mails.send_due)) == 5
    assert len({each.to[0] for each in mail.outbox}) == len(mail.outbox) == 5


def test_what_is_no_longer_kept_of_friends(anna, page):
    page("ben@example.com carl@example.com")
    old = timezone.now() - timedelta(days=401)
    EmailIndication.objects.filter(email="ben@example.com").update(waiting_since=old)
    call_command("purge_indications", "--older-than", "400d", verbosity=0)
    text = text_of(page())
    assert "Invited by e-mail 2" in text
    assert "(no longer kept)" in text
    assert "carl@example.com" in text
    assert "ben@example.com" not in text
    assert "erased" not in text


# Who wants no more


@pytest.mark.parametrize("enforced", [False, True])
def test_one_click_is_enough(anna, page, enforced):
    page("ben@example.com")
    [address] = re.findall(r"http://testserver(/friends/stop/\S+)", mail.outbox[0].body)
    browser = Client(enforce_csrf_checks=enforced)
    asked = browser.get(address)
    assert "Shall we write you no more invitations" in text_of(asked)
    assert not MailRefusal.objects.exists()
    done = browser.post(address, {"List-Unsubscribe": "One-Click"})
    assert "You will get no more invitations" in text_of(done)
    assert MailRefusal.objects.count() == 1


@pytest.mark.parametrize("token", ["x", "%00", "%ED%A0%80", "a" * 3000])
def test_a_token_of_nobody_is_answered_as_any(token):
    for ask in (Client().get, Client().post):
        assert ask(f"/friends/stop/{token}/").status_code == 200


# The link as a path


def test_a_path_is_a_share_link_too(client, anna):
    response = client.get(f"/friends/by/{anna.code}/")
    assert (response.status_code, response["Location"]) == (302, "/")
    client.post("/signup/", {"username": "ben"})
    assert Member.objects.get(user__username="ben").indicator == anna


@pytest.mark.parametrize("code", ["x", "%00", "%ED%A0%80", "a" * 3000])
def test_a_path_of_nobody_leads_on(client, anna, code):
    response = client.get(f"/friends/by/{code}/")
    assert (response.status_code, response["Location"]) == (302, "/")
    assert not client.cookies
    assert client.post(f"/friends/by/{anna.code}/").status_code == 405


# The board


def test_the_board_names_nobody_by_an_address(anna, page):
    ben = make_user("ben@example.com")
    ben.first_name = "Ben"
    ben.save()
    ben, nameless = make_member(user=ben), make_member(user=make_user("n@example.com"))
    for indicator, number in ((ben, 3), (nameless, 2), (anna, 1)):
        for _ in range(number):
            make_member(indicator)
    text = text_of(page())
    assert "Who has brought most Ben 3 A member 2 You 1" in text
    assert "n@example.com" not in text


def test_the_page_of_a_member_with_many_costs_no_more(anna, page, django_assert_max_num_queries):
    for _ in range(12):
        make_member(make_member(anna))
    with django_assert_max_num_queries(12):
        page()


# Tags


def rendered(user, source):
    request = RequestFactory().get("/")
    request.user = user
    template = Template("{% load affiliations_referrals %}" + source)
    return template.render(Context({"request": request}))


def test_the_tags_tell_of_whoever_is_logged_in(anna, django_assert_max_num_queries):
    make_member(anna)
    source = (
        "{% referral_link '/a/?b=1' %} {% referral_link %} "
        "{% referral_stats as stats %}{{ stats.registered }} {{ stats.potential }}"
    )
    with django_assert_max_num_queries(4):
        found = rendered(anna.user, source)
    assert found == (
        f"http://testserver/a/?b=1&amp;ref={anna.code} http://testserver/?ref={anna.code} "
        "1 20.00 EUR"
    )


def test_the_tags_say_nothing_to_others(anna):
    source = "[{% referral_link %}]{% referral_stats as stats %}[{{ stats.registered }}]"
    assert rendered(AnonymousUser(), source) == "[][]"
    anna.program.active = False
    anna.program.save()
    assert rendered(make_user("ben"), source) == "[][]"
    assert (
        Template("{% load affiliations_referrals %}[{% referral_link %}]").render(Context({}))
        == "[]"
    )
    assert sharing.member_of(anna.user) == anna
