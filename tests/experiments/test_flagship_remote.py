"""The Flagship API against a server: what it sends, what it makes of an answer or of none.

And that it all comes to the same: in process, against our server, and by the real SDK.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from affiliations.experiments import exposures, flagship, live, publishing, segments
from affiliations.experiments.flagship import (
    Config,
    DjangoCacheManager,
    EventCategory,
    Flagship,
    FlagshipEventHandler,
    Page,
    PresetContext,
    Screen,
    polling,
)
from affiliations.experiments.models import Assignment, Variation
from affiliations.experiments.models import Environment as Row
from affiliations.tracking.models import Customer, Hit, HitKey, Identity
from tests.experiments.environment import Environment
from tests.experiments.factories import BLUE, ORIGINAL, make_campaign, make_exclusion
from tests.experiments.flagship_sdks import Sdk
from tests.tracking.factories import make_event_type, people

ENV, KEY = "env 1", "api_key_1"
PRESETS = {name: "" for name in PresetContext.load() if not name.startswith("fs_")}
FLAGS = {"color": "red", "of": {"a": [1]}, "nothing": None}


def campaign_of(**fields):
    variation = {
        "id": "va_1",
        "modifications": {"type": "FLAG", "value": FLAGS},
        "reference": True,
    }
    return {"id": "camp_1", "variationGroupId": "vg_1", "variation": variation, **fields}


def answer_of(*campaigns, **fields):
    return {"visitorId": "v", "campaigns": [*campaigns], **fields}


ANSWER = answer_of(campaign_of())


LATE = "late"


class Server(ThreadingHTTPServer):
    """Answers by the kind of a request, what a test says: a status, headers and a body.

    An answer may be a function, which is called first, and LATE, which is none for long.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/flagship/"
        self.sent, self.ends = [], threading.Event()
        self.answers = {
            "campaigns": (200, {}, ANSWER),
            "activate": (204, {}, b""),
            "collect": (204, {}, b""),
            "events": (204, {}, b""),
            "bucketing.json": (200, {"Last-Modified": "first"}, {"campaigns": []}),
        }

    def handle_error(self, *args):
        """Say nothing of who has gone away before the answer."""

    def take(self, kind=None):
        found, self.sent = self.sent, []
        return [each for each in found if kind in (None, each[0])]


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.path.partition("?")[0].strip("/").rpartition("/")[2]
        headers = {name.lower(): value for name, value in self.headers.items()}
        sent = kind, self.command, self.path, headers, json.loads(raw) if raw else None
        self.server.sent.append(sent)
        found = self.server.answers[kind]
        if found == LATE:
            if self.server.ends.wait(10):
                return
            # Nobody would still wait for it.
            found = 200, {}, ANSWER
        if callable(found):
            found = found(sent)
        status, more, told = found
        answered = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answered)))
        self.end_headers()
        self.wfile.write(answered)

    do_GET = do_POST = answer  # noqa: N815 - as the standard library calls them

    def log_message(self, *args):
        pass


class Heard(FlagshipEventHandler):
    def __init__(self):
        super().__init__()
        self.logs, self.raised = [], []

    def on_log(self, level, message):
        self.logs.append((level, message))

    def on_exception_raised(self, exception, traceback):
        self.raised.append(exception)

    def errors(self):
        return [message for level, message in self.logs if level >= logging.ERROR]


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.ends.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def start(server, heard):
    def started(**options):
        made = Flagship()
        options = {"decision_api_url": server.url, "timeout": 30, **options}
        made.start(Config(ENV, KEY, event_handler=heard, **options))
        return made

    return started


@pytest.fixture
def visitor(start):
    return start().create_visitor("v", context={"plan": "gold é🦊", "age": 30})


# What is sent

TOLD_BY = {"x-sdk-client": "python", "x-sdk-version": "2.1.5", "content-type": "application/json"}


