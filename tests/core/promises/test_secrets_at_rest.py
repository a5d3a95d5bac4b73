"""Secrets at rest: what was issued is found nowhere afterwards, however it was used."""

import base64
import logging
from html import unescape
from urllib.parse import unquote

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection, models
from django.http import HttpResponse
from django.urls import include, path, reverse
from django.utils.log import AdminEmailHandler
from django.views.decorators.debug import sensitive_variables

from affiliations import egress, signing
from affiliations.exceptions import InvalidApiKey, InvalidSignature
from affiliations.models import ApiKey, Callback, Partner, keys
from affiliations.outbox import send_again
from affiliations.testing import callback_server, deliver
from affiliations.triggers import complete_trigger
from tests.core.factories import make_partner, make_user, make_visitor

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

PARTNERS = 10
TRIES = 20


def api(request):
    """Let programs in by their key, as an API would; no variable of its own holds one."""
    try:
        ApiKey.objects.authenticate(
            request.headers.get("Authorization", "").removeprefix("Bearer "), scope="read"
        )
    except InvalidApiKey as error:
        return HttpResponse(str(error), status=401)
    return HttpResponse("let in")


urlpatterns = [path("api/", api), path("", include("tests.projects.urls"))]


def dump():
    """Return every row of every table as text, with its table, and what the sessions hold."""
    rows = [("session", str(session.get_decoded())) for session in Session.objects.all()]
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            rows += [(table, "\t".join(map(text, row))) for row in cursor.fetchall()]
    return rows


def text(value):
    binary = isinstance(value, bytes | memoryview)
    return bytes(value).decode(errors="replace") if binary else str(value)


class Mailer(AdminEmailHandler):
    """Keep what staff would be mailed: the report of an error with every variable there was."""

    def __init__(self):
        super().__init__(include_html=True)
        self.setLevel(logging.ERROR)
        self.sent = []

    def send_mail(self, subject, message, *args, html_message=None, **kwargs):
        self.sent.append(f"{subject}\n{message}\n{html_message}")


class Watcher:
    """Somebody who keeps what the site lets out: pages, logs, mails, calls, and its tables."""

    def __init__(self, client, caplog, server):
        self.client, self.caplog, self.server = client, caplog, server
        self.mailer = Mailer()
        self.tokens, self.secrets = [], []
        self.kept = []

    def keep(self, response):
        where = response.wsgi_request.path
        self.kept.append((where, f"{response.headers}{response.cookies}{response.text}"))
        return response

    def forms(self):
        """Return what to look for: of a token what follows its prefix, of a secret its spellings.

        As text, as bytes that are printed, and as hexadecimal digits.
        """
        # Not whole: a report breaks long lines.
        yield settings.SECRET_KEY[:20]
        for token in self.tokens:
            yield token.partition(".")[2]
        for secret in self.secrets:
            yield base64.b64encode(secret).decode().rstrip("=")
            yield repr(secret[:8])[2:-1].replace("\\'", "'")
            yield secret.hex()

    def leaks(self):
        """Return the places where one of the secrets is found."""
        places = dump() + self.kept + [("log", self.caplog.text)]
        places += [("log", f"{record.args} {record.__dict__}") for record in self.caplog.records]
        places += [("call", f"{call}") for call in self.server.received]
        places += [("mail", each) for each in self.mailer.sent]
        found = {}
        for where, what in places:
            found.setdefault(where, []).append(unescape(unquote(what)).replace("\\'", "'"))
        forms = list(self.forms())
        return {
            where
            for where, what in found.items()
            if any(form in whole for whole in ["\n".join(what)] for form in forms)
        }


@pytest.fixture
def server():
    with callback_server() as server:
        yield server


