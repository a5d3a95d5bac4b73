"""Sites whose accounts are django-allauth's: who comes by a share link and signs up on its pages.

All of it over HTTP. That needs settings of its own: the tests down here that are named `allauth_…`
are run as a process of their own.
"""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import urljoin

import pytest
import requests
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core import mail

from affiliations.referrals import indications, sharing
from affiliations.referrals.models import EmailIndication, Member
from affiliations.rewards.testing import assert_ledger_balanced
from tests.core.factories import make_user
from tests.referrals.factories import balance, make_member, make_program

BEN = "ben@example.com"
PASSWORD = "a password of nobody's"


@pytest.mark.once
@pytest.mark.parametrize("sessions", ["db", "signed_cookies"])
def test_who_signs_up_through_allauth(sessions):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"]
    command += ["--no-migrations", "--ds", "tests.projects.allauth"]
    command += ["-o", "python_functions=allauth_*", __file__]
    engine = f"django.contrib.sessions.backends.{sessions}"
    environment = {**os.environ, "ALLAUTH_SESSIONS": engine}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout, done.stdout


# What the tests below are made of


class Forms(HTMLParser):
    """A page's forms: of each where it goes, and what it would send as it is."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        if tag == "form":
            self.found.append((told.get("action") or "", {}))
        elif tag == "input" and told.get("name") and told.get("type") != "checkbox":
            self.found[-1][1][told["name"]] = told.get("value") or ""


class Browser:
    """Somebody's browser. Every page that it sees is one that worked."""

    def __init__(self, url):
        self.url = url
        self.session = requests.Session()
        # Who says nothing is taken for the robot that it is.
        self.session.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140"

    def close(self):
        self.session.close()

    def get(self, path):
        return self._seen(self.session.get(urljoin(self.url, path), timeout=30))

    def send(self, path, **values):
        """Fill in the first form of a page that asks for these, and return what follows."""
        page = self.get(path)
        forms = Forms(page.text).found
        action, fields = next(each for each in forms if {*values} <= {*each[1]})
        # Where the form has no address, it is the page's own.
        to = urljoin(page.url, action)
        return self._seen(self.session.post(to, data=fields | values, timeout=30))

    def _seen(self, page):
        assert page.status_code == 200, f"{page.status_code} {page.url}"
        self.at = page.url.removeprefix(self.url)
        return page

    @property
    def user(self):
        return self.get("/whoami/").json()["user"]

    @property
    def cookie(self):
        return self.session.cookies.get(django_settings.SESSION_COOKIE_NAME)


@pytest.fixture
def new_browser(live_server):
    opened = []

    def made():
        opened.append(Browser(live_server.url))
        return opened[-1]

    yield made
    for each in opened:
        each.close()


@pytest.fixture
def browser(new_browser):
    return new_browser()


@pytest.fixture
def anna(transactional_db):
    make_program()
    return make_member(user=make_user("anna"))


def make_ben():
    return get_user_model().objects.create_user("ben", BEN, PASSWORD)


def follow(browser, member):
    browser.get(f"/?{sharing.share_query(member)}")
    assert browser.at == "/"


def sign_up(browser, email=BEN):
    return browser.send("/accounts/signup/", email=email, password1=PASSWORD)


def log_in(browser, email=BEN):
    browser.send("/accounts/login/", login=email, password=PASSWORD)


def elsewhere(browser, **values):
    """Sign up, or log in, by an account of the provider that allauth has for tests."""
    browser.send("/accounts/dummy/login/")
    assert browser.at.startswith("/accounts/dummy/authenticate/")
    at = browser.at
    return browser.send(at, id="7", **values)


def assert_brought(email, anna):
    """Hold that whoever has this address is the one member whom she has brought."""
    [member] = Member.objects.exclude(pk=anna.pk)
    assert (member.user.email, member.indicator) == (email, anna)
    assert (balance(member), balance(anna)) == ((500, 500), (2000, 0))
    assert_ledger_balanced()


def assert_nobody_brought(anna):
    assert not Member.objects.exclude(indicator=None)
    assert balance(anna) == (0, 0)


def allauth_by_its_form(browser, anna):
    follow(browser, anna)
    before = browser.cookie
    # What is wrong at first is corrected.
    browser.send("/accounts/signup/", email="ben", password1=PASSWORD)
    assert browser.at == "/accounts/signup/"
    sign_up(browser)
    assert browser.user == "ben"
    assert browser.cookie not in (None, before)
    assert_brought(BEN, anna)


