"""What the real SDKs are made to send is what was recorded of them, and they use what is answered.

The server here answers as Flagship's did when it was recorded; ours is tested with the same SDKs.
"""

import json
import re
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.experiments.flagship_sdks import (
    MODES,
    VERSIONS,
    Sdk,
    SdkFailed,
    home,
    interpreter,
)

ENV, KEY = "env_1", "api_key_1"
CONTEXT = {"plan": "gold", "age": 30, "vip": True, "ratio": 1.5}
BOTH = pytest.mark.parametrize("version", VERSIONS)
OLD, NEW = VERSIONS
FIRST, SECOND = "Fri, 20 Nov 2026 20:00:00 GMT", "Fri, 20 Nov 2026 20:00:01 GMT"

PRESETS = (
    *("deviceLanguage", "deviceType", "deviceModel", "city", "region", "country", "lat", "long"),
    *("ip", "osName", "osVersion", "apiLevel", "pythonVersion", "carrierName", "devMode"),
    *("firstTimeInit", "internetConnection", "versionName", "versionCode", "fsVersion"),
    "interfaceName",
)
#: What each sends of the context.
CONTEXTS = {
    OLD: {**{f"sdk_{name}": "" for name in PRESETS}, **CONTEXT},
    NEW: {"fs_client": "python", "fs_version": "3.0.1", **CONTEXT},
}
FLAGS = {"color": "red", "size": 12, "share": 1.5, "on": True, "of": {"a": 1}, "in": [1, "2"]}
CAMPAIGNS = {
    "visitorId": "visitor-1",
    "campaigns": [
        {
            "id": "camp_1",
            "name": "Campaign 1",
            "slug": "slug-1",
            "type": "ab",
            "variationGroupId": "vg_1",
            "variationGroupName": "VG 1",
            "variation": {
                "id": "va_1",
                "name": "Variation 1",
                "modifications": {"type": "FLAG", "value": {**FLAGS, "nothing": None}},
                "reference": False,
            },
        }
    ],
}
#: Where what is decided there comes from.
INFO = {
    "campaignId": "camp_1",
    "variationGroupId": "vg_1",
    "variationId": "va_1",
    "isReference": False,
}
INFOS = {OLD: INFO, NEW: {**INFO, "campaignType": "ab", "campaignSlug": "slug-1"}}


def variation(ident, allocation, **flags):
    modifications = {"type": "FLAG", "value": flags}
    return {
        "id": ident,
        "reference": ident == "va_ref",
        "allocation": allocation,
        "modifications": modifications,
    }


def bucketing(*variations, operator="EQUALS", key="fs_all_users", value=""):
    targeting = {"operator": operator, "key": key, "value": value, "provider": ""}
    group = {
        "id": "vg_1",
        "targeting": {"targetingGroups": [{"targetings": [targeting]}]},
        "variations": variations,
    }
    campaign = {"id": "camp_1", "slug": "slug-1", "type": "ab", "variationGroups": [group]}
    return {"panic": False, "campaigns": [campaign]}


FIFTY_FIFTY = bucketing(
    variation("va_ref", 50, color="red"), variation("va_1", 50, color="blue", size=12)
)


class Request(NamedTuple):
    kind: str
    method: str
    path: str
    headers: dict
    body: object


