"""The pages of members in a real Chromium, by day and by night, on a desk and on a phone."""

import re

import pytest
from django.conf import settings
from django.core import mail
from django.test import Client
from playwright.sync_api import expect

from affiliations.referrals import indications, invoices
from affiliations.referrals.models import EmailIndication, MailRefusal, Member
from tests.browser import PHONE, assert_readable, complaints, in_every_look
from tests.core.factories import make_user
from tests.referrals.factories import euros, make_member, make_program

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LONG = "a-very-long-address-of-somebody@department.of.a-university.example.com"
# Chromium without a head says so, and is then taken for the robot that it is.
PERSON = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36"
)


@pytest.fixture
def anna(transactional_db):
    """Somebody who has brought some, two of whom have paid, and has invited more."""
    make_program(name="Bring a friend")
    user = make_user("anna")
    user.first_name = "Anna"
    user.save()
    member = make_member(user=user)
    for number in range(5):
        invoices.report_total(make_member(member), euros(number * 30))
    other = make_member(user=make_user("b" * 60))
    for _ in range(7):
        make_member(other)
    indications.invite(member, ["carl@example.com", LONG], "https://shop.example/?ref=x")
    EmailIndication.objects.filter(email=LONG).update(member=member.indicated.first())
    return member


@pytest.fixture
def hers(anna, live_server, new_context):
    """Make contexts in which she is logged in."""
    client = Client()
    client.force_login(anna.user)
    name = settings.SESSION_COOKIE_NAME

    def made(**options):
        context = new_context(base_url=live_server.url, **options)
        session = client.cookies[name].value
        context.add_cookies([{"name": name, "value": session, "url": live_server.url}])
        return context

    return made


@in_every_look
def test_every_page_can_be_read(hers, anna, scheme, window):
    context = hers(color_scheme=scheme, viewport=window)
    wrong = complaints(context)
    page = context.new_page()
    page.goto("/friends/")
    assert_readable(page)
    expect(page.locator(".aff-figures dd")).to_have_text(["2", "5", "1", "80.00 EUR", "20.00 EUR"])
    page.get_by_label("Your friends’ e-mail addresses").fill(f"erna@example.com, {'x' * 60}")
    page.get_by_role("button", name="Send invitations").click()
    expect(page.locator(".aff-message")).to_have_count(2)
    assert_readable(page)
    page.goto(f"/friends/stop/{EmailIndication.objects.first().token}/")
    assert_readable(page)
    page.get_by_role("button", name="No more invitations").click()
    assert_readable(page)
    assert MailRefusal.objects.count() == 1
    assert wrong == []


def test_from_an_invitation_to_a_member_whom_she_has_brought(hers, anna, new_context, live_server):
    page = hers(viewport=PHONE).new_page()
    page.goto("/friends/")
    page.get_by_label("Your friends’ e-mail addresses").fill("erna@example.com")
    page.get_by_role("button", name="Send invitations").click()
    expect(page.locator(".aff-message")).to_contain_text("1 friend is invited.")
    [link] = re.findall(r"http://\S+\?ref=\w+", mail.outbox[-1].body)
    friend = new_context(user_agent=PERSON).new_page()
    friend.goto(link)
    expect(friend).to_have_url(f"{live_server.url}/")
    friend.request.post(f"{live_server.url}/signup/", form={"username": "erna"})
    assert Member.objects.get(user__username="erna").indicator == anna
