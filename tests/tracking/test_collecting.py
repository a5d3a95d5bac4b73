"""What browsers and programs post is taken as Attribution.io took it, or refused by field."""

import json
from datetime import timedelta

import pytest
from django.test import Client as Browser
from django.utils import timezone

from affiliations import ident
from affiliations.tracking import properties
from affiliations.tracking.models import Customer, Hit, Identity
from tests.tracking.factories import make_event_type, make_property, people

pytestmark = pytest.mark.django_db

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0 Safari/537.36"


@pytest.fixture
def shop():
    made = make_property(public_key="SHOP", origins=["https://blog.example"])
    make_event_type(made, "purchase", public_key="BUY")
    return made


@pytest.fixture
def post(shop):
    """Post a member with fields, to where it belongs; return the response."""
    browser = Browser(enforce_csrf_checks=True)

    def post(member, *, raw=None, kind="application/json", headers=None, **fields):
        told = {"public_key": "SHOP", **fields}
        if member == "event":
            told = {"event_public_key": "BUY", "url": "https://shop.example/", **told}
        body = json.dumps({member: told}) if raw is None else raw
        where = {"identity": "identities", "event": "events"}[member]
        url = f"/attribution/{where}"
        return browser.post(url, body, content_type=kind, headers=headers)

    post.browser = browser
    return post


def unix(moment):
    return int(moment.timestamp())


# What the real client sends


def test_an_event_as_the_real_client_sends_it(post, shop):
    moment = timezone.now().replace(microsecond=0) - timedelta(hours=1)
    told = {
        "aliases": ["c00kie"],
        "client_id": "42",
        "url": "URL unknown",
        "transaction_id": f"42@{unix(moment)}",
        "is_informational": False,
        "created_at": unix(moment),
        "meta": {"agent": "User-Agent unknown"},
    }
    first = post("event", **told)
    assert (first.status_code, first.json()) == (201, {})
    again = post("event", **told)
    assert (again.status_code, again.json()) == (200, {})
    kept = Hit.objects.get()
    assert (kept.type, kept.event_type.key) == ("event", "purchase")
    assert (kept.url, kept.transaction_id) == ("URL unknown", f"42@{unix(moment)}")
    assert (kept.happened_on, kept.meta) == (moment, {"agent": "User-Agent unknown"})
    assert people(shop) == ["client:42 cookie:c00kie"]


def test_the_identity_that_follows_with_another_random_id(post, shop):
    post("event", aliases=["c00kie"], client_id="a" * 24)
    answer = post("identity", aliases=["c00kie"], client_id="b" * 24, created_at=1790000000)
    assert (answer.status_code, answer.json()) == (201, {})
    assert people(shop) == [f"client:{'a' * 24} client:{'b' * 24} cookie:c00kie"]


def test_a_number_is_an_id_as_well(post, shop):
    assert post("identity", aliases=["c00kie"], client_id=42).status_code == 201
    assert people(shop) == ["client:42 cookie:c00kie"]


def test_an_identity_may_come_before_or_after_what_was_done(post, shop):
    post("event", aliases=["one"])
    post("event", aliases=["two"])
    post("identity", aliases=["one", "two"], client_id="42")
    assert Hit.objects.filter(identity__customer=Customer.objects.get()).count() == 2


def test_a_hit_may_say_what_it_was(post):
    answer = post(
        "event",
        aliases=["c"],
        type="transaction",
        amount="19.90",
        currency="EUR",
        transaction_id=1001,
        title="Thanks",
        referrer="https://www.bing.com/",
        event_public_key=None,
    )
    assert answer.status_code == 201
    kept = Hit.objects.get()
    assert (kept.type, kept.event_type_id, kept.minor, kept.currency) == (
        "transaction",
        None,
        1990,
        "EUR",
    )
    assert (kept.transaction_id, kept.title, kept.channel) == ("1001", "Thanks", "organic_search")


def test_what_is_not_known_is_passed_over(post):
    assert post("event", aliases=["c"], color="red", nested={"a": [1]}).status_code == 201