def test_what_is_asked(server, visitor):
    assert visitor.synchronize_modifications() == (True, "")
    [(_, method, path, headers, body)] = server.take()
    assert (method, path) == ("POST", "/flagship/v2/env%201/campaigns/?exposeAllKeys=true")
    assert headers.items() >= {**TOLD_BY, "x-api-key": KEY}.items()
    context = {**PRESETS, "plan": "gold é🦊", "age": 30}
    assert body == {"visitorId": "v", "trigger_hit": False, "context": context}
    visitor.authenticate("customer", {}, synchronize=True)
    [(*_, body)] = server.take()
    assert body == {
        "visitorId": "customer",
        "anonymousId": "v",
        "trigger_hit": False,
        "context": {},
    }


def test_what_is_told(server, visitor):
    visitor.synchronize_modifications()
    server.take()
    assert visitor.activate_modification("color") == (True, "204")
    assert visitor.send_hit(Page("https://a.example/").with_locale("fr")) == (True, "204")
    visitor.authenticate("customer")
    assert visitor.get_modification_with_results("color", "", activate=True) == (
        *("red", True, ""),
        (True, "204"),
    )
    visitor.send_hit(Screen("home"))
    sent = server.take()
    assert [each[1:3] for each in sent] == [
        *(("POST", "/flagship/v2/activate"), ("POST", "/flagship/collect/")),
        *(("POST", "/flagship/v2/activate"), ("POST", "/flagship/collect/")),
    ]
    seen = {"cid": ENV, "caid": "vg_1", "vaid": "va_1"}
    hit = {"cid": ENV, "ds": "APP"}
    assert [each[-1] for each in sent] == [
        {**seen, "vid": "v"},
        {**hit, "vid": "v", "t": "PAGEVIEW", "dl": "https://a.example/", "ul": "fr"},
        {**seen, "vid": "customer", "aid": "v"},
        {**hit, "vid": "v", "cuid": "customer", "t": "SCREENVIEW", "dl": "home"},
    ]
    for _, _, _, headers, _ in sent:
        assert headers.items() >= TOLD_BY.items()
        # Where no key is asked for none is shown.
        assert "x-api-key" not in headers


def test_what_is_answered(visitor):
    visitor.synchronize_modifications()
    assert visitor.get_modification("color", "none") == "red"
    assert visitor.get_modification("of", {}) == {"a": [1]}
    assert visitor.get_modification("nothing", "as it was") == "as it was"
    assert visitor.get_modification_info("color") == {
        "campaignId": "camp_1",
        "variationGroupId": "vg_1",
        "variationId": "va_1",
        "isReference": True,
    }


def test_the_context_is_written_there(server, visitor):
    visitor.synchronize_modifications()
    [(_, _, path, _, _)] = server.take()
    assert "sendContextEvent" not in path


# What fails


def decided(visitor, heard):
    """Have a visitor decided for, though this machine may be too busy for that at first."""
    assert any(visitor.synchronize_modifications()[0] for _ in range(20))
    heard.logs.clear()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500, {}, {"message": "x"}), "the answer is 500 Internal Server Error"),
        ((403, {}, {"message": "Forbidden"}), "the answer is 403 Forbidden"),
        ((302, {"Location": "/other"}, b""), "the answer is 302 Found"),
        ((204, {}, b""), "the answer is no object of JSON; is this where the API is?"),
        ((200, {}, b"<html>"), "the answer is no object of JSON; is this where the API is?"),
        ((200, {}, b"\xff\xfe"), "the answer is no object of JSON; is this where the API is?"),
        ((200, {}, b"[" * 100_000), "the answer is no object of JSON; is this where the API is?"),
        ((200, {}, [1]), "the answer is no object of JSON; is this where the API is?"),
        ((200, {}, {}), "the answer has no campaigns"),
        ((200, {}, {"campaigns": {}}), "the answer has no campaigns"),
        ((200, {"Content-Encoding": "gzip"}, b"\x1f\x8bnot"), "no answer: ContentDecodingError"),
        (LATE, "no answer within 1 seconds"),
    ],
)
def test_what_is_no_decision(server, start, heard, answer, said):
    visitor = start(timeout=1 if answer == LATE else 30).create_visitor("v")
    decided(visitor, heard)
    server.answers["campaigns"] = answer
    assert visitor.synchronize_modifications() == (False, said)
    assert heard.errors() == [f"[synchronize_modifications] {said}"]
    # What they had they keep.
    assert visitor.get_modification("color", "none") == "red"


