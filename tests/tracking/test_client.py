"""The client, against a server that answers what a test says, on a real socket."""

import json
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from affiliations.tracking import client as module
from affiliations.tracking.client import Client, ClientError, RefusedByServer, Unreachable

SECRET = "s3cr3t-of-the-property"
ANNA = {"customer": {"client_id": "42", "conversions": 1}}


class Server(ThreadingHTTPServer):
    """Answers one of `answers` after the other, the last one for ever, and keeps what it was sent.

    An answer is a status with headers and a body, "hang up", "say half", or seconds to be late by.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = [(200, {}, ANNA)]
        self.sent = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/attribution/"


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.sent.append((self.command, self.path, dict(self.headers), body))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer == "hang up":
            return
        if isinstance(answer, float):
            time.sleep(answer)
            answer = (200, {}, ANNA)
        if answer == "say half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"{")
            return
        status, headers, told = answer
        raw = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = answer  # noqa: N815 - as the standard library calls them

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def paused(monkeypatch):
    """How long the client has paused, without that it takes as long."""
    taken = []
    monkeypatch.setattr(module.time, "sleep", taken.append)
    return taken


@pytest.fixture
def client(server):
    return Client("KEY", SECRET, base_url=server.url)


FETCHES = {
    "base": "",
    "pageviews": "?show_pageviews=true",
    "touchpoints": "?show_touchpoints=true",
    "events": "?show_events=true",
    "identities": "?show_identities=true",
    "full": "?show_all=true",
}


@pytest.mark.parametrize(("what", "query"), FETCHES.items())
def test_a_customer_is_fetched(server, client, what, query):
    assert getattr(client, f"fetch_customer_info_{what}")(42) == ANNA["customer"]
    [(method, path, headers, _)] = server.sent
    assert (method, path) == ("GET", f"/attribution/api/v1/KEY/customers/42{query}")
    assert headers["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("client_id", "segment"),
    [
        ("a+b@example.com", "a%2Bb%40example.com"),
        ("Zoë", "Zo%C3%AB"),
        ("a/b?c é#d", "a%2Fb%3Fc%20%C3%A9%23d"),
        ("%2F", "%252F"),
        ("x" * 300, "x" * 300),
    ],
)
def test_an_id_is_one_segment_whatever_is_in_it(server, client, client_id, segment):
    client.fetch_customer_info_base(client_id)
    assert server.sent[0][1] == f"/attribution/api/v1/KEY/customers/{segment}"


@pytest.mark.parametrize("client_id", ["", ".", ".."])
def test_what_no_address_can_hold(server, client, client_id):
    with pytest.raises(ValueError, match=r"^client_id: "):
        client.fetch_customer_info_base(client_id)
    assert server.sent == []


def test_nobody_is_none(server, client):
    server.answers = [(404, {}, {"error": "nobody"})]
    assert client.fetch_customer_info_full("42") is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {}, {"error": "secret"}), r"401, the public key or the secret is wrong \(secret\)"),
        ((403, {}, b""), "403, the account is disabled"),
        ((400, {}, {"detail": "x" * 999}), r"400, Bad Request \(x{200}\)$"),
        ((500, {}, b"<h1>"), "500, Internal Server Error"),
        ((302, {"Location": "https://evil.example/"}, b""), "302, Found"),
        ((200, {}, b"<html>"), "no customer; is this where the API is"),
        ((200, {}, []), "no customer"),
        ((200, {}, {"customer": 1}), "no customer"),
        ((200, {}, {}), "no customer"),
        ((200, {}, b"\xff"), "no customer"),
    ],
)
def test_what_is_wrong_is_said(server, client, answer, words):
    server.answers = [answer]
    with pytest.raises(RefusedByServer, match=words) as caught:
        client.fetch_customer_info_base("42")
    assert caught.value.status == answer[0]
    assert isinstance(caught.value, ClientError)
    assert len(server.sent) == 1


def test_an_identity(server, client):
    server.answers = [(201, {}, {})]
    before = int(time.time())
    assert client.trigger_identity("C-1", "42", "Firefox") == 201
    [(method, path, headers, body)] = server.sent
    assert (method, path) == ("POST", "/attribution/identities")
    assert headers["Content-Type"] == "application/json"
    assert SECRET not in f"{headers}{body}"
    told = json.loads(body)["identity"]
    assert before <= told.pop("created_at") <= time.time()
    assert told == {
        "aliases": ["C-1"],
        "client_id": "42",
        "public_key": "KEY",
        "meta": {"agent": "Firefox"},
    }


def test_an_event_and_whose_it_was(server, client):
    server.answers = [(201, {}, {}), (200, {}, {})]
    told = client.trigger_event("C-1", "EV", 42, "Firefox", "https://shop.example/")
    assert told == (201, 200)
    [(_, first, _, event), (_, second, _, identity)] = server.sent
    assert (first, second) == ("/attribution/events", "/attribution/identities")
    event = json.loads(event)["event"]
    assert re.fullmatch(r"42@\d{10}\.[a-z0-9]{8}", event["transaction_id"])
    for name in ("transaction_id", "created_at"):
        del event[name]
    assert event == {
        "aliases": ["C-1"],
        "client_id": 42,
        "event_public_key": "EV",
        "url": "https://shop.example/",
        "public_key": "KEY",
        "is_informational": False,
        "meta": {"agent": "Firefox"},
    }
    assert json.loads(identity)["identity"]["client_id"] == 42


def test_what_is_left_out(server, client):
    client.trigger_event("C-1", "EV")
    client.trigger_event("C-1", "EV", transaction_id="order-7")
    event, identity, other, _ = (json.loads(each[3]) for each in server.sent)
    event, identity, other = event["event"], identity["identity"], other["event"]
    assert re.fullmatch("[a-z0-9]{24}", event["client_id"])
    # Both are one person's, so that one customer comes of it.
    assert identity["client_id"] == event["client_id"] != other["client_id"]
    assert (event["url"], event["meta"]["agent"]) == ("URL unknown", "User-Agent unknown")
    assert other["transaction_id"] == "order-7"


@pytest.mark.parametrize("first", ["hang up", "say half", (503, {}, b""), (429, {}, b"")])
@pytest.mark.parametrize("post", [False, True])
def test_what_has_failed_on_the_way_is_tried_again(server, client, paused, first, post):
    server.answers = [first, first, (200, {}, ANNA)]
    if post:
        assert client.trigger_identity("C-1", "42") == 200
    else:
        assert client.fetch_customer_info_base("42") == ANNA["customer"]
    assert len({each[3] for each in server.sent}) == 1, "each time the same bytes"
    assert len(server.sent) == 3
    assert 0.25 <= paused[0] <= 0.5 <= paused[1] <= 1


def test_but_not_without_end(server, client, paused):
    server.answers = ["hang up"]
    with pytest.raises(Unreachable, match=r"/identities: no connection, tried 4 times$"):
        client.trigger_identity("C-1", "42")
    assert (len(server.sent), len(paused)) == (4, 3)
    server.answers = [(503, {}, b"")]
    assert client.trigger_identity("C-1", "42") == 503
    with pytest.raises(RefusedByServer, match="503"):
        client.fetch_customer_info_base("42")


@pytest.mark.parametrize(
    ("asked", "paused_for"), [("7", 7), ("0", 0), ("86400", 30), ("9" * 5000, None), ("-1", None)]
)
def test_a_server_may_ask_for_a_pause(server, client, paused, asked, paused_for):
    server.answers = [(429, {"Retry-After": asked}, b""), (200, {}, ANNA)]
    client.fetch_customer_info_base("42")
    assert paused == [paused_for] if paused_for is not None else paused[0] <= 0.5


def test_whoever_does_not_answer_in_time(server):
    server.answers = [1.5]
    client = Client("KEY", SECRET, base_url=server.url, timeout=0.1, tries=1)
    with pytest.raises(Unreachable, match="no answer in time, tried 1 times") as caught:
        client.fetch_customer_info_base("42")
    assert caught.value.__cause__ is None


def test_the_vendors_own_servers_are_asked_as_before(server, monkeypatch):
    monkeypatch.setattr(module, "PRIVATE_URL", server.url)
    monkeypatch.setattr(module, "PUBLIC_URL", f"{server.url}public/")
    client = module.PyttributionIo(api_key="KEY", api_secret=SECRET)
    client.fetch_customer_info_full("42")
    client.trigger_identity("C-1")
    assert [each[1] for each in server.sent] == [
        f"/attribution/api/v1/KEY/customers/42?show_all=true&secret={SECRET}",
        "/attribution/public/identities",
    ]


def test_nothing_tells_the_secret(monkeypatch):
    monkeypatch.setattr(module, "PRIVATE_URL", "http://127.0.0.1:9/")
    client = Client("KEY", SECRET, tries=1)
    with pytest.raises(Unreachable) as caught:
        client.fetch_customer_info_full("42")
    error = caught.value
    assert SECRET not in f"{error!r} {error.__cause__!r} {client!r}"
    assert error.__suppress_context__


@pytest.mark.parametrize(
    ("options", "field"), [({"base_url": "shop.example"}, "base_url"), ({"tries": 0}, "tries")]
)
def test_what_it_cannot_be_made_with(options, field):
    with pytest.raises(ValueError, match=f"^{field}: "):
        Client("KEY", SECRET, **options)


def test_it_needs_no_django():
    code = "import sys; import affiliations.tracking.client; print('django' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