def allauth_without_a_link(browser, new_browser, anna):
    follow(new_browser(), anna)
    sign_up(browser)
    assert browser.user == "ben"
    assert_nobody_brought(anna)
    assert Member.objects.get() == anna


def allauth_with_an_address_that_she_has_indicated(browser, anna):
    indications.indicate(anna, [BEN])
    sign_up(browser, "Ben@Example.com")
    assert_brought(get_user_model().objects.get(username="ben").email, anna)
    assert EmailIndication.objects.get().member.indicator == anna


@pytest.mark.parametrize("by", ["link", "code"])
def allauth_with_the_address_verified_first(browser, new_browser, anna, settings, by):
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    settings.ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = by == "code"
    follow(browser, anna)
    sign_up(browser)
    assert browser.at.startswith("/accounts/confirm-email/")
    assert browser.user is None
    # The user is there, and so is the member, though they cannot log in.
    assert_brought(BEN, anna)
    [sent] = mail.outbox
    if by == "link":
        # They may read it on another device, which knows of no link.
        browser = new_browser()
        [link] = re.findall(r"http://\S+/accounts/confirm-email/\S+", sent.body)
        browser.send(link)
        log_in(browser)
    else:
        [code] = re.findall(r"^\s*([A-Z0-9-]{6,})\s*$", sent.body, re.MULTILINE)
        browser.send("/accounts/confirm-email/", code=code)
    assert browser.user == "ben"
    browser.get("/friends/")
    assert browser.at == "/friends/"
    assert_brought(BEN, anna)


@pytest.mark.parametrize("verification", ["none", "mandatory"])
def allauth_with_an_address_that_has_an_account(browser, anna, settings, verification):
    settings.ACCOUNT_EMAIL_VERIFICATION = verification
    make_ben()
    follow(browser, anna)
    sign_up(browser)
    # Where a mail is sent anyway, nobody sees that there is such an account.
    told = "signup" if verification == "none" else "confirm-email"
    assert browser.at == f"/accounts/{told}/"
    assert len(mail.outbox) == (verification == "mandatory")
    assert get_user_model().objects.count() == 2
    assert_nobody_brought(anna)
    # They have not been counted yet: with an address of their own they are.
    sign_up(browser, "carl@example.com")
    assert_brought("carl@example.com", anna)


def allauth_login_brings_nobody(browser, anna):
    make_ben()
    follow(browser, anna)
    before = browser.cookie
    log_in(browser)
    assert browser.user == "ben"
    assert browser.cookie not in (None, before)
    # A member by looking, and by themselves.
    browser.get("/friends/")
    assert Member.objects.get(user__username="ben").indicator is None
    assert_nobody_brought(anna)
    # Nor was whoever comes after them sent by anybody.
    browser.send("/accounts/logout/")
    assert browser.user is None
    sign_up(browser, "carl@example.com")
    assert browser.user == "carl"
    assert_nobody_brought(anna)


def allauth_by_an_account_elsewhere(browser, new_browser, anna):
    follow(browser, anna)
    elsewhere(browser, email=BEN)
    assert browser.user == "ben"
    assert_brought(BEN, anna)
    # And again, from another browser that somebody else has sent.
    dora = make_member()
    other = new_browser()
    follow(other, dora)
    elsewhere(other, email=BEN)
    assert other.user == "ben"
    assert Member.objects.get(user__username="ben").indicator == anna
    assert balance(dora) == (0, 0)


def allauth_by_an_account_elsewhere_and_a_form(browser, anna, settings):
    settings.SOCIALACCOUNT_AUTO_SIGNUP = False
    follow(browser, anna)
    elsewhere(browser, email="other@example.com")
    assert browser.at == "/accounts/3rdparty/signup/"
    assert Member.objects.get() == anna
    browser.send(browser.at, email=BEN)
    assert browser.user == "ben"
    assert_brought(BEN, anna)


def allauth_by_its_api(browser, anna):
    follow(browser, anna)
    api = f"{browser.url}/_allauth/browser/v1"
    browser.session.get(f"{api}/config", timeout=30)
    answer = browser.session.post(
        f"{api}/auth/signup",
        json={"email": BEN, "password": PASSWORD},
        headers={"X-CSRFToken": browser.session.cookies["csrftoken"]},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    assert browser.user == "ben"
    assert_brought(BEN, anna)
