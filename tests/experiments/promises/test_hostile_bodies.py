"""Whatever a client sends, the answer is one of the protocol's, and nothing is left half done."""

import json
import logging
import random
from collections import Counter

import pytest
from django.http import HttpResponse
from django.test import Client as Browser
from django.urls import include, path

from affiliations.experiments.models import Assignment, Variation
from affiliations.tracking.models import Customer, Hit, HitKey, Identity, Property
from tests.experiments.environment import Environment
from tests.experiments.factories import make_campaign
from tests.rest.hostile import BODIES, JSON, VALUES

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

WHO = {"vid": "visitor-1", "cuid": "customer-1", "qt": 5}
HITS = [
    {"t": "PAGEVIEW", "dl": "https://example.org/p", "sr": "1x1", "ul": "fr", "sn": 3, **WHO},
    {"t": "SCREENVIEW", "dl": "home", "uip": "10.0.0.1", **WHO},
    {"t": "EVENT", "ec": "Action Tracking", "ea": "click", "el": "l", "ev": 10, **WHO},
    {"t": "ITEM", "tid": "T1", "in": "Shoes", "ic": "S1", "ip": 1.5, "iq": 2, "iv": "c", **WHO},
    {
        "t": "TRANSACTION",
        "tid": "T1",
        "ta": "buy",
        "tr": 59.97,
        "ts": 5.5,
        "tt": 3.2,
        "tc": "EUR",
        "pm": "card",
        "sm": "post",
        "icn": 2,
        "tcc": "PROMO",
        **WHO,
    },
    {"t": "SEGMENT", "s": {"plan": "gold"}, **WHO},
]


def naive(request):
    """Collect as one does who trusts whoever calls: the fields go into rows as they come."""
    told = json.loads(request.body)
    prop = Property.objects.get(public_key=told["cid"])
    customer = Customer.objects.create(property=prop)
    identity = Identity.objects.create(
        property=prop, customer=customer, kind="client", value=told["vid"]
    )
    Hit.objects.create(
        property=prop,
        identity=identity,
        type="screen",
        title=told["dl"],
        happened_on=told["qt"],
        meta={"ip": told["uip"]},
    )
    return HttpResponse()


urlpatterns = [path("naive", naive), path("", include("tests.projects.urls"))]


@pytest.fixture(autouse=True)
def env():
    logging.disable(logging.CRITICAL)
    made = Environment()
    make_campaign(made.prop)
    yield made
    logging.disable(logging.NOTSET)


def rows():
    models = (Customer, Identity, Hit, HitKey, Assignment)
    return [list(each.objects.order_by("pk").values()) for each in models]


def bodies(env):
    """Return each address with a body that is taken there."""
    blue = Variation.objects.select_related("group").get(name="Blue")
    seen = {"caid": blue.group.uid, "vaid": blue.uid, "vid": "visitor-1", "aid": "a", "qt": 5}
    asked = {
        "visitorId": "visitor-1",
        "anonymousId": "before",
        "visitor_consent": True,
        "trigger_hit": True,
        "activate": True,
        "decisionGroup": "g",
        "formatResponse": False,
        "context": {"plan": "gold"},
    }
    told = [
        (f"v2/{env.id}/campaigns/", asked),
        (f"v2/{env.id}/flags", asked),
        ("v2/activate", {"cid": env.id, **seen}),
        ("v2/activate", {"cid": env.id, "batch": [seen]}),
        (f"v2/{env.id}/events", {"type": "CONTEXT", "data": {"a": 1}, "visitorId": "v"}),
    ]
    told += [("collect/", {"cid": env.id, "ds": "APP", **each}) for each in HITS]
    return [*told, ("collect/", {"cid": env.id, "t": "BATCH", "ds": "APP", "h": HITS})]


def post(env, where, body, kind=JSON):
    browser = Browser(raise_request_exception=False)
    headers = {"x-api-key": env.key}
    return browser.generic("POST", f"/flagship/{where}", body, content_type=kind, headers=headers)


def is_of_the_protocol(answer):
    if answer.status_code == 204:
        return answer.content == b""
    if answer.status_code not in (200, 400, 403, 413):
        return False
    found = answer.json()
    return answer.status_code == 200 or bool(found.get("message") or found.get("errors"))


