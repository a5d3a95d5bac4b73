"""Secrets at rest: what the admin shows once is found nowhere afterwards."""

import logging
import re
import secrets
from html import unescape
from urllib.parse import unquote

import pytest
from django.contrib import messages
from django.contrib.sessions.models import Session
from django.core import mail
from django.db import connection
from django.http import HttpResponseRedirect
from django.urls import reverse
from django.views.debug import ExceptionReporter

from affiliations import signing
from affiliations.admin.keys import ApiKeyAdmin
from affiliations.admin.pages import Secret
from affiliations.models import ApiKey, Partner
from tests.core.factories import make_partner

pytestmark = pytest.mark.django_db
MODELS = ("partner", "visitor", "conversion", "callback", "apikey")


class Watcher:
    """Somebody who keeps whatever a browser and a log are given, but for the pages shown once."""

    def __init__(self, client, caplog):
        self.client = client
        self.caplog = caplog
        self.kept = []

    def post(self, name, /, *args, **data):
        response = self.client.post(reverse(f"admin:affiliations_{name}", args=args), data)
        self.kept += [f"{name}: {header}" for header in response.headers.items()]
        self.kept += [f"{name}: {cookie.OutputString()}" for cookie in response.cookies.values()]
        return response

    def page(self, url):
        response = self.client.get(url)
        assert response.status_code == 200, url
        self.kept.append(f"{url}: {response.content.decode()}")
        return response

    def listed(self, listing):
        """Open every page of a list, and return the addresses of the rows on it."""
        found, number = set(), 1
        while True:
            text = self.page(f"{listing}?p={number}").content.decode()
            found |= set(re.findall(rf"{listing}\w+/change/", text))
            number += 1
            if f"?p={number}" not in text:
                return found

    def leaks(self, shown):
        """Return where one of the secrets is found: tables, sessions, logs, mails, admin pages."""
        places = [f"log: {self.caplog.text}"]
        places += [f"mail: {each.subject} {each.body} {each.alternatives}" for each in mail.outbox]
        places += [f"session: {each.get_decoded()}" for each in Session.objects.all()]
        with connection.cursor() as cursor:
            for table in connection.introspection.table_names():
                cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
                places += [f"{table}: {row}" for row in cursor.fetchall()]
        for model in MODELS:
            for own in sorted(self.listed(reverse(f"admin:affiliations_{model}_changelist"))):
                self.page(own)
                self.page(own.replace("/change/", "/history/"))
        self.page(reverse("admin:index"))
        places += self.kept
        plain = [unquote(unescape(each)) for each in places]
        return [place[:80] for place in plain if any(each in place for each in shown)]


@pytest.fixture
def watcher(admin_client, caplog):
    caplog.set_level(logging.DEBUG)
    return Watcher(admin_client, caplog)


def secret_of(response):
    """Return the part of a token or a secret that nobody but its owner may know."""
    [text] = re.findall(r'aff-secret"[^>]*>([^<]+)</code>', response.content.decode())
    return re.split(r"\.|whsec_", unescape(text))[1]


def issue_keys(watcher, number):
    return [
        secret_of(watcher.post("apikey_add", name=f"key {n}", partner="", scopes="read"))
        for n in range(number)
    ]


def issue_secrets(watcher, number):
    partner = make_partner()
    shown = []
    for _ in range(number):
        partner.refresh_from_db()
        issued = partner.previous_until.isoformat() if partner.previous_until else ""
        shown.append(secret_of(watcher.post("partner_secret", partner.pk, issued=issued)))
    assert signing.decode_secret(shown[-1]) in Partner.objects.get().signing_secrets()
    return shown


@pytest.mark.parametrize("number", [50, pytest.param(1000, marks=pytest.mark.long)])
def test_no_secret_is_kept_in_the_clear(watcher, number):
    shown = issue_keys(watcher, number) + issue_secrets(watcher, number)
    assert len(set(shown)) == 2 * number
    assert all(len(each) >= 43 for each in shown)
    assert ApiKey.objects.count() == number
    assert watcher.leaks(shown) == []


class TestTeeth:
    """The same search finds a secret wherever an admin less careful would have left it."""

    @pytest.fixture
    def token(self, watcher):
        [token] = issue_keys(watcher, 1)
        assert watcher.leaks([token]) == []
        return token

    @pytest.mark.parametrize("storage", ["session.SessionStorage", "cookie.CookieStorage"])
    def test_in_a_message(self, watcher, monkeypatch, settings, storage):
        settings.MESSAGE_STORAGE = f"django.contrib.messages.storage.{storage}"
        told = []

        def by_message(self, request, obj, post_url_continue=None):
            told.append(str(obj.token).partition(".")[2])
            messages.success(request, f"The new key is {obj.token}")
            return HttpResponseRedirect(reverse("admin:affiliations_apikey_changelist"))

        monkeypatch.setattr(ApiKeyAdmin, "response_add", by_message)
        watcher.post("apikey_add", name="key", partner="", scopes="")
        assert watcher.leaks(told)

    def test_in_the_table(self, watcher, token):
        ApiKey.objects.update(name=token)
        assert watcher.leaks([token])

    def test_in_the_log(self, watcher, token):
        logging.getLogger("django.request").info("a key was made: %s", token)
        assert watcher.leaks([token])

    def test_in_the_history(self, watcher, token, monkeypatch):
        monkeypatch.setattr(
            ApiKey, "__str__", lambda key: f"{key.name} {key.__dict__.get('token')}"
        )
        response = watcher.post("apikey_add", name="key", partner="", scopes="")
        assert watcher.leaks([secret_of(response)])


@pytest.mark.parametrize(("kind", "told"), [(Secret, False), (str, True)], ids=["ours", "teeth"])
def test_an_error_report_does_not_tell_it(admin_client, caplog, monkeypatch, kind, told):
    """What fails while a secret is in hand is reported with every variable, but for this one."""

    def fails(*args, **kwargs):
        raise RuntimeError("the disk is full")

    partner = make_partner()
    monkeypatch.setattr("affiliations.admin.partners.reveal", fails)
    monkeypatch.setattr("affiliations.admin.partners.Secret", kind)
    url = reverse("admin:affiliations_partner_secret", args=[partner.pk])
    with pytest.raises(RuntimeError) as caught:
        admin_client.post(url, {"issued": ""})
    reporter = ExceptionReporter(None, caught.type, caught.value, caught.tb)
    report = unescape(reporter.get_traceback_html()) + reporter.get_traceback_text()
    # Not as text: this test's own lines are in the report too.
    assert (repr(Secret()) in report) is not told
    secret = signing.encode_secret(Partner.objects.get().signing_secrets()[0])
    assert (secret.removeprefix("whsec_") in report + caplog.text) is told


def test_a_secret_prints_as_itself_only_where_it_is_meant_to():
    secret = Secret(secrets.token_hex())
    assert f"{secret}" == str(secret) == secret
    assert secret[:8] not in repr([secret, {"secret": secret}])
