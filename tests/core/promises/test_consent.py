"""Without consent nothing is kept of a visitor, and the link still leads to its page."""

from itertools import product

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
)
from django.contrib.sessions.models import Session
from django.utils.module_loading import import_string

from affiliations import bots, ident, middleware
from affiliations.models import Conversion, Visitor
from affiliations.triggers import complete_trigger
from tests.conftest import SyncClient
from tests.core.factories import make_partner, make_user
from tests.core.promises.test_secrets_at_rest import dump

pytestmark = pytest.mark.django_db

#: Stands in each link, so that a trace of the click is known wherever it went.
MARK = "Tr4c30f7h3Cl1ck"
QUERIES = (f"click_id={MARK}", f"a=1&sub1={MARK}&sub5={MARK}&a=2", f"utm={MARK}&b=%C3%A9&c")
OF_A_LOGIN = {SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY}
GPC = {"sec-gpc": "1"}


def agrees(request):
    return True


def fails(request):
    raise RuntimeError("the consent manager is down")


def takes_no_request():
    return True


#: Each way to say no: the site's hook, and the headers of the browser.
NO = {
    "False": (lambda request: False, {}),
    "None": (lambda request: None, {}),
    "raises": (f"{__name__}.fails", {}),
    "takes no request": (takes_no_request, {}),
    "path to nothing": ("no.such.hook", {}),
    "GPC": (None, GPC),
    "GPC beside consent": (agrees, GPC),
}
YES = {
    "no hook": (None, {}),
    "consent": (f"{__name__}.agrees", {}),
    "GPC of another value": (agrees, {"sec-gpc": "0"}),
}


def traces(new_client, settings, hook, headers):
    """Follow links in every manner, do what triggers are for; return what is known of it all."""
    settings.AFFILIATE_CONSENT = hook
    partner = make_partner({"Order placed": "", "User registered": "", "By hand": ""})
    found = set()
    for number, (cookie, logged_in) in enumerate(product((True, False), repeat=2)):
        settings.AFFILIATE_COOKIE = cookie
        client, name = new_client(), f"person{number}"
        if logged_in:
            make_user(name)
            client.post("/login/", {"username": name})
        for method, query in product(("get", "head", "options", "post"), QUERIES):
            follow(client, method, partner, query, headers)
        if client.get("/awhoami/" if client.is_async else "/whoami/").json()["visitor"]:
            found.add("whoami")
        # Whoever has not logged in has no session either, so no cookie at all.
        if set(client.cookies) - ({"sessionid", "csrftoken"} if logged_in else set()):
            found.add("cookie")
        client.post("/order/", {"number": f"A-{number}", "total": "1"})
        if not logged_in:
            client.post("/signup/", {"username": name})
        client.post("/order/", {"number": f"B-{number}", "total": "1"})
        complete_trigger(None, "By hand", user=get_user_model().objects.get(username=name))
    for model in (Visitor, Conversion):
        if model.objects.exists():
            found.add(model._meta.model_name)
    if any(session.get_decoded().keys() - OF_A_LOGIN for session in Session.objects.all()):
        found.add("session")
    if any(MARK in row for table, row in dump()):
        found.add("mark")
    return found


def follow(client, method, partner, query, headers):
    """Follow a link as a browser does, and see that it leads where it should."""
    response = getattr(client, method)(partner.link(f"/echo/?{query}"), headers=headers)
    if method in ("get", "head"):
        assert (response.status_code, response["Location"]) == (302, f"/echo/?{query}")
        assert partner.uid not in f"{response.headers}{response.cookies}"
        response = getattr(client, method)(response["Location"], headers=headers)
        assert partner.uid not in response.content.decode()
    assert response.status_code == 200


@pytest.mark.parametrize(("hook", "headers"), NO.values(), ids=NO)
def test_without_consent_nothing_is_kept_and_nobody_is_credited(
    new_client, settings, hook, headers
):
    assert traces(new_client, settings, hook, headers) == set()


EVERYTHING = {"whoami", "cookie", "visitor", "conversion", "session", "mark"}


@pytest.mark.parametrize(("hook", "headers"), YES.values(), ids=YES)
def test_with_consent_all_of_it_is(new_client, settings, hook, headers):
    assert traces(new_client, settings, hook, headers) == EVERYTHING


def test_a_site_may_decide_not_to_honour_gpc(new_client, settings):
    settings.AFFILIATE_HONOUR_GPC = False
    assert traces(new_client, settings, None, GPC) == EVERYTHING


class TestTeeth:
    """The same search finds what a middleware less careful would keep."""

    @pytest.mark.parametrize("no", ["raises", "takes no request", "path to nothing"])
    def test_a_failure_that_counts_as_yes(self, settings, monkeypatch, no):
        def has_consent(request):
            hook = django_settings.AFFILIATE_CONSENT
            try:
                return (import_string(hook) if isinstance(hook, str) else hook)(request)
            except Exception:  # noqa: BLE001 - the defect itself
                return True

        monkeypatch.setattr(middleware, "has_consent", has_consent)
        assert traces(SyncClient, settings, *NO[no]) == EVERYTHING

    @pytest.mark.parametrize("no", ["GPC", "GPC beside consent"])
    def test_gpc_that_is_overlooked(self, settings, monkeypatch, no):
        monkeypatch.setattr(
            middleware, "is_refused", lambda request: bots.is_prefetch(request.META)
        )
        assert traces(SyncClient, settings, *NO[no]) == EVERYTHING

    def test_a_cookie_that_is_set_before_anybody_asks(self, settings, monkeypatch):
        asks = middleware.is_wanted

        def is_wanted(request):
            ident.ensure(request)
            return asks(request)

        refers = middleware.refer

        def refer(request):
            response = refers(request)
            if response is not None:
                ident.write(request, response)
            return response

        monkeypatch.setattr(middleware, "is_wanted", is_wanted)
        monkeypatch.setattr(middleware, "refer", refer)
        assert traces(SyncClient, settings, *NO["False"]) == {"cookie"}

    def test_a_visitor_who_is_kept_without_a_name(self, settings, monkeypatch):
        wants = middleware.is_wanted

        def is_wanted(request):
            if not wants(request):
                Visitor.objects.create(partner=make_partner(), referrer_host=MARK)
            return wants(request)

        monkeypatch.setattr(middleware, "is_wanted", is_wanted)
        assert traces(SyncClient, settings, *NO["None"]) == {"visitor", "mark"}
