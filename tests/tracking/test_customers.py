"""Whoever knows a property's secret is told of its customers, as Attribution.io told it."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client as Browser
from django.urls import reverse

from affiliations.money import Money
from affiliations.tracking import properties
from affiliations.tracking.identities import identify, name
from affiliations.tracking.models import Hit, Identity, Property
from tests.core.factories import make_partner
from tests.tracking.factories import hit, make_event_type, say

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOGLE = "https://shop.example/?utm_source=google&utm_medium=cpc&utm_campaign=spring"


@pytest.fixture
def issued():
    return Property.objects.issue(name="Shop", public_key="SHOP")


@pytest.fixture
def shop(issued):
    return issued[0]


@pytest.fixture
def ask(issued):
    """Ask for a customer by a path as it stands in the address; return the response."""

    def ask(path, query="", *, secret=issued[1], public_key="SHOP", **headers):
        where = f"/attribution/api/v1/{public_key}/customers/{path}"
        return Browser().get(
            f"{where}?{query}&secret={secret}" if secret else where, headers=headers
        )

    return ask


def at(hours):
    return START + timedelta(hours=hours)


@pytest.fixture
def anna(shop):
    """Somebody who came by an advertisement, was led back by a partner, and bought twice."""
    purchase = make_event_type(shop, "purchase", name="Purchase", public_key="BUY")
    partner = make_partner()
    names = "cookie:c client:42"
    say(shop, "client:42")
    hit(shop, "cookie:c", url=GOOGLE, title="Shoes", happened_on=at(0))
    hit(shop, "cookie:c", url="https://shop.example/2", referrer=GOOGLE, happened_on=at(1))
    hit(shop, names, partner_id=partner.pk, link="summer", arrived=True, happened_on=at(2))
    for number, money in enumerate((Money(1990, "EUR"), Money(500, "JPY"), Money(10, "EUR"))):
        hit(
            shop,
            names,
            type="event",
            event_type_id=purchase.pk,
            value=money,
            transaction_id=f"R-{number}",
            happened_on=at(3 + number),
        )
    hit(shop, names, type="item", value=Money(7, "EUR"), happened_on=at(6))
    test = {"value": Money(5, "EUR"), "is_informational": True}
    hit(shop, names, type="event", event_type_id=purchase.pk, happened_on=at(7), **test)
    hit(shop, "cookie:stranger", url=GOOGLE)
    return partner


def test_a_customer(ask, anna):
    answer = ask("42")
    assert answer.status_code == 200
    found = answer.json()["customer"]
    assert found.pop("id") == str(Identity.objects.get(value="42").customer_id)
    assert found.pop("created_at").endswith("Z")
    assert found == {
        "client_id": "42",
        "first_seen_at": "2026-03-01T12:00:00Z",
        "last_seen_at": "2026-03-01T19:00:00Z",
        "conversions": 3,
        "revenue": [
            {"amount": "20.00", "currency": "EUR"},
            {"amount": "500", "currency": "JPY"},
        ],
        "first_touch": {"channel": "paid_search", "at": "2026-03-01T12:00:00Z"},
        "last_touch": {"channel": "affiliate", "at": "2026-03-01T14:00:00Z"},
    }


def test_the_lists(ask, anna):
    found = ask("42", "show_all=true").json()["customer"]
    assert [each["at"][11:13] for each in found["pageviews"]] == ["14", "13", "12"]
    oldest = found["pageviews"][-1]
    assert oldest.pop("id") == str(Hit.objects.order_by("happened_on").first().pk)
    assert oldest == {
        "at": "2026-03-01T12:00:00Z",
        "url": GOOGLE,
        "referrer": "",
        "title": "Shoes",
    }
    by_partner, paid = found["touchpoints"]
    del by_partner["id"], paid["id"]
    assert paid == {
        "at": "2026-03-01T12:00:00Z",
        "channel": "paid_search",
        "source": "google",
        "medium": "cpc",
        "campaign": "spring",
        "term": None,
        "content": None,
        "partner": None,
        "link": None,
        "url": GOOGLE,
        "referrer": "",
    }
    assert (by_partner["partner"], by_partner["link"]) == (anna.uid, "summer")
    assert [each["at"][11:13] for each in found["events"]] == ["19", "18", "17", "16", "15"]
    first = found["events"][-1]
    del first["id"]
    assert first == {
        "at": "2026-03-01T15:00:00Z",
        "type": "event",
        "key": "purchase",
        "name": "Purchase",
        "public_key": "BUY",
        "url": "",
        "transaction_id": "R-0",
        "is_informational": False,
        "amount": "19.90",
        "currency": "EUR",
    }
    item = found["events"][1]
    assert (item["type"], item["key"], item["public_key"]) == ("item", "item", None)
    named = [(each["kind"], each["value"]) for each in found["identities"]]
    assert named == [("cookie", "c"), ("client", "42")]
    assert "truncated" not in found


LISTS = ("pageviews", "touchpoints", "events", "identities")


@pytest.mark.parametrize(
    ("query", "lists"),
    [
        ("", set()),
        *((f"show_{each}=true", {each}) for each in LISTS),
        ("show_events=1&show_identities=True", {"events", "identities"}),
        ("show_all=true", set(LISTS)),
        ("show_all=false&show_events=0", set()),
    ],
)
def test_each_flag_adds_its_list(ask, anna, query, lists):
    assert ask("42", query).json()["customer"].keys() & set(LISTS) == lists


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a+b@example.com", "a+b@example.com"),
        ("a+b@example.com", "a%2Bb%40example.com"),
        ("Zoë", "Zo%C3%AB"),
        ("Zoë", "Zoe%CC%88"),
        ("42", "42"),
        ("x" * 300, "x" * 300),
        ("a/b", "a/b"),
        ("a/b?c é", "a%2Fb%3Fc%20%C3%A9"),
        ("50%", "50%25"),
        ("a b", "a%20b"),
        ("🦊", "%F0%9F%A6%8A"),
        ("a/", "a/"),
    ],
)
def test_any_client_id(ask, shop, value, path):
    say(shop, "client:other")
    identify(shop, [name("client", value)])
    assert ask(path).json()["customer"]["client_id"] == value


@pytest.mark.parametrize(
    "path", ["43", "undefined", "x" * 501, "%00", "%FF", "a%0Ab", "stranger2", "%ED%A0%80"]
)
def test_nobody(ask, anna, path):
    answer = ask(path)
    assert answer.status_code == 404
    assert answer.json() == {"error": "client_id: there is no such customer", "field": "client_id"}


def test_by_any_name_but_a_client_id_before_any_other(ask, shop):
    say(shop, "cookie:x client:by-cookie")
    say(shop, "email:x@example.com client:by-mail")
    say(shop, "user:7 client:by-user")
    assert ask("x").json()["customer"]["client_id"] == "by-cookie"
    assert ask("X@Example.com").json()["customer"]["client_id"] == "by-mail"
    assert ask("7").json()["customer"]["client_id"] == "by-user"
    say(shop, "client:7")
    assert ask("7", "show_identities=1").json()["customer"]["identities"][0]["value"] == "7"


def test_somebody_of_whom_there_is_no_hit(ask, shop):
    say(shop, "client:42")
    found = ask("42", "show_all=1").json()["customer"]
    assert (found["first_seen_at"], found["last_seen_at"]) == (None, None)
    assert (found["conversions"], found["revenue"]) == (0, [])
    assert (found["first_touch"], found["last_touch"]) == (None, None)
    assert (found["pageviews"], found["touchpoints"], found["events"]) == ([], [], [])


def test_a_list_is_cut_and_says_so(ask, shop, monkeypatch):
    monkeypatch.setattr("affiliations.tracking.customers.MOST", 3)
    for number in range(5):
        hit(shop, "client:42", url=f"https://shop.example/{number}", happened_on=at(number))
    found = ask("42", "show_pageviews=1").json()["customer"]
    assert [each["url"][-1] for each in found["pageviews"]] == ["4", "3", "2"]
    assert found["truncated"] is True
    assert "truncated" not in ask("42").json()["customer"]


def test_what_is_gone_since(ask, anna):
    anna.delete()
    Hit.objects.filter(type="event").update(event_type_id=10**9)
    found = ask("42", "show_all=1").json()["customer"]
    assert found["events"][0]["key"] == "event"
    assert found["touchpoints"][0]["partner"] is None


def test_the_address_of_a_customer():
    found = reverse("affiliations_tracking:customer", args=["SHOP", "a/b"])
    assert found == "/attribution/api/v1/SHOP/customers/a/b"


# Who may ask


@pytest.mark.parametrize("secret", ["", "wrong", "é", "x" * 5000])
def test_a_wrong_secret(ask, anna, secret):
    answer = ask("42", secret=secret)
    assert (answer.status_code, answer.json()["field"]) == (401, "secret")
    assert "WWW-Authenticate" in answer.headers
    assert ask("42", secret="", Authorization=f"Bearer {secret or 'x'}").status_code == 401


def test_the_secret_in_a_header(ask, anna, issued):
    assert ask("42", secret="", Authorization=f"Bearer {issued[1]}").status_code == 200
    assert ask("42", secret="", Authorization=f"bearer  {issued[1]}").status_code == 200
    assert ask("42", secret="", Authorization=f"Basic {issued[1]}").status_code == 401
    # The header is what counts.
    assert ask("42", Authorization="Bearer wrong").status_code == 401


@pytest.mark.parametrize("public_key", ["NONE", "shop", "x" * 300, "%00", "%FF"])
def test_a_wrong_public_key_is_answered_as_a_wrong_secret(ask, anna, public_key):
    wrong = ask("42", public_key=public_key)
    assert wrong.status_code == 401
    assert wrong.json() == ask("42", secret="wrong").json()


def test_another_propertys_secret(ask, anna):
    _, secret = Property.objects.issue(name="Other", public_key="OTHER")
    assert ask("42", secret=secret).status_code == 401
    assert ask("42", secret=secret, public_key="OTHER").status_code == 404


def test_a_property_that_is_disabled(ask, anna, shop):
    shop.active = False
    shop.save()
    assert ask("42").status_code == 403
    assert ask("42", secret="wrong").status_code == 401


def test_the_secret_is_not_logged(ask, anna, issued, caplog):
    with caplog.at_level(logging.DEBUG):
        for path in ("42", "43"):
            ask(path)
        ask("42", secret=issued[1] + "x")
    assert issued[1] not in caplog.text


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_other_methods(issued, method):
    answer = getattr(Browser(enforce_csrf_checks=True), method)(
        f"/attribution/api/v1/SHOP/customers/42?secret={issued[1]}"
    )
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_errors_are_objects_without_a_customer(ask, anna):
    for answer in (ask("43"), ask("42", secret="wrong")):
        assert isinstance(answer.json(), dict)
        assert "customer" not in answer.json()
        assert "no-store" in answer.headers["Cache-Control"]


# At what cost


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("", 3),
        ("show_pageviews=1", 4),
        ("show_touchpoints=1", 4),
        ("show_events=1", 4),
        ("show_identities=1", 3),
        ("show_all=1", 6),
    ],
)
@pytest.mark.parametrize("hits", [1, 200])
def test_queries(ask, shop, django_assert_num_queries, query, number, hits):
    for each in range(hits):
        hit(shop, "client:42", url=GOOGLE, partner_id=7, arrived=True)
        hit(shop, f"client:42 cookie:c{each % 10}", type="item")
    properties.forget()
    with django_assert_num_queries(number):
        assert ask("42", query).status_code == 200


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only it has parts of tables")
def test_hits_lie_in_parts(shop):
    hit(shop, "client:42")
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM affiliations_tracking_hit")
        assert cursor.fetchone()[0].startswith("affiliations_tracking_hit_")