@pytest.mark.parametrize("kind", ["text/plain", "text/plain;charset=UTF-8", "application/json"])
def test_a_beacon_need_not_ask_before(post, kind):
    assert post("event", aliases=["c"]).status_code == 201
    told = {"event": {"public_key": "SHOP", "event_public_key": "BUY", "aliases": ["b"]}}
    assert post("event", raw=json.dumps(told), kind=kind).status_code == 201
    assert Hit.objects.count() == 2


@pytest.mark.parametrize("client_id", ["undefined", "null", "0", "\0", "x" * 501])
def test_an_id_of_nobody_takes_no_event_away(post, shop, client_id):
    raw = client_id.replace("\0", " ")
    assert post("event", aliases=["c"], client_id=raw).status_code == 201
    assert people(shop) == ["cookie:c"]
    refused = post("identity", aliases=["c"], client_id=raw)
    assert raw.strip() == "" or (refused.status_code, refused.json()["field"]) == (400, "client_id")


# What cannot be so

NOW = 1790000000
DEEP, DEEPER = "[" * 10 + "]" * 10, "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"aliases": "abc"}, 400, "aliases"),
        ({"aliases": {"a": 1}}, 400, "aliases"),
        ({"aliases": [None]}, 400, "aliases"),
        ({"aliases": [""]}, 400, "aliases"),
        ({"aliases": ["a\nb"]}, 400, "aliases"),
        ({"aliases": ["x" * 501]}, 400, "aliases"),
        ({"aliases": [str(each) for each in range(100)]}, 400, "aliases"),
        ({"aliases": [True]}, 400, "aliases"),
        ({"client_id": ["a"]}, 400, "client_id"),
        ({"client_id": True}, 400, "client_id"),
        ({"aliases": [], "client_id": "undefined"}, 400, "client_id"),
        ({"aliases": [], "client_id": ""}, 400, "aliases"),
        ({"aliases": None}, 400, "aliases"),
        ({"event_public_key": "NONE"}, 404, "event_public_key"),
        ({"event_public_key": ""}, 400, "event_public_key"),
        ({"event_public_key": 1}, 400, "event_public_key"),
        ({"public_key": "NONE"}, 401, "public_key"),
        ({"public_key": ""}, 401, "public_key"),
        ({"public_key": None}, 401, "public_key"),
        ({"public_key": ["SHOP"]}, 401, "public_key"),
        ({"public_key": "x" * 10_000}, 401, "public_key"),
        ({"public_key": "shop"}, 401, "public_key"),
        ({"url": 1}, 400, "url"),
        ({"url": "x" * 4001}, 400, "url"),
        ({"referrer": []}, 400, "referrer"),
        ({"title": {}}, 400, "title"),
        ({"type": "visit"}, 400, "type"),
        ({"type": 1}, 400, "type"),
        ({"transaction_id": "x" * 601}, 400, "transaction_id"),
        ({"transaction_id": 1.5}, 400, "transaction_id"),
        ({"transaction_id": True}, 400, "transaction_id"),
        ({"is_informational": "false"}, 400, "is_informational"),
        ({"is_informational": 1}, 400, "is_informational"),
        ({"created_at": "yesterday"}, 400, "created_at"),
        ({"created_at": True}, 400, "created_at"),
        ({"created_at": 0}, 400, "created_at"),
        ({"created_at": -1}, 400, "created_at"),
        ({"created_at": NOW * 1000}, 400, "created_at"),
        ({"created_at": 946684799}, 400, "created_at"),
        ({"created_at": 2**62}, 400, "created_at"),
        ({"meta": "agent"}, 400, "meta"),
        ({"meta": []}, 400, "meta"),
        ({"meta": {"a": "x" * 5000}}, 400, "meta"),
        ({"amount": "1.999", "currency": "EUR"}, 400, "amount"),
        ({"amount": "lots", "currency": "EUR"}, 400, "amount"),
        ({"amount": "1", "currency": "XXX"}, 400, "currency"),
        ({"amount": "1"}, 400, "currency"),
        ({"amount": "1", "currency": ["EUR"]}, 400, "currency"),
        ({"amount": "9" * 30, "currency": "EUR"}, 400, "amount"),
        ({"amount": [1], "currency": "EUR"}, 400, "amount"),
    ],
)
def test_a_field_that_cannot_be_so(post, fields, status, field):
    answer = post("event", **{"aliases": ["c"], **fields})
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert answer.json()["error"].startswith(f"{field}: ")
    assert not Hit.objects.exists()
    assert not Identity.objects.exists()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"aliases": [1.5]}, "aliases"),
        ({"aliases": [], "client_id": None}, "aliases"),
        ({"client_id": "null"}, "client_id"),
        *(({"created_at": each}, "created_at") for each in (0, "x", True, 946684799, NOW * 10, [])),
    ],
)
def test_a_field_of_an_identity_that_cannot_be_so(post, fields, field):
    answer = post("identity", **{"aliases": ["c"], **fields})
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert not Identity.objects.exists()


