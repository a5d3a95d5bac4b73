"""The OpenAPI document: it is where the API is, and says what the code and the reference do."""

import re

import pytest
from django.test import Client as Browser
from django.urls import include, path

from affiliations.tracking import limits, wire
from affiliations.tracking.conf import MAX_KEY
from affiliations.tracking.customers import LISTS, MOST, described
from affiliations.tracking.hits import FIRST
from affiliations.tracking.models import Hit, Identity, Property
from affiliations.tracking.models.customers import MAX_VALUE
from affiliations.tracking.models.hits import MAX_TRANSACTION_ID, MAX_URL
from tests.docs.test_docs import DOCS, text
from tests.tracking.factories import hit, known, make_property

urlpatterns = [
    path("here/", include("affiliations.tracking.urls")),
    path("attribution/", include("affiliations.tracking.urls", namespace="again")),
]
CUSTOMER = "/attribution/api/v1/{public_key}/customers/{client_id}"


@pytest.fixture
def document():
    return Browser().get("/attribution/openapi.json").json()


def operation(document, address):
    [found] = document["paths"][address].values()
    return found


@pytest.mark.urls(__name__)
def test_it_is_wherever_a_site_mounts_the_api():
    for mounted in ("here", "attribution"):
        answer = Browser().get(f"/{mounted}/openapi.json")
        assert answer["Content-Type"] == "application/json"
        paths = answer.json()["paths"]
        assert {*paths} == {
            f"/{mounted}/{each}"
            for each in ("identities", "events", CUSTOMER.removeprefix("/attribution/"))
        }
    assert Browser().post("/here/openapi.json").status_code == 405


def test_its_limits_are_those_of_the_code(document):
    schemas = document["components"]["schemas"]
    event = schemas["EventTold"]["properties"]["event"]["properties"]
    assert event["aliases"]["maxItems"] == wire.MAX_ALIASES
    assert event["client_id"]["anyOf"][0]["maxLength"] == MAX_VALUE
    assert event["url"]["maxLength"] == event["referrer"]["maxLength"] == MAX_URL
    assert event["transaction_id"]["anyOf"][0]["maxLength"] == MAX_TRANSACTION_ID
    assert event["created_at"]["minimum"] == FIRST.timestamp()
    assert event["type"]["enum"] == ["event", *(e for e in Hit.Type.values if e != "event"), None]
    assert event["public_key"]["pattern"] == f"^[A-Za-z0-9_-]{{1,{MAX_KEY}}}$"
    customer = schemas["Customer"]["properties"]
    assert {customer[each]["maxItems"] for each in LISTS if each != "identities"} == {MOST}
    assert {*schemas["Identity"]["properties"]["kind"]["enum"]} == {*Identity.Kind.values}
    flags = {each["name"] for each in operation(document, CUSTOMER)["parameters"][2:]}
    assert flags == {f"show_{each}" for each in (*LISTS, "all")}


def section(title):
    """Return the statuses, and the members, that a part of the reference lists."""
    page = text(DOCS / "reference" / "tracking-api.md")
    part = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    firsts = [line.split("|")[1] for line in part.splitlines() if line.startswith("|")]
    statuses = {each for line in firsts for each in re.findall(r"\b\d{3}\b", line)}
    return statuses, {each for line in firsts for each in re.findall(r"`(\w+)`", line)}


def test_it_says_what_the_reference_does(document):
    statuses, members = section("Tell who somebody is, and what they did")
    schema = document["components"]["schemas"]["EventTold"]["properties"]["event"]
    assert schema["properties"].keys() == members
    assert operation(document, "/attribution/events")["responses"].keys() == statuses
    told = operation(document, "/attribution/identities")["responses"].keys()
    assert told == statuses - {"404"}
    statuses, _ = section("Ask who somebody is")
    assert operation(document, CUSTOMER)["responses"].keys() == statuses


@pytest.mark.django_db
def test_a_customer_has_the_members_that_it_says(document):
    shop = make_property()
    hit(shop, "client:42", type="transaction", url="https://shop.example/?gclid=x")
    hit(shop, "client:42")
    shown = described(known(shop), "42", frozenset(LISTS))
    schemas = document["components"]["schemas"]
    assert schemas["Customer"]["properties"].keys() == {*shown, "truncated"}
    for each, name in zip(LISTS, ("Pageview", "Touchpoint", "Event", "Identity"), strict=True):
        assert schemas[name]["required"] == [*shown[each][0]]


@pytest.mark.django_db
def test_over_the_limit_it_is_answered_as_it_says(document, settings):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "1/d"}
    limits.forget()
    Property.objects.issue(name="Shop", public_key="SHOP")
    browser = Browser(REMOTE_ADDR="81.2.69.160")
    asked = [browser.get("/attribution/api/v1/SHOP/customers/42") for _ in range(2)][-1]
    told = [browser.post("/attribution/events") for _ in range(2)][-1]
    limits.forget()
    error = document["components"]["schemas"]["Error"]
    for answer, address in ((asked, CUSTOMER), (told, "/attribution/events")):
        said = operation(document, address)["responses"][str(answer.status_code)]
        assert answer.status_code == 429
        assert {*answer.headers} >= {*said["headers"]}
        assert [*answer.json()] == error["required"]