class Server(ThreadingHTTPServer):
    """Keeps what it was sent; `answers` has a status, headers and a body by kind of request."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/flagship"
        self.requests = []
        self.going_on = threading.Event()
        self.going_on.set()
        self.answers = {
            "campaigns": (200, {}, CAMPAIGNS),
            "events": (204, {}, None),
            "activate": (204, {}, None),
            "bucketing.json": (200, {"Last-Modified": FIRST}, FIFTY_FIFTY),
            "hits": (200, {}, None),
        }

    def handle_error(self, *args):
        """Say nothing of who was ended before the answer."""

    def take(self, kind=None):
        """Return what came since the last time, all of it or of one kind."""
        taken, self.requests = self.requests, []
        return [each for each in taken if kind in (None, each.kind)]


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.removeprefix("/flagship")
        kind = urlsplit(path).path.strip("/").rpartition("/")[2] or "hits"
        body = json.loads(raw) if raw else None
        self.server.requests.append(Request(kind, self.command, path, headers, body))
        self.server.going_on.wait(30)
        status, more, told = self.server.answers[kind]
        if headers.get("if-modified-since", "") == more.get("Last-Modified"):
            status, more, told = 304, {}, None
        answered = b"" if told is None else json.dumps(told).encode()
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answered)))
        self.end_headers()
        self.wfile.write(answered)

    do_GET = do_POST = answer  # noqa: N815 - as the standard library calls them

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.going_on.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def start(server):
    """Start an SDK that is ended with the test, or before."""
    with ExitStack() as stack:
        yield lambda version, mode="api", **settings: stack.enter_context(
            Sdk(version, server.url, env_id=ENV, api_key=KEY, mode=mode, **settings)
        )


def batched(version, *hits, **ids):
    """Return what is posted of such hits by one visitor."""
    if version == OLD:
        return [{"cid": ENV, **ids, **each, "ds": "APP"} for each in hits]
    children = [{**each, "ds": "APP", "cuid": None, **ids} for each in hits]
    return [{"cid": ENV, "t": "BATCH", "ds": "APP", "h": [child]} for child in children]


def timeless(requests):
    """Return the bodies without the times that hits have waited."""
    bodies = [each.body for each in requests]
    for body in bodies:
        for hit in [*body.get("h", ()), *body.get("batch", ())]:
            assert hit.pop("qt") >= 0
    return bodies


def hits(requests):
    return timeless(each for each in requests if each.kind == "hits")


def told(request):
    """Return the headers that say who asks, and what for."""
    names = ("x-api-key", "x-sdk-client", "x-sdk-version", "content-type", "if-modified-since")
    return {name: request.headers[name] for name in names if name in request.headers}


CONSENT = {"t": "EVENT", "ec": "User Engagement", "ea": "fs_consent", "el": "python:true"}


@BOTH
def test_campaigns_are_asked_for(server, start, version):
    visitor = start(version).new_visitor("visitor-1", context=CONTEXT)
    visitor.synchronize()
    visitor.sdk.flush()
    asked, *others = sorted(server.take(), key=lambda each: each.kind)
    sent_by = {"x-sdk-client": "python", "x-sdk-version": version}
    as_json = {"content-type": "application/json"}
    assert (asked.kind, asked.method) == ("campaigns", "POST")
    assert told(asked) == {"x-api-key": KEY, **sent_by, **as_json}
    body = {"visitorId": "visitor-1", "trigger_hit": False, "context": CONTEXTS[version]}
    [other] = others
    assert told(other) == {**sent_by, **as_json}
    if version == OLD:
        query = "?exposeAllKeys=true&sendContextEvent=false"
        context = {"type": "CONTEXT", "data": CONTEXTS[OLD], "visitorId": "visitor-1"}
        assert (other.path, other.body) == (f"/v2/{ENV}/events", context)
    else:
        query = "?exposeAllKeys=true"
        body |= {"anonymousId": None, "visitor_consent": True}
        assert timeless([other]) == batched(NEW, CONSENT, vid="visitor-1")
    assert (asked.path, asked.body) == (f"/v2/{ENV}/campaigns/{query}", body)


@BOTH
def test_what_is_answered_is_used(start, version):
    visitor = start(version).new_visitor("visitor-1")
    assert visitor.value("color", "none") == "none"
    assert visitor.info("color") is None
    visitor.synchronize()
    assert visitor.flags() == {**FLAGS, "nothing": None}
    assert {key: visitor.value(key, type(value)()) for key, value in FLAGS.items()} == FLAGS
    assert visitor.value("nothing", "as it was") == "as it was"
    assert visitor.value("no such flag", 7) == 7
    assert visitor.info("color") == INFOS[version]
    # 2.1.5 gives what it has, 3.x only what has the default's type.
    assert visitor.value("size", "none") == (12 if version == OLD else "none")


@BOTH
def test_a_visitor_without_an_id(server, start, version):
    visitor = start(version).new_visitor()
    visitor.synchronize()
    [asked] = server.take("campaigns")
    if version == OLD:
        assert re.fullmatch(r"\d{19}", asked.body["visitorId"])
    else:
        assert asked.body["visitorId"] is None
    assert visitor.ids() == (asked.body["visitorId"], None)


@BOTH
def test_the_context_is_updated(server, start, version):
    visitor = start(version).new_visitor("visitor-1", context=CONTEXT)
    visitor.update_context({"plan": "silver", "sdk_city": "Köln 🦊"})
    visitor.update_context(("age", 31), synchronize=True)
    [asked] = server.take("campaigns")
    expected = {**CONTEXTS[version], "plan": "silver", "age": 31, "sdk_city": "Köln 🦊"}
    assert asked.body["context"] == expected
    assert visitor.context().items() >= expected.items()


def activation(version, **ids):
    told = {"caid": "vg_1", "vaid": "va_1", **ids}
    if version == OLD:
        return {"cid": ENV, **told}
    return {"cid": ENV, "batch": [{"aid": None, **told}]}


@BOTH
def test_flags_are_activated(server, start, version):
    visitor = start(version).new_visitor("visitor-1")
    visitor.synchronize()
    visitor.value("color", "none")
    assert not server.take("activate")
    visitor.value("color", "none", activate=True)
    visitor.activate("size")
    activated = server.take("activate")
    assert {each.path for each in activated} == {"/v2/activate"}
    assert told(activated[0]).keys() == {"x-sdk-client", "x-sdk-version", "content-type"}
    assert timeless(activated) == [activation(version, vid="visitor-1")] * 2


@BOTH
def test_somebody_logs_in_and_out(server, start, version):
    visitor = start(version).new_visitor("visitor-1", context=CONTEXT)
    visitor.authenticate("customer-1", synchronize=True)
    assert visitor.ids() == ("customer-1", "visitor-1")
    visitor.activate("color")
    visitor.send_hit("Screen", "home")
    visitor.sdk.flush()
    sent = server.take()
    [asked] = [each.body for each in sent if each.kind == "campaigns"]
    assert (asked["visitorId"], asked["anonymousId"]) == ("customer-1", "visitor-1")
    [activated] = timeless(each for each in sent if each.kind == "activate")
    # What is the visitor's there, is the customer's here.
    assert activated == activation(version, vid="customer-1", aid="visitor-1")
    *_, hit = [each for body in hits(sent) for each in body.get("h", [body])]
    assert (hit["vid"], hit["cuid"]) == ("visitor-1", "customer-1")

    visitor.unauthenticate(synchronize=True)
    assert visitor.ids() == ("visitor-1", None)
    [asked] = server.take("campaigns")
    assert (asked.body["visitorId"], asked.body.get("anonymousId")) == ("visitor-1", None)


@BOTH
@pytest.mark.parametrize("mode", MODES)
def test_somebody_known_from_the_first(start, version, mode):
    known = start(version, mode).new_visitor("customer-1", authenticated=True)
    visitor_id, anonymous_id = known.ids()
    assert visitor_id == "customer-1"
    assert (anonymous_id is None) == ((version, mode) == (OLD, "bucketing"))
    # Nobody logs in who decides by a file.
    known.unauthenticate()
    assert (known.ids()[0] == "customer-1") == (mode == "bucketing")


def test_old_logins_replace_the_context(start):
    visitor = start(OLD).new_visitor("visitor-1", context=CONTEXT)
    visitor.authenticate("customer-1", context={"plan": "gold"})
    assert visitor.context() == {"plan": "gold"}
    visitor.unauthenticate(context={"plan": "none"})
    assert visitor.context() == {"plan": "none"}


COMMON = {
    "with_ip": "10.0.0.1",
    "with_resolution": [1024, 768],
    "with_locale": "fr",
    "with_session_number": 3,
}
HITS = [
    (
        ("Page", "https://example.org/p"),
        COMMON,
        {"t": "PAGEVIEW", "dl": "https://example.org/p"}
        | {"uip": "10.0.0.1", "sr": "1024x768", "ul": "fr", "sn": 3},
    ),
    (("Screen", "screen"), {}, {"t": "SCREENVIEW", "dl": "screen"}),
    (
        ("Event", "ACTION_TRACKING", "click"),
        {"with_event_label": "lbl", "with_event_value": 10},
        {"t": "EVENT", "ec": "Action Tracking", "ea": "click", "el": "lbl", "ev": 10},
    ),
    (
        ("Item", "T1", "Shoes", "SKU1"),
        {"with_price": 19.99, "with_item_quantity": 2, "with_item_category": "cat"},
        {"t": "ITEM", "tid": "T1", "in": "Shoes", "ic": "SKU1", "ip": 19.99, "iq": 2, "iv": "cat"},
    ),
    (
        ("Transaction", "T1", "purchase"),
        {
            "with_total_revenue": 59.97,
            "with_shipping_cost": 5.5,
            "with_shipping_method": "post",
            "with_taxes": 3.2,
            "with_currency": "EUR",
            "with_payment_method": "card",
            "with_item_count": 2,
            "with_coupon_code": "PROMO",
        },
        {"t": "TRANSACTION", "tid": "T1", "ta": "purchase", "tr": 59.97, "ts": 5.5, "sm": "post"}
        | {"tt": 3.2, "tc": "EUR", "pm": "card", "icn": 2, "tcc": "PROMO"},
    ),
]


@BOTH
@pytest.mark.parametrize("mode", MODES)
def test_hits_are_sent(server, start, version, mode):
    sdk = start(version, mode)
    visitor = sdk.new_visitor("visitor-1")
    sdk.flush()
    server.take()
    for named, setters, _ in HITS:
        visitor.send_hit(*named, **setters)
        assert sdk.flush() == 0
    sent = server.take()
    assert {(each.kind, each.path) for each in sent} == {("hits", "/")}
    assert "x-api-key" not in sent[0].headers
    assert ("x-sdk-version" in sent[0].headers) == (version == NEW)
    expected = [hit for *_, hit in HITS]
    assert timeless(sent) == batched(version, *expected, vid="visitor-1")


def test_hits_that_are_sent_one_by_one(server, start):
    sdk = start(NEW, strategy="_NO_BATCHING_CONTINUOUS_CACHING")
    sdk.new_visitor("visitor-1").send_hit("Screen", "home")
    common = {"cid": ENV, "ds": "APP", "vid": "visitor-1", "cuid": None}
    sent = [each.body for each in server.take("hits")]
    assert sent == [{**CONSENT, **common}, {"t": "SCREENVIEW", "dl": "home", **common}]


def test_hits_that_are_refused_are_sent_again(server, start):
    server.answers["hits"] = (500, {}, None)
    sdk = start(NEW)
    sdk.new_visitor("visitor-1")
    assert sdk.flush() == 1
    assert any("500" in each for each in sdk.errors())
    server.answers["hits"] = (204, {}, None)
    assert sdk.flush() == 0
    first, *_, last = hits(server.take())
    assert first == last


def test_what_waits_is_sent_at_the_end(server, start):
    sdk = start(NEW, time_interval=10_000)
    sdk.new_visitor("visitor-1")
    sdk.stop()
    assert timeless(server.take()) == batched(NEW, CONSENT, vid="visitor-1")
    assert sdk.status() == "NOT_INITIALIZED"


def test_consent(server, start):
    sdk = start(NEW)
    visitor = sdk.new_visitor("visitor-1", consent=False)
    visitor.synchronize()
    visitor.activate("color")
    visitor.send_hit("Screen", "home")
    assert visitor.value("color", "none") == "red"
    sdk.flush()
    sent = server.take()
    [asked] = [each for each in sent if each.kind == "campaigns"]
    assert asked.body["visitor_consent"] is False
    refused = {**CONSENT, "el": "python:false"}
    assert hits(sent) == batched(NEW, refused, vid="visitor-1")
    assert {each.kind for each in sent} == {"campaigns", "hits"}

    visitor.set_consent(True)
    sdk.flush()
    assert hits(server.take()) == batched(NEW, CONSENT, vid="visitor-1")


@BOTH
def test_a_file_is_asked_for(server, start, version):
    sdk = start(version, "bucketing", polling_interval=0.1)
    sdk.poll()
    assert not sdk.errors()
    first, second, *_ = server.take()
    assert (first.method, first.path) == ("GET", f"/{ENV}/bucketing.json")
    always = {} if version == OLD else {"content-type": "application/json"}
    assert told(first) == always
    assert told(second) == {**always, "if-modified-since": FIRST}

    visitor = sdk.new_visitor("visitor-1")
    visitor.synchronize()
    assert visitor.flags() == {"color": "blue", "size": 12}
    changed = bucketing(variation("va_ref", 50, color="red"), variation("va_1", 50, color="green"))
    server.answers["bucketing.json"] = (200, {"Last-Modified": SECOND}, changed)
    sdk.poll()
    visitor.synchronize()
    assert visitor.flags() == {"color": "green"}
    sdk.poll()
    assert told(server.take("bucketing.json")[-1])["if-modified-since"] == SECOND


@BOTH
def test_who_does_not_poll_asks_once(server, start, version):
    sdk = start(version, "bucketing")
    # 2.1.5 asks twice, by which the second has the date of the first.
    assert len(server.take("bucketing.json")) == (2 if version == OLD else 1)
    with pytest.raises(ValueError, match="polling_interval"):
        sdk.poll()


@BOTH
def test_a_file_is_kept_where_it_runs(server, start, version, tmp_path):
    start(version, "bucketing", directory=tmp_path).close()
    assert (tmp_path / ("bucketing.json" if version == OLD else f".{ENV}.decision")).exists()
    server.take()
    sdk = start(version, "bucketing", directory=tmp_path)
    assert {told(each)["if-modified-since"] for each in server.take()} == {FIRST}
    assert sdk.decide(["visitor-1"]) == {"visitor-1": {"color": "blue", "size": 12}}


@BOTH
def test_what_is_told_of_the_context_in_bucketing(server, start, version):
    sdk = start(version, "bucketing")
    server.take()
    sdk.new_visitor("visitor-1", context=CONTEXT).synchronize()
    sdk.flush()
    [sent] = server.take()
    if version == OLD:
        context = {"type": "CONTEXT", "data": CONTEXTS[OLD], "visitorId": "visitor-1"}
        assert (sent.path, sent.body) == (f"/v2/{ENV}/events", context)
    else:
        texts = {key: str(value) for key, value in CONTEXTS[NEW].items()}
        common = {"ds": "APP", "vid": "visitor-1", "cuid": None}
        assert timeless([sent])[0]["h"] == [
            {**CONSENT, **common},
            {"t": "SEGMENT", "s": texts, **common},
        ]


@BOTH
def test_targeting(server, start, version):
    only = variation("va_1", 100, color="red")
    file = bucketing(only, operator="GREATER_THAN", key="age", value=18)
    server.answers["bucketing.json"] = (200, {"Last-Modified": FIRST}, file)
    sdk = start(version, "bucketing")
    assert sdk.decide(["visitor-1"], {"age": 18}) == {"visitor-1": {}}
    assert sdk.decide(["visitor-1"], {"age": 19}) == {"visitor-1": {"color": "red"}}


#: Who is in which half of vg_1. Both encode what is above U+FFFF, and half a pair, as nobody else.
BLUE, RED = ("visitor-1", "élève", "北京", "😀", "a\ud83d"), ("user-🚀-1", "\ud83da")
HALVES = {**dict.fromkeys(BLUE, "blue"), **dict.fromkeys(RED, "red")}


@BOTH
def test_many_are_decided_of_by_a_file(server, start, version):
    sdk = start(version, "bucketing", quiet=True)
    server.take()
    everybody = [*HALVES, *(f"somebody-{number}" for number in range(500))]
    decided = sdk.decide(everybody, CONTEXT)
    assert [*decided] == everybody
    assert {each: decided[each]["color"] for each in HALVES} == HALVES
    assert 200 < [each["color"] for each in decided.values()].count("blue") < 300
    assert not server.take()
    with pytest.raises(ValueError, match="quiet"):
        sdk.flush()


@BOTH
@pytest.mark.parametrize("quiet", [True, False])
def test_many_are_decided_of_by_the_server(server, start, version, quiet):
    sdk = start(version, quiet=quiet)
    everybody = [*HALVES, *(f"somebody-{number}" for number in range(50))]
    decided = sdk.decide(everybody, CONTEXT)
    assert [*decided] == everybody
    assert all(each == {**FLAGS, "nothing": None} for each in decided.values())
    if not quiet:
        sdk.flush()
    sent = server.take()
    asked = [each.body for each in sent if each.kind == "campaigns"]
    assert sorted(each["visitorId"] for each in asked) == sorted(everybody)
    assert all(each["context"] == CONTEXTS[version] for each in asked)
    others = {each.kind for each in sent} - {"campaigns"}
    assert others == ({"events"} if version == OLD else set() if quiet else {"hits"})


@BOTH
def test_a_decision_is_none_if_an_error_was_logged(server, start, version):
    server.answers["campaigns"] = (500, {}, {"message": "broken"})
    with pytest.raises(SdkFailed, match="the SDK logged errors"):
        start(version).decide(["visitor-1"])


def test_the_old_visitor_cache(server, start):
    sdk = start(OLD, "bucketing", visitors={})
    sdk.decide(["visitor-1"])
    kept = {"visitor-1": {"version": 1, "data": {"vId": "visitor-1", "vaIds": ["va_1"]}}}
    assert sdk.cached_visitors() == kept
    kept["visitor-1"]["data"]["vaIds"] = ["va_ref"]
    again = start(OLD, "bucketing", visitors=kept)
    assert again.decide(["visitor-1"]) == {"visitor-1": {"color": "red"}}


def test_the_new_visitor_cache(server, start):
    sdk = start(NEW, "bucketing", visitors={}, hits={})
    visitor = sdk.new_visitor("visitor-1", context=CONTEXT)
    visitor.synchronize()
    visitor.activate("color")
    kept = sdk.cached_visitors()
    flags = {"color": "blue", "size": 12}
    campaign = {**INFO, "type": "ab", "slug": "slug-1", "exposed": True, "flags": flags}
    assert kept["visitor-1"] == {
        "version": 1,
        "data": {
            "visitorId": "visitor-1",
            "anonymousId": None,
            "isAuthenticated": False,
            "consent": True,
            "context": CONTEXTS[NEW],
            "campaigns": [campaign],
            "assignationHistory": {"vg_1": "va_1"},
        },
    }
    kept["visitor-1"]["data"]["assignationHistory"] = {"vg_1": "va_ref"}
    again = start(NEW, "bucketing", visitors=kept)
    assert again.decide(["visitor-1"]) == {"visitor-1": {"color": "red"}}
    # Nobody is drawn for anew whose variation is no more.
    kept["visitor-1"]["data"]["assignationHistory"] = {"vg_1": "va_gone"}
    gone = start(NEW, "bucketing", visitors=kept)
    assert gone.decide(["visitor-1"]) == {"visitor-1": {}}


def test_hits_outlive_an_application(server, start):
    server.answers["hits"] = (500, {}, None)
    sdk = start(NEW, hits={})
    sdk.new_visitor("visitor-1")
    sdk.flush()
    [kept] = sdk.cached_hits().values()
    assert kept["data"]["content"].items() >= CONSENT.items()
    left = sdk.cached_hits()
    sdk.close()
    server.take()
    server.answers["hits"] = (204, {}, None)
    again = start(NEW, hits=left)
    again.flush()
    assert hits(server.take()) == batched(NEW, CONSENT, vid="visitor-1")
    assert again.cached_hits() == {}


@BOTH
def test_a_variation_that_is_there_twice(server, start, version):
    """A file must not have one: 3.x has its last share where its first is, and loses the other."""
    twice = bucketing(
        variation("a", 40, color="red"),
        variation("b", 20, color="blue"),
        variation("a", 40, color="green"),
    )
    server.answers["bucketing.json"] = (200, {"Last-Modified": FIRST}, twice)
    decided = start(version, "bucketing", quiet=True).decide(f"n{each}" for each in range(300))
    found = [each.get("color") for each in decided.values()]
    there = ["red", "blue", "green"] if version == OLD else ["green", "blue", None]
    assert [*sorted(set(found), key=there.index)] == there
    cached = {"n1": {"version": 1, "data": {"vId": "n1", "vaIds": ["a"]}}}
    if version == NEW:
        cached["n1"]["data"] = {"campaigns": [], "assignationHistory": {"vg_1": "a"}}
    known = start(version, "bucketing", visitors=cached)
    assert known.decide(["n1"])["n1"]["color"] == ("red" if version == OLD else "green")


@BOTH
def test_a_visitor_who_stays_while_the_file_changes(server, start, version):
    """One of 3.x keeps the variation, without a cache, and has none once it is no more."""
    sdk = start(version, "bucketing", polling_interval=0.1)
    visitor = sdk.new_visitor("visitor-1")
    visitor.synchronize()
    moved = bucketing(variation("va_ref", 100, color="red"), variation("va_1", 0, color="blue"))
    server.answers["bucketing.json"] = (200, {"Last-Modified": SECOND}, moved)
    sdk.poll()
    visitor.synchronize()
    assert visitor.flags() == {"color": "red" if version == OLD else "blue"}
    removed = bucketing(variation("va_ref", 100, color="red"))
    server.answers["bucketing.json"] = (200, {"Last-Modified": FIRST}, removed)
    sdk.poll()
    visitor.synchronize()
    assert visitor.flags() == ({"color": "red"} if version == OLD else {})
    assert sdk.decide(["visitor-1"]) == {"visitor-1": {"color": "red"}}


@BOTH
def test_panic_in_api_mode(server, start, version):
    sdk = start(version)
    visitor = sdk.new_visitor("visitor-1")
    visitor.synchronize()
    assert not visitor.panics()
    panic = {"visitorId": "visitor-1", "campaigns": [], "panic": True}
    server.answers["campaigns"] = (200, {}, panic)
    visitor.synchronize()
    assert visitor.panics()
    assert visitor.value("color", "none", activate=True) == "none"
    assert not server.take("activate")
    server.answers["campaigns"] = (200, {}, CAMPAIGNS)
    visitor.synchronize()
    assert not visitor.panics()
    assert visitor.value("color", "none") == "red"


@BOTH
def test_panic_in_a_file(server, start, version):
    sdk = start(version, "bucketing", polling_interval=0.1)
    visitor = sdk.new_visitor("visitor-1")
    visitor.synchronize()
    server.answers["bucketing.json"] = (200, {"Last-Modified": SECOND}, {"panic": True})
    sdk.poll()
    assert visitor.panics()
    assert visitor.value("color", "none") == "none"
    server.answers["bucketing.json"] = (200, {"Last-Modified": FIRST}, FIFTY_FIFTY)
    sdk.poll()
    assert not visitor.panics()
    assert visitor.value("color", "none") == "blue"


def test_until_there_is_a_file(server, start):
    server.answers["bucketing.json"] = (404, {}, {"message": "none"})
    sdk = start(NEW, "bucketing", wait=False, polling_interval=0.1)
    assert sdk.status() == "POLLING"
    server.answers["bucketing.json"] = (200, {"Last-Modified": FIRST}, FIFTY_FIFTY)
    sdk.wait_until_ready()
    assert sdk.status() == "READY"


def test_polling_that_has_died_is_told(server, start):
    sdk = start(OLD, "bucketing", polling_interval=0.1)
    sdk.poll()
    # It reads this as JSON, and its thread is no more.
    server.answers["bucketing.json"] = (200, {"Last-Modified": SECOND}, None)
    with pytest.raises(SdkFailed, match="the SDK's thread is dead"):
        sdk.poll()


@BOTH
def test_what_an_sdk_raises_is_raised_here(start, version):
    visitor = start(version).new_visitor("visitor-1")
    with pytest.raises(SdkFailed, match=r"(?s)decorators\.py.*Error") as raised:
        visitor.send_hit("Item", 1, "Shoes", "SKU1")
    assert f"send_hit, in {version}" in str(raised.value)
    with pytest.raises(SdkFailed, match="Click is none of Page"):
        visitor.send_hit("Click", "here")
    visitor.synchronize()
    assert visitor.value("color", "none") == "red"


def test_who_does_not_answer_is_ended(server, start):
    sdk = start(OLD)
    visitor = sdk.new_visitor("visitor-1")
    server.going_on.clear()
    with pytest.raises(SdkFailed, match=r"synchronize was not answered within 0\.5 seconds"):
        sdk.ask("synchronize", visitor=visitor.number, within=0.5)
    with pytest.raises(SdkFailed, match="was not answered"):
        sdk.status()


@BOTH
def test_nothing_is_left_behind(start, version):
    sdk = start(version, "bucketing")
    assert len([*sdk.directory.iterdir()]) == 2
    # What it prints is no answer, and is kept.
    assert (sdk.said() == f"{OLD}\n") == (version == OLD)
    sdk.close()
    assert not sdk.directory.exists()
    assert sdk._process.returncode is not None


def test_an_sdk_that_is_another_version(server, tmp_path, monkeypatch):
    (tmp_path / "2.1.5").symlink_to(home() / NEW)
    monkeypatch.setenv("AFFILIATIONS_FLAGSHIP_PYTHON", interpreter())
    monkeypatch.setenv("AFFILIATIONS_FLAGSHIP", str(tmp_path))
    with pytest.raises(SdkFailed), Sdk(OLD, server.url):
        pass
    with pytest.raises(FileNotFoundError):
        Sdk(NEW, server.url)


def test_without_the_sdks_tests_are_skipped_unless_they_are_required(monkeypatch):
    monkeypatch.delenv("AFFILIATIONS_FLAGSHIP", raising=False)
    monkeypatch.delenv("AFFILIATIONS_REQUIRE_FLAGSHIP", raising=False)
    with pytest.raises(pytest.skip.Exception, match="AFFILIATIONS_FLAGSHIP"):
        home()
    monkeypatch.setenv("AFFILIATIONS_REQUIRE_FLAGSHIP", "1")
    with pytest.raises(pytest.fail.Exception, match="AFFILIATIONS_FLAGSHIP"):
        home()
