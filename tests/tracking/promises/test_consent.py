"""Without consent the tracking keeps nothing of anybody, whichever way it is told, and answers."""

from itertools import product

import pytest
from django.core import signing
from django.http import HttpResponse
from django.template import Context, Template
from django.urls import include, path

from affiliations import ident, middleware, tracking
from affiliations.conf import settings as core
from affiliations.tracking import views
from affiliations.tracking.models import Customer, Hit, HitKey, Identity
from tests.conftest import SyncClient
from tests.core.factories import make_user
from tests.core.promises.test_consent import GPC, NO, YES
from tests.tracking.factories import make_event_type, make_property

CHROME = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/142.0 Safari/537.36"}
BLOG = "https://blog.example"


def shoes(request):
    """Show a page with the snippet, which the middleware sees as well."""
    source = Template("{% load tracking %}<p>Shoes</p>{% tracking_snippet %}")
    return HttpResponse(source.render(Context({"request": request})))


def paid(request):
    tracking.hit(request, "purchase", transaction_id=request.GET["order"])
    return HttpResponse(status=204)


urlpatterns = [
    path("attribution/", include("affiliations.tracking.urls")),
    path("shoes/", shoes),
    path("paid/", paid),
]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@pytest.fixture(autouse=True)
def shop(settings):
    settings.AFFILIATE_TRACKING_PROPERTY = "SHOP"
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "affiliations.tracking.middleware.TrackingMiddleware",
    ]
    made = make_property(public_key="SHOP", origins=[BLOG])
    make_event_type(made, "purchase", public_key="BUY")
    return made


OWN = {"origin": "http://testserver"}
#: What scripts of pages tell, and of which page: the snippet, and such as call somebody something.
TOLD = (
    ({}, OWN),
    ({}, {"origin": "null", "sec-fetch-site": "same-origin"}),
    ({"client_id": "42"}, OWN),
    ({"aliases": ["c00kie"]}, OWN),
    ({"aliases": ["c00kie"], "client_id": "42"}, OWN),
    ({}, {"origin": BLOG}),
    ({"client_id": "42"}, {"origin": BLOG}),
)
#: What browsers have from before: nothing, the suite's cookie, and Attribution.io's.
COOKIES = (
    {},
    {core.COOKIE_NAME: signing.Signer(salt=ident.SALT).sign("x" * ident.LENGTH)},
    {"AttrioP_SHOP": "th3irs"},
)


def traces(new_client, settings, hook, headers):
    """Come by every way that hits come; return what is known of anybody then."""
    settings.AFFILIATE_CONSENT = hook
    headers, found = {**CHROME, **headers}, set()
    for number, (cookies, logged_in) in enumerate(product(COOKIES, (False, True))):
        client = new_client()
        client.cookies.load(cookies)
        if logged_in:
            client.force_login(make_user())
        page = client.get("/shoes/", headers=headers)
        if b"<script" in page.content:
            found.add("script")
        bought = client.get(f"/paid/?order={number}", headers=headers)
        answers = [page, bought]
        for told, sender in TOLD:
            for member, url in (("identity", "identities"), ("event", "events")):
                fields = {"public_key": "SHOP", "event_public_key": "BUY", **told}
                answers.append(
                    client.post(
                        f"/attribution/{url}",
                        {member: fields},
                        content_type="application/json",
                        headers={**headers, **sender},
                    )
                )
        assert {each.status_code for each in answers} <= {200, 201, 204}
        if any(each.cookies for each in answers):
            found.add("cookie")
    rows = (Hit, HitKey, Identity, Customer)
    return found | {model._meta.model_name for model in rows if model.objects.exists()}


@pytest.mark.parametrize(("hook", "headers"), NO.values(), ids=NO)
def test_without_consent_nothing_is_kept(new_client, settings, hook, headers):
    assert traces(new_client, settings, hook, headers) == set()


ROWS = {"hit", "identity", "customer"}
EVERYTHING = {"script", "cookie", "hitkey", *ROWS}


@pytest.mark.parametrize(("hook", "headers"), YES.values(), ids=YES)
def test_with_consent_all_of_it_is(new_client, settings, hook, headers):
    assert traces(new_client, settings, hook, headers) == EVERYTHING


def test_a_site_may_decide_not_to_honour_gpc(new_client, settings):
    settings.AFFILIATE_HONOUR_GPC = False
    assert traces(new_client, settings, None, GPC) == EVERYTHING


class TestTeeth:
    """The same search finds what a tracking less careful would keep."""

    @pytest.mark.parametrize("no", ["raises", "takes no request", "path to nothing"])
    def test_a_failure_that_counts_as_yes(self, settings, monkeypatch, no):
        asks = middleware.has_consent

        def has_consent(request):
            return asks(request) or True

        monkeypatch.setattr(middleware, "has_consent", has_consent)
        assert traces(SyncClient, settings, *NO[no]) == EVERYTHING

    @pytest.mark.parametrize("no", ["GPC", "GPC beside consent"])
    def test_gpc_that_is_overlooked(self, settings, monkeypatch, no):
        monkeypatch.setattr(middleware, "asks_not_to_be_tracked", lambda request: False)
        assert traces(SyncClient, settings, *NO[no]) == EVERYTHING

    def test_a_cookie_that_is_set_before_anybody_asks(self, settings, monkeypatch):
        asks = middleware.has_consent

        def has_consent(request):
            ident.ensure(request, needed=True)
            return asks(request)

        monkeypatch.setattr(middleware, "has_consent", has_consent)
        assert traces(SyncClient, settings, *NO["False"]) == {"cookie"}

    def test_names_that_count_as_consent(self, settings, monkeypatch):
        asks = views._names

        def names(request, told, prop, who):
            return [*who.aliases, *who.client] if who.aliases else asks(request, told, prop, who)

        monkeypatch.setattr(views, "_names", names)
        assert traces(SyncClient, settings, *NO["False"]) == ROWS