def test_nobody_answers(start, heard):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    visitor = start(decision_api_url=f"http://127.0.0.1:{port}").create_visitor("v")
    assert visitor.synchronize_modifications() == (False, "no answer: ConnectionError")
    assert visitor.send_hit(Screen("home")) == (False, "no answer: ConnectionError")
    assert visitor.get_modification("color", "none", activate=True) == "none"
    assert heard.raised == []


def test_an_address_that_is_none(start):
    visitor = start(decision_api_url="http://[bad/").create_visitor("v")
    assert visitor.synchronize_modifications() == (False, "no answer: InvalidURL")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, {}, {}), "the answer is 404 Not Found"),
        ((301, {"Location": "/other"}, b""), "the answer is 301 Moved Permanently"),
        (LATE, "no answer within 1 seconds"),
    ],
)
def test_what_is_not_taken(server, start, heard, answer, said):
    visitor = start(timeout=1 if answer == LATE else 30).create_visitor("v")
    decided(visitor, heard)
    server.answers |= {"activate": answer, "collect": answer}
    assert visitor.activate_modification("color") == (False, said)
    assert visitor.send_hit(Screen("home")) == (False, said)
    # The value is there all the same.
    assert visitor.get_modification("color", "none", activate=True) == "red"


def test_a_campaign_of_another_form_takes_no_other_along(server, visitor):
    variation = campaign_of()["variation"]
    others = [
        *(None, 1, [], {}, campaign_of(id=1), campaign_of(variationGroupId=None)),
        *(campaign_of(variation=None), campaign_of(variation={**variation, "id": None})),
        campaign_of(variation={**variation, "modifications": None}),
        campaign_of(variation={**variation, "modifications": {"value": ["color"]}}),
    ]
    last = campaign_of(variation={"id": "va_2", "modifications": {"value": {"color": "blue"}}})
    server.answers["campaigns"] = (200, {}, answer_of(campaign_of(), *others, last))
    assert visitor.synchronize_modifications() == (True, "")
    # The last one has the last word; and what is not said to be the reference is not.
    assert visitor.get_modification("color", "none") == "blue"
    assert visitor.get_modification_info("color")["isReference"] is False
    assert visitor.get_modification("of", None) == {"a": [1]}


def test_while_panicking(server, visitor):
    visitor.synchronize_modifications()
    server.answers["campaigns"] = (200, {}, answer_of(panic=True))
    assert visitor.synchronize_modifications()[0] is False
    server.take()
    assert visitor.get_modification("color", "none", activate=True) == "none"
    assert visitor.send_hit(Screen("home"))[0] is False
    assert visitor.activate_modification("color")[0] is False
    assert server.take() == []
    server.answers["campaigns"] = (200, {}, ANSWER)
    assert visitor.synchronize_modifications() == (True, "")
    assert visitor.get_modification("color", "none") == "red"


def test_what_is_answered_late_is_not_taken_for_new(server, visitor):
    """Two threads ask; whoever asked first is answered last, and has asked for another context."""
    asked, answered = threading.Event(), threading.Event()

    def answer(sent):
        if sent[-1]["context"]["plan"] == "silver":
            value = "new"
        else:
            asked.set()
            assert answered.wait(30)
            value = "old"
        variation = {"id": "va", "modifications": {"value": {"color": value}}}
        return 200, {}, answer_of(campaign_of(variation=variation))

    server.answers["campaigns"] = answer
    first = threading.Thread(target=visitor.synchronize_modifications)
    first.start()
    assert asked.wait(30)
    assert visitor.update_context(("plan", "silver"), synchronize=True)[1] == (True, "")
    answered.set()
    first.join()
    assert visitor.get_modification("color", "none") == "new"


def test_a_cache_beside_a_server(server, start):
    """The server knows itself what visitors have had; the manager is told all the same."""
    manager = DjangoCacheManager(prefix="remote")
    manager.save("v", {"version": 1, "data": {"vId": "v", "vaIds": ["va_9"]}})
    visitor = start(visitor_cache_manager=manager).create_visitor("v")
    visitor.synchronize_modifications()
    assert visitor.get_modification_info("color")["variationId"] == "va_1"
    assert manager.lookup("v")["data"]["vaIds"] == ["va_1"]