@pytest.mark.parametrize(
    ("raw", "status", "field"),
    [
        (b"", 400, "event"),
        (b"{", 400, "body"),
        (b"null", 400, "body"),
        (b"[]", 400, "body"),
        (b"{}", 400, "event"),
        (b'{"event": null}', 400, "event"),
        (b'{"event": []}', 400, "event"),
        (b'{"event": "x"}', 400, "event"),
        (b'{"event": {"public_key": "SHOP", "url": "\\u0000"}}', 400, "event"),
        (b'{"event": {"public_key": "SHOP", "url": "\xff\xfe"}}', 400, "event"),
        (b'{"event": {"public_key": "SHOP", "url": "\\ud800"}}', 400, "event"),
        (b'{"event": {"public_key": "SHOP", "created_at": 1e999}}', 400, "event"),
        (b'{"event": {"public_key": "SHOP", "created_at": NaN}}', 400, "event"),
        (b'{"event": {"public_key": "SHOP", "created_at": Infinity}}', 400, "event"),
        (b'{"event": {"public_key": "SHOP", "public_key": "OTHER"}}', 400, "public_key"),
        (f'{{"event": {DEEP}}}'.encode(), 400, "event"),
        (f'{{"event": {{"meta": {DEEP}}}}}'.encode(), 400, "event"),
        (json.dumps({"event": {"aliases": ["x"] * 10**5}}).encode(), 413, "body"),
        (b'{"event": {"url": "' + b"x" * 65_536 + b'"}}', 413, "body"),
        (b"\x1f\x8b\x08", 400, "body"),
    ],
)
def test_a_body_that_cannot_be_so(post, raw, status, field):
    answer = post("event", raw=raw)
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert not Identity.objects.exists()


def test_a_body_deeper_than_python_reads(post):
    answer = post("event", raw=f'{{"event": {DEEPER}}}')
    # Some versions of it read that far.
    assert answer.status_code == 400
    assert answer.json()["field"] in {"body", "event"}


def test_a_body_of_another_kind(post):
    answer = post("event", raw="<event/>", kind="application/xml")
    assert (answer.status_code, answer.json()["field"]) == (415, "Content-Type")
    answer = post("event", raw="{}", kind="application/json; charset=latin-1")
    assert answer.status_code == 415


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "head"])
def test_other_methods(post, method):
    for where in ("identities", "events"):
        answer = getattr(post.browser, method)(f"/attribution/{where}")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, OPTIONS")


def test_a_property_that_is_disabled(post, shop):
    shop.active = False
    shop.save()
    for member in ("identity", "event"):
        answer = post(member, aliases=["c"])
        assert (answer.status_code, answer.json()["field"]) == (403, "public_key")


def test_a_person_of_too_many_names(post, shop, monkeypatch):
    monkeypatch.setattr("affiliations.tracking.identities.MOST", 3)
    post("identity", aliases=["a", "b", "c"])
    answer = post("identity", aliases=["a", "d"])
    assert (answer.status_code, answer.json()["field"]) == (400, "names")
    assert people(shop) == ["cookie:a cookie:b cookie:c"]


def test_nothing_is_kept_by_caches(post):
    for answer in (post("event", aliases=["c"]), post("event", aliases=1)):
        assert "no-store" in answer.headers["Cache-Control"]


# From where


