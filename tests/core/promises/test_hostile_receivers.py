"""Whatever a receiver does, a call to it ends in time, and takes little of this machine.

The only tests that assert how long something takes: the deadline is what they are about.
"""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from affiliations import egress, wire
from tests.core.receivers import hostile
from tests.core.receivers.hostile import head, serving
from tests.core.receivers.watch import found

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="measures in forked processes")

ROOT = Path(__file__).parents[3]
DEADLINE = 1.0
#: Seconds that a call may take beyond its deadline.
GRACE = 0.5
MAX_GROWTH = 20 * 1024 * 1024


@pytest.fixture(autouse=True)
def loopback(settings):
    settings.AFFILIATE_CALLBACK_ALLOW = ["127.0.0.1"]
    settings.AFFILIATE_EGRESS_PROXY = ""


def call_all(servers, by, deadline=DEADLINE):
    """Let each of the servers be called; return what each call took, by the server's name."""
    with contextlib.ExitStack() as stack:
        ports = {stack.enter_context(serving(serve)): name for name, serve in servers.items()}
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.core.receivers.caller",
                by,
                str(deadline),
                *map(str, ports),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.projects.base",
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    lines = map(json.loads, done.stdout.splitlines())
    return {ports[each["port"]]: each for each in lines}


def failures(results, deadline=DEADLINE):
    """Return what took too much of this machine."""
    return {
        name: each
        for name, each in results.items()
        if each["seconds"] > deadline + GRACE
        or each["body"] > egress.MAX_ANSWER
        or each["grew"] > MAX_GROWTH
    }


@pytest.mark.parametrize(
    ("servers", "deadline"),
    [
        (hostile.EIGHT, DEADLINE),
        (hostile.OTHERS, DEADLINE),
        pytest.param(hostile.EIGHT | hostile.OTHERS, 2.0, marks=pytest.mark.long),
    ],
    ids=["eight", "others", "all"],
)
def test_a_call_ends_in_time_and_takes_little(servers, deadline):
    results = call_all(servers, "egress", deadline)
    assert results.keys() == servers.keys()
    assert failures(results, deadline) == {}
    came = {name: each["came"] for name, each in results.items()}
    late = f"None No answer within {deadline:g} seconds."
    expected = {
        "drip_header": late,
        "drip_body": "200 ",
        "big_body": "200 ",
        "gzip_bomb": "200 ",
        "big_redirect": "302 ",
        "many_headers": "None The answer’s head has no end.",
        "flood_of_100": late,
        "early_close": "200 ",
        "fast_flood_of_100": "None The answer’s head has no end.",
        "flood_of_103": "None The answer’s head has no end.",
        "drip_chunks": "200 ",
        "chunk_without_end": "200 ",
        "trailer_without_end": "200 ",
        "line_without_end": "None What was answered is not HTTP.",
        "no_answer": late,
        "close_at_once": "None The connection was closed without an answer.",
        "no_http": "None What was answered is not HTTP.",
    }
    assert came == {name: expected[name] for name in servers}
    assert results.get("big_body", {}).get("body", egress.MAX_ANSWER) == egress.MAX_ANSWER


def test_teeth_requests_as_it_comes():
    assert len(failures(call_all(hostile.EIGHT, "requests"))) >= 4


def timed(url, *, body=b"", timeout=DEADLINE):
    started = time.monotonic()
    method = "POST" if body else "GET"
    answer = egress.send(method, url, headers={}, body=body, timeout=timeout)
    return answer, time.monotonic() - started


def test_who_never_reads_is_left_in_time():
    with serving(hostile.no_answer, read=False) as port:
        answer, seconds = timed(f"http://127.0.0.1:{port}/", body=bytes(50_000_000))
    assert answer.error == "No answer within 1 seconds."
    assert seconds <= DEADLINE + GRACE


def test_a_name_server_that_hangs_is_left_in_time(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: time.sleep(2.5))
    answer, seconds = timed("http://partner.example/")
    assert answer.error == "No answer within 1 seconds."
    assert seconds <= DEADLINE + GRACE