def test_it_needs_no_apps_and_no_settings(server):
    code = f"""
import sys
from affiliations.experiments.flagship import *
Flagship.instance().start(Config("env", "key", decision_api_url="{server.url}"))
visitor = Flagship.instance().create_visitor("v")
assert visitor.synchronize_modifications() == (True, "")
assert visitor.get_modification("color", "none", activate=True) == "red"
assert visitor.send_hit(Page("https://a.example/")) == (True, "204")
assert visitor.send_hit(Page("nowhere"))[0] is False
assert "affiliations.experiments.models" not in sys.modules
"""
    environ = {
        name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"
    }
    root = Path(flagship.__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=environ, timeout=60)


# By the file

FILE = {
    "campaigns": [
        {
            "id": "camp_1",
            "variationGroups": [
                {
                    "id": "vg_1",
                    "targeting": {
                        "targetingGroups": [
                            {"targetings": [{"operator": "?", "key": "plan", "value": "gold"}]},
                            {
                                "targetings": [
                                    {"operator": "EQUALS", "key": "plan", "value": "gold"}
                                ]
                            },
                        ]
                    },
                    "variations": [
                        {"id": "va_0", "modifications": {"value": {"color": "red"}}},
                        {
                            "id": "va_1",
                            "allocation": 130,
                            "modifications": {"type": "FLAG", "value": {"color": "blue"}},
                        },
                    ],
                }
            ],
        }
    ]
}


