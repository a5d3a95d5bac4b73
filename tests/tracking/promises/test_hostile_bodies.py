"""Row I2 of the promises for the tracking: hostile bodies are refused, and no harm is done."""

import json
import logging
from collections import Counter

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.test import Client as Browser
from django.urls import include, path

from affiliations.tracking.models import Customer, Hit, HitKey, Identity, Property
from tests.rest.hostile import BODIES, JSON, VALUES
from tests.tracking.factories import make_event_type, make_property, say

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

VALID = {
    "identity": {
        "public_key": "SHOP",
        "aliases": ["c00kie"],
        "client_id": "42",
        "created_at": 1790000000,
    },
    "event": {
        "public_key": "SHOP",
        "event_public_key": "BUY",
        "aliases": ["c00kie"],
        "client_id": "42",
        "created_at": 1790000000,
        "url": "https://shop.example/",
        "referrer": "https://www.bing.com/",
        "title": "Shoes",
        "type": "event",
        "transaction_id": "R-1",
        "is_informational": False,
        "amount": "19.90",
        "currency": "EUR",
        "meta": {"agent": "Firefox"},
    },
}
WHERE = {"identity": "/attribution/identities", "event": "/attribution/events"}
#: What is hostile elsewhere, and may stand there.
FITTING = {
    "aliases": {b"[]", b'["a"]', b"[1]"},
    "is_informational": {b"true", b"false"},
    "meta": {b"{}", b'{"a": 1}', b'{"$ne": null}', b'{"__class__": "x"}'},
    "title": {b'"' + b"x" * 10_000 + b'"', '"{}"'.format("\U0001f600" * 5_000).encode()},
    # Out of an event that has an alias these are left; what else is told is true.
    "client_id": {b'"' + b"x" * 10_000 + b'"', '"{}"'.format("\U0001f600" * 5_000).encode()},
    "amount": {b"1e-400"},
}


def naive(request):
    """Collect as one does who trusts whoever calls: the fields go into rows as they come."""
    told = json.loads(request.body)["event"]
    prop = Property.objects.get(public_key=told["public_key"])
    customer = Customer.objects.create(property=prop)
    identity = Identity.objects.create(
        property=prop, customer=customer, kind="client", value=told["client_id"]
    )
    Hit.objects.create(
        property=prop,
        identity=identity,
        type=told["type"],
        url=told["url"],
        title=told["title"],
        happened_on=told["created_at"],
        meta=told["meta"],
    )
    return HttpResponse()


urlpatterns = [path("naive", naive), path("", include("tests.projects.urls"))]


@pytest.fixture(autouse=True)
def shop():
    logging.disable(logging.CRITICAL)
    made = make_property(public_key="SHOP")
    make_event_type(made, public_key="BUY")
    say(made, "client:known cookie:known")
    yield made
    logging.disable(logging.NOTSET)


def rows():
    return [
        list(each.objects.order_by("pk").values()) for each in (Customer, Identity, Hit, HitKey)
    ]


def with_one(member, field, value):
    """Return the valid body with one field's value as these bytes."""
    mark = "in the place of the value"
    fields = {**VALID[member], field: mark}
    return json.dumps({member: fields}).encode().replace(f'"{mark}"'.encode(), value)


def post(where, body, kind=JSON):
    browser = Browser(raise_request_exception=False)
    return browser.generic("POST", where, body, content_type=kind)


each_member = pytest.mark.parametrize("member", VALID)


@each_member
def test_hostile_values_are_refused_field_by_field(member):
    before = rows()
    for field in VALID[member]:
        fitting = FITTING.get(field, set()) if member == "event" else set()
        for value in VALUES:
            if value in fitting or (field == "aliases" and value in FITTING["aliases"]):
                continue
            answer = post(WHERE[member], with_one(member, field, value))
            assert 400 <= answer.status_code < 500, (field, value[:50], answer.status_code)
            told = answer.json()
            assert told["error"].startswith(f"{told['field']}: "), (field, value[:50])
    assert rows() == before


def test_what_may_stand_somewhere_does_no_harm():
    for field, values in FITTING.items():
        for value in values:
            with transaction.atomic():
                answer = post(WHERE["event"], with_one("event", field, value))
                transaction.set_rollback(True)
            assert answer.status_code < 500, (field, value[:50], answer.status_code)


@each_member
def test_hostile_bodies_are_refused(member):
    before = rows()
    for body, kind in BODIES:
        answer = post(WHERE[member], body, kind)
        assert 400 <= answer.status_code < 500, (body[:50], kind[:50], answer.status_code)
        assert answer.json()["field"]
    assert rows() == before


@each_member
def test_what_is_not_hostile_is_taken(member):
    answer = post(WHERE[member], json.dumps({member: VALID[member]}).encode())
    assert answer.status_code == 201


HOSTILE = ("a%00b", "%ff", "%ed%a0%80", "x" * 5000, "a%2Fb", "..", "%0d%0a", "{{}}", "%", "²")


@pytest.mark.parametrize("address", HOSTILE)
@pytest.mark.parametrize("query", ["", "?secret=%00", "?secret=%ff&show_all=%00", "?secret[]=x"])
def test_whom_one_asks_for_may_be_hostile_too(address, query):
    _, secret = Property.objects.issue(name="Other", public_key="OTHER")
    browser = Browser(raise_request_exception=False)
    for key in ("OTHER", address):
        for token in ("", secret, "\xff", "x" * 9000):
            answer = browser.get(
                f"/attribution/api/v1/{key}/customers/{address}{query}",
                headers={"Authorization": f"Bearer {token}"},
            )
            assert answer.status_code in (401, 404), (key, token, answer.status_code)


def test_there_are_enough_of_them():
    assert len(VALUES) + len(BODIES) >= 60


def test_teeth_a_collector_that_reads_whatever_comes():
    bodies = [each for each in BODIES if each[1] == JSON]
    for field in ("client_id", "url", "title", "created_at", "meta"):
        bodies += [(with_one("event", field, value), JSON) for value in VALUES]
    seen: Counter[int] = Counter()
    for body, kind in bodies:
        with transaction.atomic():
            seen[post("/naive", body, kind).status_code] += 1
            transaction.set_rollback(True)
    assert seen[500] >= 10, seen