def test_hostile_values_in_the_place_of_each_field(env):
    seen = Counter()
    for where, body in bodies(env):
        for field in body:
            for value in VALUES:
                mark = "in the place of the value"
                sent = json.dumps({**body, field: mark}).encode()
                before = rows() if seen.total() % 7 == 0 else None
                answer = post(env, where, sent.replace(f'"{mark}"'.encode(), value))
                assert is_of_the_protocol(answer), (where, field, value[:50], answer.status_code)
                if before is not None and answer.status_code >= 400:
                    assert rows() == before, (where, field, value[:50])
                seen[answer.status_code] += 1
    # Some of them may stand where they are.
    assert min(seen[each] for each in (200, 204, 400)) > 50


def test_hostile_bodies(env):
    before = rows()
    seen = Counter()
    for where, _ in bodies(env):
        for body, kind in BODIES:
            answer = post(env, where, body, kind)
            assert is_of_the_protocol(answer), (where, body[:50], answer.status_code)
            seen[answer.status_code] += 1
    assert seen[400] > 100
    # Of an empty question nobody is known.
    assert rows() == before


HOSTILE = ("a%00b", "%ff", "%ed%a0%80", "x" * 5000, "a%2Fb", "..", "%0d%0a", "{}", "%", "²", "~")


@pytest.mark.parametrize("env_id", HOSTILE)
def test_environments_and_campaigns_may_be_hostile_too(env, env_id):
    browser = Browser(raise_request_exception=False)
    for where in (
        f"v2/{env_id}/campaigns/",
        f"v2/{env.id}/campaigns/{env_id}",
        f"v2/{env_id}/events",
    ):
        for key in (env.key, "\xff", "x" * 9000):
            url = f"/flagship/{where}?mode={env_id}&exposeAllKeys=%00&extras=%ff"
            answer = browser.generic("POST", url, b"{}", JSON, headers={"x-api-key": key})
            assert answer.status_code in (200, 204, 400, 403, 404), where
    answer = browser.get(
        f"/flagship/{env_id}/bucketing.json", headers={"if-modified-since": "\xff"}
    )
    assert answer.status_code in (400, 404)


class Fuzz:
    """Changes bodies that are taken by chance, always the same."""

    def __init__(self, env, seed):
        self.draw = random.Random(seed)
        self.bodies = [(where, json.dumps(body).encode()) for where, body in bodies(env)]

    def next(self):
        where, body = self.draw.choice(self.bodies)
        found = bytearray(body)
        for _ in range(self.draw.randint(1, 8)):
            where_in = self.draw.randrange(len(found) or 1)
            match self.draw.randrange(5):
                case 0:
                    found[where_in:where_in] = self.draw.choice(VALUES)[:200]
                case 1:
                    del found[where_in : where_in + self.draw.randint(1, 9)]
                case 2:
                    found[where_in:where_in] = self.draw.choice(
                        [b'"', b"{", b"]", b",", b"\\", b":"]
                    )
                case 3:
                    found[where_in : where_in + 1] = bytes([self.draw.randrange(256)])
                case _:
                    start, end = sorted(self.draw.choices(range(len(found) + 1), k=2))
                    found[where_in:where_in] = found[start : min(end, start + 300)]
        return where, bytes(found)


def fuzzed(env, number, seed, send=post):
    """Return how many answers were of the protocol, and how many not, by their status."""
    fuzz, seen = Fuzz(env, seed), Counter()
    for _ in range(number):
        answer = send(env, *fuzz.next())
        seen[is_of_the_protocol(answer), answer.status_code] += 1
    return seen


@pytest.mark.parametrize("number", [1500, pytest.param(100_000, marks=pytest.mark.long)])
def test_bodies_that_are_changed_by_chance(env, number):
    seen = fuzzed(env, number, seed=20261129)
    assert all(fine for fine, _ in seen), seen
    # Neither are all of them broken, nor is any whole.
    assert seen[True, 400] > number / 4
    assert seen[True, 204] + seen[True, 200] > number / 50


def test_teeth_a_collector_that_reads_whatever_comes(env):
    def send(env, where, body):
        browser = Browser(raise_request_exception=False)
        return browser.generic("POST", "/naive", body, content_type=JSON)

    seen = fuzzed(env, 300, seed=1, send=send)
    assert sum(number for (_, status), number in seen.items() if status == 500) > 100