@pytest.fixture
def watcher(admin_client, caplog, server, monkeypatch):
    """Log everything there is to log, queries as well, and mail errors with all their frames."""
    for name in [None, *logging.root.manager.loggerDict]:
        caplog.set_level(logging.DEBUG, logger=name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    connection.force_debug_cursor = True
    watcher = Watcher(admin_client, caplog, server)
    logging.getLogger().addHandler(watcher.mailer)
    yield watcher
    logging.getLogger().removeHandler(watcher.mailer)
    connection.force_debug_cursor = False


def issue(watcher, number):
    """Issue so many keys and so many signing secrets."""
    for count in range(number):
        _, token = ApiKey.objects.issue(name=f"key {count}", scopes=["read"])
        watcher.tokens.append(token)
    for count in range(min(number, PARTNERS)):
        make_partner({"By hand": watcher.server.callback_url}, name=f"Partner {count}")
    partners = list(Partner.objects.all())
    for count in range(number):
        secret = signing.decode_secret(partners[count % len(partners)].rotate_secret())
        watcher.secrets.append(secret)
    assert len(set(watcher.tokens)) == len(set(watcher.secrets)) == number
    assert {secrets[0] for secrets in map(Partner.signing_secrets, partners)} <= {*watcher.secrets}


def use(watcher):
    """Use keys and secrets rightly and wrongly."""
    client = watcher.client
    for token in watcher.tokens[:TRIES]:
        wrong = [token[:-1], f"{token}x", token.replace(".", ""), f"{token.partition('.')[0]}.x"]
        for given, status in [(token, 200), *((each, 401) for each in wrong)]:
            response = client.get("/api/", headers={"authorization": f"Bearer {given}"})
            assert watcher.keep(response).status_code == status
        watcher.keep(client.get("/", {"api_key": token, "affiliate": token}))
        watcher.keep(client.get("/", {"affiliate_id": token}, follow=True))
        client.cookies["affiliate_ident"] = token
        watcher.keep(client.get("/whoami/", headers={"x-api-key": token}))
        watcher.keep(client.post("/order/", {"number": token[:12], "total": "1", "key": token}))
        del client.cookies["affiliate_ident"]
        with pytest.raises(InvalidApiKey):
            ApiKey.objects.authenticate(token, scope="write")
    call(watcher)


def call(watcher):
    """Call every partner, some of them twice and signed with two secrets."""
    watcher.server.answers = [500, 200, None, 200]
    for count, partner in enumerate(Partner.objects.all()):
        user = make_user()
        make_visitor(partner, user=user)
        assert complete_trigger(None, "By hand", user=user, reference=f"{count}")
    deliver()
    for callback in Callback.objects.exclude(state="delivered"):
        send_again(callback)
    assert deliver()[1] > 0
    assert not Callback.objects.exclude(state="delivered").exists()
    for received in watcher.server.received:
        received.verify(*watcher.secrets)
        with pytest.raises(InvalidSignature):
            received.verify(b"x" * 32)


def look(watcher):
    """Open the admin's pages of what has to do with secrets."""
    for name in ("apikey", "partner", "callback", "conversion", "visitor"):
        listing = reverse(f"admin:affiliations_{name}_changelist")
        assert watcher.keep(watcher.client.get(f"{listing}?all=")).status_code == 200
        watcher.keep(watcher.client.get(listing, {"q": "a"}))
    for model in (ApiKey, Partner, Callback):
        for row in model.objects.all()[:TRIES]:
            for kind in ("change", "history"):
                name = f"admin:affiliations_{model._meta.model_name}_{kind}"
                response = watcher.client.get(reverse(name, args=[row.pk]))
                assert watcher.keep(response).status_code == 200


@pytest.mark.parametrize("number", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_no_key_and_no_secret_is_found_wherever_one_looks(watcher, number):
    issue(watcher, number)
    use(watcher)
    look(watcher)
    assert watcher.leaks() == set()
    assert len(watcher.caplog.records) > number
    assert "INSERT INTO" in watcher.caplog.text


# Errors, reported with every variable of every frame


class DiskFullError(Exception):
    pass


@sensitive_variables()  # what it is given is not the site's to tell
def fails(*args, **kwargs):
    raise DiskFullError


def fail_with_a_key(watcher, monkeypatch):
    monkeypatch.setattr(keys, "constant_time_compare", fails)
    watcher.client.raise_request_exception = False
    [token] = watcher.tokens
    headers = {"authorization": f"Bearer {token}"}
    assert watcher.client.get("/api/", headers=headers).status_code == 500


def fail_with_a_new_key(watcher, monkeypatch):
    issuing = models.QuerySet.create

    def create(queryset, **fields):
        assert queryset.model is not ApiKey or fails()
        return issuing(queryset, **fields)

    monkeypatch.setattr(models.QuerySet, "create", create)
    # The token is not known to anybody yet, but for the frame that made it.
    monkeypatch.setattr(keys, "get_random_string", lambda length: watcher.tokens[0][-length:])
    report(lambda: ApiKey.objects.issue(name="key", scopes=[]))


def fail_with_a_secret(watcher, monkeypatch):
    monkeypatch.setattr(egress, "send", fails)
    user = make_user()
    make_visitor(Partner.objects.get(), user=user)
    complete_trigger(None, "By hand", user=user)
    report(deliver)


def fail_with_a_new_secret(watcher, monkeypatch):
    monkeypatch.setattr(signing, "encode_secret", fails)
    partner = Partner.objects.get()
    report(partner.rotate_secret)
    watcher.secrets = [*watcher.secrets, *partner.signing_secrets()]


def report(action):
    """Do what fails, and log it as a site does."""
    try:
        action()
    except DiskFullError:
        logging.getLogger("shop").exception("It went wrong")
    else:
        pytest.fail("nothing failed")


def fail_with_the_sites_own_key(watcher, monkeypatch):
    monkeypatch.setattr(signing, "derive_secret", fails)
    report(Partner.objects.get().signing_secrets)


FAILURES = [
    fail_with_a_key,
    fail_with_a_new_key,
    fail_with_a_secret,
    fail_with_a_new_secret,
    fail_with_the_sites_own_key,
]


@pytest.mark.parametrize("failure", FAILURES)
def test_an_error_that_is_mailed_with_its_frames_tells_no_secret(watcher, monkeypatch, failure):
    issue(watcher, 1)
    with monkeypatch.context() as patch:
        failure(watcher, patch)
    assert any("DiskFullError" in each for each in watcher.mailer.sent)
    assert watcher.leaks() == set()


class TestTeeth:
    """The same search finds what somebody less careful would let out."""

    def test_a_token_in_a_column(self, watcher, monkeypatch):
        issues = keys.ApiKeyManager.issue

        def issue_plainly(manager, *, name, scopes, partner=None):
            key, token = issues(manager, name=name, scopes=scopes, partner=partner)
            key.name = f"{name} {token}"
            key.save()
            return key, token

        monkeypatch.setattr(keys.ApiKeyManager, "issue", issue_plainly)
        issue(watcher, 1)
        look(watcher)
        assert {"affiliations_apikey", "log"} <= watcher.leaks()

    def test_a_token_in_the_log(self, watcher, monkeypatch):
        authenticates = keys.ApiKeyManager.authenticate

        def authenticate(manager, token, *, scope):
            logging.getLogger("affiliations.keys").debug("Asked for %s", scope, extra={"t": token})
            return authenticates(manager, token, scope=scope)

        monkeypatch.setattr(keys.ApiKeyManager, "authenticate", authenticate)
        issue(watcher, 1)
        use(watcher)
        assert watcher.leaks() == {"log"}

    @pytest.mark.parametrize("spell", [repr, bytes.hex, signing.encode_secret])
    def test_a_secret_in_a_column(self, watcher, spell):
        issue(watcher, 1)
        make_user(spell(watcher.secrets[0])[:150])
        assert "auth_user" in watcher.leaks()

    def test_a_secret_in_what_is_sent(self, watcher, monkeypatch):
        issue(watcher, 1)
        monkeypatch.setattr(signing, "sign", lambda secret, *args: secret.hex())
        user = make_user()
        make_visitor(Partner.objects.get(), user=user)
        complete_trigger(None, "By hand", user=user)
        deliver()
        assert watcher.leaks() == {"call"}