def test_many_addresses_that_swallow_everything_share_one_deadline(monkeypatch):
    # A queue that is full lets nobody in, and says nothing about it.
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        time.sleep(0.1)
        monkeypatch.setattr(
            egress, "_look_up", lambda *args: [egress.addresses.literal("127.0.0.1")] * 5
        )
        answer, seconds = timed(f"http://partner.example:{port}/")
    assert answer.error == "No answer within 1 seconds."
    assert seconds <= DEADLINE + GRACE


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for partner.example, and its key, as paths."""
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificate with openssl")
    place = tmp_path_factory.mktemp("tls")
    paths = place / "certificate.pem", place / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=partner.example", "-addext", "subjectAltName=DNS:partner.example"),
            *("-out", paths[0], "-keyout", paths[1]),
        ],
        check=True,
        capture_output=True,
    )
    return paths


@pytest.fixture
def server_context(certificate, monkeypatch):
    """TLS of a server called partner.example, that calls trust; keeps the names it is called by."""
    trusting = ssl.create_default_context(cafile=certificate[0])
    monkeypatch.setattr(wire, "context", lambda: trusting)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: found("127.0.0.1"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.names = []
    context.sni_callback = lambda sock, name, context: context.names.append(name)
    return context


def answer_ok(sock):
    sock.sendall(head("Content-Length: 2") + b"ok")


def test_the_name_is_asked_for_and_proved_though_the_address_is_dialled(server_context):
    with serving(answer_ok, context=server_context) as port:
        right, _ = timed(f"https://partner.example:{port}/", timeout=5)
        big, _ = timed(f"https://partner.example:{port}/", body=bytes(100_000), timeout=5)
        wrong, _ = timed(f"https://other.example:{port}/", timeout=5)
        by_address, _ = timed(f"https://127.0.0.1:{port}/", timeout=5)
    assert (right.status, right.body) == (big.status, big.body) == (200, b"ok")
    assert wrong.status is by_address.status is None
    assert wrong.error.startswith("The certificate is not valid: Hostname mismatch")
    assert by_address.error.startswith("The certificate is not valid: IP address mismatch")
    assert not wrong.refused
    assert server_context.names == ["partner.example", "partner.example", "other.example", None]


def test_a_certificate_that_nobody_vouches_for_is_refused(server_context, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: found("127.0.0.1"))
    with serving(answer_ok, context=server_context) as port:
        answer, _ = timed(f"https://partner.example:{port}/", timeout=5)
    assert answer.error == "The certificate is not valid: self-signed certificate."


@pytest.mark.parametrize(
    ("serve", "error"),
    [
        (hostile.no_answer, "No answer within 1 seconds."),
        (lambda sock: hostile.drip(sock, bytes(100)), "No "),
        (hostile.close_at_once, ("No encrypted connection", "The connection was cut")),
        (hostile.no_http, "No encrypted connection came about"),
    ],
    ids=["silence", "drip", "close", "mail"],
)
def test_a_handshake_that_does_not_end_is_left_in_time(server_context, serve, error):
    with serving(serve, read=False) as port:
        answer, seconds = timed(f"https://partner.example:{port}/")
    assert answer.status is None
    assert answer.error.startswith(error)
    assert seconds <= DEADLINE + GRACE


def test_drips_within_tls_are_left_in_time(server_context):
    with serving(hostile.drip_header, context=server_context) as port:
        answer, seconds = timed(f"https://partner.example:{port}/")
    assert answer.error == "No answer within 1 seconds."
    assert seconds <= DEADLINE + GRACE


def test_tickets_instead_of_data_are_not_read_for_ever(server_context):
    server_context.num_tickets = 5000
    with serving(answer_ok, context=server_context) as port:
        answer, seconds = timed(f"https://partner.example:{port}/")
    assert answer.error == "The answer’s head has no end."
    assert seconds <= DEADLINE + GRACE