@pytest.fixture
def clock(monkeypatch):
    """What the time is, as a test says."""
    now = [1000.0]
    monkeypatch.setattr(polling.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def by_file(server, start):
    def started(told=FILE, **options):
        server.answers["bucketing.json"] = (200, {"Last-Modified": "first"}, told)
        return start(mode=Config.Mode.BUCKETING, **options)

    return started


def color(made, visitor_id="v", **context):
    visitor = made.create_visitor(visitor_id, context={"plan": "gold", **context})
    assert visitor.synchronize_modifications() == (True, "")
    return visitor.get_modification("color", "none")


def test_the_file_is_asked_for_now_and_then(server, by_file, clock):
    made = by_file()
    [(_, method, path, headers, _)] = server.take()
    assert (method, path) == ("GET", "/flagship/env%201/bucketing.json")
    assert "if-modified-since" not in headers
    assert (color(made), color(made, plan="silver")) == ("blue", "none")
    clock[0] += 59.9
    color(made, "w")
    assert server.take("bucketing.json") == []
    clock[0] += 0.1
    server.answers["bucketing.json"] = (304, {}, b"")
    assert color(made) == "blue"
    [(*_, headers, _)] = server.take("bucketing.json")
    assert headers["if-modified-since"] == "first"
    clock[0] += 60
    server.answers["bucketing.json"] = (200, {}, {"campaigns": []})
    assert color(made) == "none"


@pytest.mark.parametrize("interval", [0, -1])
def test_without_an_interval_it_is_asked_for_once(server, by_file, clock, interval):
    made = by_file(polling_interval=interval)
    clock[0] += 10_000
    assert color(made) == "blue"
    assert len(server.take("bucketing.json")) == 1


def test_without_a_file_there_is_nothing_to_decide_by(server, by_file, heard, clock):
    made = by_file(told=b"<html>")
    visitor = made.create_visitor("v", context={"plan": "gold"})
    said = "there is no file yet to decide by"
    assert visitor.synchronize_modifications() == (False, said)
    assert heard.errors()[0].startswith("[bucketing] the answer is no object of JSON")
    server.answers["bucketing.json"] = (200, {}, FILE)
    clock[0] += 60
    assert visitor.synchronize_modifications() == (True, "")
    for answer in ((500, {}, b""), (200, {}, {}), (200, {}, b"")):
        server.answers["bucketing.json"] = answer
        clock[0] += 60
        assert color(made) == "blue"


def test_a_file_that_panics(server, by_file, clock):
    made = by_file(told={"panic": True})
    visitor = made.create_visitor("v", context={"plan": "gold"})
    assert visitor.synchronize_modifications()[0] is False
    # Where nothing was changed since it was told to panic, there was before that.
    server.answers["bucketing.json"] = lambda sent: (
        (304, {}, b"") if "if-modified-since" in sent[3] else (200, {}, FILE)
    )
    clock[0] += 60
    assert visitor.synchronize_modifications() == (True, "")
    assert visitor.get_modification("color", "none") == "blue"


def test_by_the_file_a_visitor_keeps_what_is_cached(by_file):
    manager = DjangoCacheManager(prefix="file")
    manager.save("v", {"version": 1, "data": {"vId": "v", "vaIds": ["va_0"]}})
    assert color(by_file(visitor_cache_manager=manager)) == "red"
    assert color(by_file()) == "blue"


def test_by_the_file_the_context_is_told_when_it_changes(server, by_file):
    made = by_file()
    server.take()
    for age in (30, 30, 31):
        color(made, age=age)
    sent = server.take()
    assert [(each[0], each[-1]) for each in sent] == [
        (
            "events",
            {"type": "CONTEXT", "visitorId": "v", "data": {"plan": "gold", "age": age}},
        )
        for age in (30, 31)
    ]
    server.answers["events"] = (500, {}, b"")
    assert color(made, age=32) == "blue"


@pytest.mark.parametrize(
    "other",
    [
        None,
        {},
        {"id": "c", "variationGroups": None},
        {"id": "c", "variationGroups": [{"id": "g"}]},
        {"id": "c", "variationGroups": [{**FILE["campaigns"][0]["variationGroups"][0], "id": 1}]},
        {
            "id": "c",
            "variationGroups": [
                {
                    **FILE["campaigns"][0]["variationGroups"][0],
                    "variations": [{"id": "va", "allocation": "all", "modifications": {}}],
                }
            ],
        },
    ],
)
def test_a_campaign_of_the_file_that_has_another_form(by_file, other):
    told = {"campaigns": [other, *FILE["campaigns"]]}
    assert color(by_file(told)) == "blue"


# Against our server, and by the real SDK

VISITORS = ("visitor-1", "visitor-2", "élève", "北京", "🦊", "user-🚀-1", "e\u0301", "visitor 8")
KEYS = ("color", "of", "both", "gold", "none at all", "grown")
CONTEXT = {"plan": "gold", "age": 30, "vip": True, "ratio": 1.5, "city": "Köln 🦊"}
OLD = "2.1.5"


def at(name, operator, value):
    return [[{"key": name, "operator": operator, "value": value}]]


@pytest.fixture
def env(transactional_db):
    env = Environment()
    make_event_type(env.prop, "purchase")
    make_campaign(env.prop, groups=[{"variations": [ORIGINAL, BLUE]}])
    flags = '{"of": {"a": [1, 1.5, null]}, "both": 1.0}'
    make_campaign(
        env.prop,
        groups=[
            {
                "variations": [
                    {"name": "A", "allocation": 40, "modifications": flags, "is_reference": True},
                    {"name": "B", "allocation": 40, "modifications": {"both": [1, "2"]}},
                ]
            }
        ],
    )
    whole = [{"name": "Gold", "allocation": 100, "modifications": {"gold": True}}]
    make_campaign(
        env.prop, groups=[{"variations": whole, "targeting": at("plan", "EQUALS", "gold")}]
    )
    grown = [{"name": "Grown", "allocation": 100, "modifications": {"grown": "é🦊"}}]
    targeting = at("age", "GREATER_THAN", 30)
    make_campaign(env.prop, groups=[{"variations": grown, "targeting": targeting}])
    # What is compared with the presets, which are empty.
    preset = [{"name": "Preset", "allocation": 100, "modifications": {"preset": 1}}]
    targeting = at("sdk_city", "NOT_EQUALS", "Rome")
    make_campaign(env.prop, groups=[{"variations": preset, "targeting": targeting}])
    return env


class Ours:
    """A visitor of ours, by the words in which the harness of the real SDKs speaks."""

    def __init__(self, made):
        self.made = made
        self.synchronize = made.synchronize_modifications
        self.update_context = made.update_context
        self.value = made.get_modification
        self.info = made.get_modification_info
        self.activate = made.activate_modification
        self.authenticate = made.authenticate
        self.unauthenticate = made.unauthenticate

    def ids(self):
        return self.made.visitor_id, self.made.anonymous_id

    def send_hit(self, kind, *arguments, **setters):
        if kind == "Event":
            arguments = [EventCategory[arguments[0]], *arguments[1:]]
        hit = getattr(flagship, kind)(*arguments)
        for name, value in setters.items():
            getattr(hit, name)(*value if isinstance(value, list) else [value])
        return self.made.send_hit(hit)


def ours(env, **options):
    made = Flagship()
    made.start(Config(env.id, env.key, event_handler=Heard(), timeout=30, **options))
    return lambda visitor_id, context: Ours(made.create_visitor(visitor_id, context=context))


def played(new_visitor):
    """Have visitors do all that there is, and return what they were answered."""
    answers = []

    def look(visitor):
        answers.append([visitor.value(key, f"no {key}") for key in (*KEYS, "preset")])
        answers.append([visitor.info(key) for key in (*KEYS, "preset")])
        answers.append(visitor.ids())

    for number, visitor_id in enumerate(VISITORS):
        context = CONTEXT if number % 2 else {"plan": "silver"}
        visitor = new_visitor(visitor_id, context)
        look(visitor)
        answers.append(visitor.synchronize())
        look(visitor)
        answers.append(visitor.activate("color")[0])
        answers.append(visitor.activate("none at all")[0])
        answers.append(visitor.value("both", "no both", activate=True))
        visitor.send_hit("Page", "https://shop.example.org/?utm_source=x", with_locale="fr")
        answers.append(visitor.update_context({"age": 31, "bad": None, "city": "é"}))
        answers.append(visitor.update_context(("age", 32), True))
        look(visitor)
        visitor.authenticate(f"customer-{number}", synchronize=True)
        look(visitor)
        answers.append(visitor.activate("gold")[0])
        visitor.send_hit("Screen", "home", with_session_number=number, with_resolution=[1, 2])
        visitor.send_hit(
            *("Event", "ACTION_TRACKING", "click"), with_event_label="l", with_event_value=3
        )
        visitor.send_hit(
            *("Transaction", f"T{number}", "purchase"),
            with_total_revenue=59.97,
            with_shipping_cost=5.5,
            with_shipping_method="post",
            with_taxes=3.2,
            with_currency="EUR",
            with_payment_method="card",
            with_item_count=2,
            with_coupon_code="PROMO",
        )
        visitor.send_hit(
            *("Item", f"T{number}", "Shoes", "SKU1"),
            with_price=19.99,
            with_item_quantity=2,
            with_item_category="cat",
        )
        visitor.unauthenticate(synchronize=True)
        look(visitor)
    # As they are in JSON, in which the real SDK's are told.
    return without_words(json.loads(json.dumps(answers)))


def without_words(told):
    """Return what was answered but for why something could not be, of which each has its words."""
    if isinstance(told, list):
        if len(told) == 4 and told[1] is False:
            return [told[0], False, "", told[3]]
        return [without_words(each) for each in told]
    return told


def rows(env):
    found = Hit.objects.filter(property=env.prop).select_related("identity", "event_type")
    hits = [
        (
            *(row.type, row.title, row.url, row.source, row.transaction_id, row.minor),
            *(row.currency, json.dumps(row.meta, sort_keys=True), row.identity.value),
            row.event_type and row.event_type.key,
        )
        for row in found
    ]
    assignments = [
        (row.identity.value, row.variation.uid, row.version, bool(row.exposed_on), row.is_mixed)
        for row in Assignment.objects.select_related("identity", "variation")
    ]
    return sorted(hits, key=str), sorted(assignments), people(env.prop)


def waited_for(env, expected):
    """Return the rows, once they are as expected and stay so: a server answers, and then writes."""
    ends = time.monotonic() + 30
    while rows(env) != expected and time.monotonic() < ends:
        time.sleep(0.05)
    time.sleep(0.3)
    return rows(env)


def begin_anew(env):
    for model in (Hit, HitKey, Assignment, Identity, Customer):
        model.objects.all().delete()
    Row.objects.filter(property=env.prop).update(keeps=False)
    for module in (live, exposures, segments):
        module.forget()


@pytest.mark.parametrize("other", ["remote", "sdk"])
def test_the_same_in_process_and_by_a_server(live_server, env, other):
    expected = played(ours(env))
    written = rows(env)
    kinds = [each[0] for each in written[0]]
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {
        **dict.fromkeys(("event", "item", "pageview", "screen", "transaction"), len(VISITORS)),
        # Of each context of each name; that of before comes back, and is known.
        "segment": 3 * len(VISITORS),
    }
    assert len(written[1]) > 2 * len(VISITORS)
    assert len(written[2]) == len(VISITORS)
    begin_anew(env)
    assert rows(env) == ([], [], [])
    url = f"{live_server.url}/flagship"
    if other == "remote":
        found = played(ours(env, decision_api_url=url))
    else:
        with Sdk(OLD, url, env_id=env.id, api_key=env.key) as sdk:
            found = played(lambda visitor_id, context: sdk.new_visitor(visitor_id, context=context))
            assert sdk.said().count("Traceback") == 0
    assert found == expected
    assert waited_for(env, written) == written


def test_panic_by_a_server(live_server, env):
    url = f"{live_server.url}/flagship"
    for options in ({}, {"decision_api_url": url}):
        visitor = ours(env, **options)("visitor-1", {"plan": "gold"})
        assert visitor.synchronize() == (True, "")
        publishing.set_panic(prop=env.prop, panic=True)
        assert visitor.synchronize() == (False, "nothing is decided while panic mode is enabled")
        assert visitor.value("gold", "no gold") == "no gold"
        publishing.set_panic(prop=env.prop, panic=False)
        assert visitor.synchronize() == (True, "")
        assert visitor.value("gold", "no gold") is True


def test_the_wrong_key_by_a_server(live_server, env):
    env.key = "wrong"
    visitor = ours(env, decision_api_url=f"{live_server.url}/flagship")("visitor-1", {})
    assert visitor.synchronize() == (False, "the answer is 403 Forbidden")


def test_the_same_by_the_file_of_a_server(live_server, env):
    """Shares that were moved, so that a variation stands there several times, and no exclusion."""
    campaign = make_campaign(env.prop, groups=[{"variations": [{**ORIGINAL}, {**BLUE}]}])
    for name, share in (("Original", 20), ("Blue", 30)):
        Variation.objects.filter(group__campaign=campaign, name=name).update(allocation=share)
    publishing.publish(campaign=campaign)
    Variation.objects.filter(group__campaign=campaign, name="Original").update(allocation=60)
    publishing.publish(campaign=campaign)
    options = {"decision_api_url": f"{live_server.url}/flagship", "mode": Config.Mode.BUCKETING}
    here, there = ours(env), ours(env, **options)
    found = []
    for number in range(300):
        visitor_id = f"{VISITORS[number % len(VISITORS)]}-{number}"
        context = CONTEXT if number % 2 else {}
        pair = []
        for new_visitor in (here, there):
            visitor = new_visitor(visitor_id, context)
            assert visitor.synchronize() == (True, "")
            pair.append([visitor.value(key, f"no {key}") for key in KEYS])
        assert pair[0] == pair[1]
        found.append(pair[0][0])
    assert {"red", "blue"} <= set(found)
    # What is activated by the file is known under its own id here.
    visitor = there("visitor-1", {})
    visitor.synchronize()
    assert visitor.activate("color") == (True, "204")
    ends = time.monotonic() + 30
    while not Assignment.objects.filter(identity__value="visitor-1").exists():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_exclusions_are_decided_here_and_by_a_server(live_server, env):
    group = make_exclusion(env.prop)
    for name in ("one", "two"):
        whole = [{"name": name, "allocation": 100, "modifications": {name: True}}]
        make_campaign(env.prop, exclusion=group, exclusion_share=40, groups=[{"variations": whole}])
    here = ours(env)
    there = ours(env, decision_api_url=f"{live_server.url}/flagship")
    found = []
    for number in range(40):
        pair = []
        for new_visitor in (here, there):
            visitor = new_visitor(f"🦊-{number}", {})
            visitor.synchronize()
            pair.append((visitor.value("one", False), visitor.value("two", False)))
        assert pair[0] == pair[1]
        found.append(pair[0])
    assert set(found) == {(True, False), (False, True), (False, False)}
