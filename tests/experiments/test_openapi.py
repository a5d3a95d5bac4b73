"""The OpenAPI document: it is where the server is, and says what the code and the reference do."""

import json
import re

import pytest
from django.test import Client as Browser
from django.urls import get_resolver, include, path

from affiliations.experiments import collect, live, taking, views, wire
from affiliations.experiments.models import Variation
from affiliations.tracking import limits, properties
from affiliations.tracking.conf import MAX_KEY
from tests.docs.test_docs import DOCS, text
from tests.experiments.environment import Environment
from tests.experiments.factories import make_campaign

urlpatterns = [
    path("here/", include("affiliations.experiments.urls")),
    path("flagship/", include("affiliations.experiments.urls", namespace="again")),
]
PAGE = text(DOCS / "reference" / "experiments-server.md")


@pytest.fixture
def document():
    return Browser().get("/flagship/openapi.json").json()


def the_only(operations):
    [found] = operations.values()
    return found


@pytest.mark.urls(__name__)
def test_it_is_wherever_a_site_mounts_the_server():
    for mounted in ("here", "flagship"):
        answer = Browser().get(f"/{mounted}/openapi.json")
        assert answer["Content-Type"] == "application/json"
        assert {each.split("/")[1] for each in answer.json()["paths"]} == {mounted}
    assert Browser().post("/here/openapi.json").status_code == 400


def test_it_has_each_address_that_there_is(document):
    named = {the_only(each)["operationId"] for each in document["paths"].values()}
    patterns = get_resolver("affiliations.experiments.urls").reverse_dict
    assert named == {each for each in patterns if isinstance(each, str)} - {"openapi"}


def test_its_limits_are_those_of_the_code(document):
    schemas = document["components"]["schemas"]
    assert schemas["Batch"]["properties"]["h"]["maxItems"] == taking.MAX_CHILDREN
    assert schemas["Activations"]["properties"]["batch"]["maxItems"] == taking.MAX_CHILDREN
    page = schemas["Pageview"]["properties"]
    assert page["dl"]["maxLength"] == collect.MAX_URL
    assert page["pt"]["maxLength"] == collect.MAX_LINE
    assert page["qt"]["maximum"] == wire.MAX_LATE.total_seconds() * 1000
    assert schemas["Transaction"]["properties"]["pm"]["maxLength"] == collect.MAX_SHORT
    assert (*schemas["Event"]["properties"]["ec"]["enum"],) == collect.CATEGORIES
    kinds = [schemas[ref["$ref"].split("/")[-1]] for ref in schemas["Hit"]["anyOf"]]
    told = [each["properties"]["t"]["enum"] for each in kinds]
    assert sorted(told) == sorted([[each] for each in (*collect.KINDS, "CAMPAIGN")])
    assert schemas["Batch"]["properties"]["cid"]["pattern"] == f"^[A-Za-z0-9_-]{{1,{MAX_KEY}}}$"
    assert {*schemas["Modifications"]["properties"]["type"]["enum"]} == {*Variation.Kind.values}


def test_it_says_what_the_reference_does(document):
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    firsts = [re.findall(r"`([^`]+)`", line.split("|")[1]) for line in rows]
    told = {each.partition(" ")[2] for row in firsts for each in row if " " in each}
    addresses = {each.removeprefix("/flagship/") for each in document["paths"]}
    assert addresses == {
        each.replace("<env>", "{env}").replace("<id or slug>", "{campaign}") for each in told
    }
    fields = {each for row in firsts for each in row}
    assert document["components"]["schemas"]["Asked"]["properties"].keys() <= fields
    asked = the_only(document["paths"]["/flagship/v2/{env}/campaigns"])
    parameters = {each["name"] for each in asked["parameters"]} - {"env"}
    assert parameters <= {each.partition("=")[0] for each in fields}
    for status in the_only(document["paths"]["/flagship/v2/{env}/campaigns/{campaign}"])[
        "responses"
    ]:
        assert status in PAGE, status


def test_it_says_which_have_a_key(document):
    with_key = {
        the_only(each)["operationId"]
        for each in document["paths"].values()
        if the_only(each)["security"]
    }
    assert with_key == {"campaigns", "campaign", "flags"}


@pytest.mark.django_db
def test_what_is_written_as_itself_has_the_kind_that_it_says(document, client):
    env = Environment()
    responses = the_only(document["paths"]["/flagship/v2/{env}/campaigns/{campaign}"])["responses"]
    for kind in Variation.Kind.values:
        shown = {"name": "It", "allocation": 100, "kind": kind, "modifications": {"x": "y"}}
        make_campaign(env.prop, slug=kind.lower(), groups=[{"variations": [shown]}])
        properties.forget()
        live.forget()
        answer = env.decide(client, path=f"campaigns/{kind.lower()}", formatResponse=True)
        assert answer["Content-Type"] in responses["200"]["content"], kind
    assert {*responses["200"]["content"]} == {"application/json", *views.CONTENT_TYPES.values()}


@pytest.mark.django_db
def test_over_the_limit_it_is_answered_as_it_says(document, settings):
    settings.AFFILIATE_EXPERIMENTS_LIMIT = "1/d"
    limits.forget()
    env = Environment()
    browser = Browser(REMOTE_ADDR="81.2.69.160")
    hit = {"cid": env.id, "t": "SCREENVIEW", "dl": "home", "vid": "anna"}
    told = [
        browser.post("/flagship/collect/", json.dumps(hit), content_type="application/json")
        for _ in range(2)
    ]
    limits.forget()
    assert [each.status_code for each in told] == [204, 429]
    said = the_only(document["paths"]["/flagship/collect/"])["responses"]["429"]
    assert {*told[-1].headers} >= {*said["headers"]}
    assert [*told[-1].json()] == document["components"]["schemas"]["Message"]["required"]