def test_from_another_site_of_the_property(post):
    answer = post("event", aliases=["c"], headers={"Origin": "https://blog.example"})
    assert answer.status_code == 201
    assert answer.headers["Access-Control-Allow-Origin"] == "https://blog.example"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://blog.example", "é", "[", "http://["]
)
def test_from_anywhere_else(post, origin):
    answer = post("event", aliases=["c"], headers={"Origin": origin})
    assert (answer.status_code, answer.json()["field"]) == (403, "Origin")
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert not Hit.objects.exists()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_from_here(post, scheme):
    answer = post("event", aliases=["c"], headers={"Origin": f"{scheme}://testserver"})
    assert answer.status_code == 201


def test_a_browser_that_asks_before(post):
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = post.browser.options(
        "/attribution/events", headers={"Origin": "https://blog.example", **asks}
    )
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "https://blog.example"
    assert answer.headers["Access-Control-Allow-Methods"] == "POST"
    assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type"
    answer = post.browser.options(
        "/attribution/events", headers={"Origin": "https://evil.example", **asks}
    )
    assert answer.status_code == 204
    assert "Access-Control-Allow-Origin" not in answer.headers


# Whose browser


def test_a_browser_that_says_no_name_goes_by_the_suites_cookie(post, shop):
    headers = {"Origin": "http://testserver", "User-Agent": CHROME}
    assert post("event", type="pageview", headers=headers).status_code == 201
    cookie = post.browser.cookies["affiliate_ident"]
    assert cookie["httponly"]
    own = ident.of_cookie(cookie.value)
    assert post("event", headers=headers, client_id="42").status_code == 201
    assert people(shop) == [f"client:42 cookie:{own}"]
    assert Hit.objects.count() == 2


def test_the_cookie_of_their_snippet_counts(post, shop):
    post.browser.cookies["AttrioP_SHOP"] = "th3irs"
    assert post("event", headers={"Origin": "http://testserver"}).status_code == 201
    assert people(shop) == ["cookie:th3irs"]
    assert "affiliate_ident" not in post.browser.cookies


@pytest.mark.parametrize("told", [{}, {"aliases": ["c"]}])
def test_a_browser_that_asks_not_to_be_tracked(post, told):
    headers = {"Origin": "http://testserver", "Sec-GPC": "1"}
    for member in ("event", "identity"):
        assert post(member, headers=headers, **told).status_code == 200
    assert not Identity.objects.exists()
    assert not Hit.objects.exists()
    assert not post.browser.cookies


def no(request):
    return False


def fails(request):
    raise RuntimeError("no answer")


@pytest.mark.parametrize("hook", [no, fails])
def test_without_consent_nobody_is_given_a_name(post, settings, hook):
    settings.AFFILIATE_CONSENT = hook
    assert post("event", headers={"Origin": "http://testserver"}).status_code == 200
    assert not Identity.objects.exists()
    assert not post.browser.cookies
    # What a program tells of, the site has the consent for.
    assert post("event", aliases=["c"]).status_code == 201


def test_robots_see_no_pages(post):
    headers = {"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1)"}
    assert post("event", type="pageview", aliases=["c"], headers=headers).status_code == 200
    assert not Hit.objects.exists()
    assert post("event", aliases=["c"], headers=headers).status_code == 201


# At what cost


def test_queries(post, django_assert_num_queries):
    post("event", type="pageview", aliases=["c"], client_id="42")
    with django_assert_num_queries(1):
        post("event", type="pageview", aliases=["c"], client_id="42")
    with django_assert_num_queries(1):
        post("identity", aliases=["c"], client_id="42")
    properties.forget()
    with django_assert_num_queries(2):
        post("event", type="pageview", aliases=["c"], client_id="42")
    with django_assert_num_queries(0):
        post("event", aliases="c")


def test_a_change_of_a_property_is_seen_within_a_second(post, shop, monkeypatch):
    assert post("event", aliases=["c"]).status_code == 201
    type(shop).objects.filter(pk=shop.pk).update(active=False)
    moved = timezone.now().timestamp() + 1
    monkeypatch.setattr("affiliations.remembered.time.monotonic", lambda: 1e9 + moved)
    assert post("event", aliases=["c"]).status_code == 403
