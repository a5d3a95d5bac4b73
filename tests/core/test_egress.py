"""Outgoing calls: what is refused and why, what staff is told, and what comes back."""

import base64
import ipaddress
import os
import socket
import subprocess
import sys
import threading
from unittest import mock

import pytest

from affiliations import addresses, callbackurl, egress, faults
from affiliations.exceptions import AffiliationsError, RefusedDestination
from affiliations.testing import callback_server
from tests.core.receivers import hostile
from tests.core.receivers.hostile import head, serving
from tests.core.receivers.watch import found, no_connections


@pytest.fixture(autouse=True)
def bare(settings):
    settings.AFFILIATE_CALLBACK_ALLOW = ()
    settings.AFFILIATE_EGRESS_PROXY = ""
    settings.AFFILIATE_EGRESS_PROXY_PASSWORD = ""
    settings.ALLOWED_HOSTS = ["shop.example", ".shops.example", "[2a00::1]", "*"]


@pytest.fixture
def loopback(settings):
    settings.AFFILIATE_CALLBACK_ALLOW = ["127.0.0.1"]


def say(monkeypatch, *addresses):
    """Let DNS say that every name has these addresses; return the names it is asked for."""
    asked = []

    def getaddrinfo(name, port, *args, **more):
        asked.append(name)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found(*addresses, port=port)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def get(url, timeout=5, **more):
    return egress.send("GET", url, headers={}, body=b"", timeout=timeout, **more)


def answering(*parts):
    """Serve the same bytes to everybody."""

    def serve(sock):
        for part in parts:
            sock.sendall(part)

    return serving(serve)


# What is refused.


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1/", "The address 127.0.0.1 is this machine itself."),
        ("http://[::ffff:10.0.0.1]/", "belongs to a private network"),
        ("http://0x7f.1/", "0x7f.1 is an unusual way to write the address 127.0.0.1"),
        ("http://010.8.8.8/", "an unusual way to write the address 8.8.8.8"),
        ("http://8.8.8.8./", "an unusual way to write the address 8.8.8.8"),
        ("http://1.2.3.08/", "1.2.3.08 is neither a name nor an address."),
        ("http://partner.0x1g/", None),
        ("http://localhost/", "localhost is the machine of this site itself."),
        ("http://x.LOCALHOST./", "x.localhost is the machine of this site itself."),
        ("http://shop.example/", "shop.example is a host of this site itself"),
        ("http://shop.example./", "shop.example is a host of this site itself"),
        ("https://shops.example/", "shops.example is a host of this site itself"),
        ("https://a.Shops.example/", "a.shops.example is a host of this site itself"),
        ("https://[2A00:0::1]/", "[2a00::1] is a host of this site itself"),
        ("https://myshop.example/", None),
        ("https://partner.example/", None),
        ("https://partner.example:443/{sub1}?v={visitor_id}", None),
        ("http://partner.example:443/", None),
        ("http://partner.example:22/", "on the port 22; only 80 and 443 are open"),
        ("http://partner.example:0/", "The port 0"),
        ("http://partner.example:65536/", "host or port is malformed"),
        ("http://user@partner.example/", "user name or password"),
        ("ftp://partner.example/", "does not start with http:// or https://"),
        ("http:///x", "is not the name of a host"),
        ("http://partner_1.example/", None),
        ("http://a b/", "a blank or an invisible character"),
        ("http://bücher.example/", None),
        ("http://１２７.1/", "unusual way to write the address 127.0.0.1"),
        ("http://a..b/", "is not the name of a host"),
        ("http://ü..b/", "is not the name of a host"),
        (f"http://{'a' * 64}/", "is not the name of a host"),
        ("http://8.8.8.8/", None),
        ("http://[2606:4700::1111]/", None),
    ],
)
def test_what_can_be_known_when_it_is_saved(url, words):
    if words is None:
        egress.check(url)
        return
    with pytest.raises(RefusedDestination) as refused:
        egress.check(url)
    assert words in str(refused.value)
    answer = get(url.partition("{")[0])
    assert answer == egress.Answer(None, str(refused.value), refused=True)


def test_a_refusal_is_an_error_of_the_suite_and_of_values():
    assert issubclass(RefusedDestination, AffiliationsError)
    assert issubclass(RefusedDestination, ValueError)
    assert RefusedDestination.code == "refused_destination"


def test_a_url_that_is_not_in_normal_form_is_not_sent():
    answer = get("http://bücher.example/")
    assert answer.refused
    assert "normal form" in answer.error


def test_a_check_looks_names_up_only_when_asked_to(monkeypatch):
    asked = say(monkeypatch, "10.0.0.1")
    egress.check("https://partner.example/")
    assert asked == []
    words = "partner.example has the address 10.0.0.1, which belongs to a private network"
    with pytest.raises(RefusedDestination, match=words):
        egress.check("https://partner.example/", resolve=True)
    egress.check("https://8.8.8.8/", resolve=True)
    assert asked == ["partner.example"]
    say(monkeypatch)
    egress.check("https://partner.example/", resolve=True)


def test_a_check_waits_for_names_only_so_long(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: never.wait(5))
    egress.check("https://partner.example/", resolve=True, timeout=0.1)
    never.set()


def test_with_a_proxy_no_name_is_looked_up_for_a_check(monkeypatch, settings):
    settings.AFFILIATE_EGRESS_PROXY = "http://127.0.0.1:9"
    asked = say(monkeypatch, "10.0.0.1")
    egress.check("https://partner.example/", resolve=True)
    assert asked == []


@pytest.mark.parametrize(
    ("entries", "url", "addresses", "dialled"),
    [
        (["partner.example"], "http://partner.example:6379/", ["10.0.0.1"], "10.0.0.1"),
        (["PARTNER.example."], "http://partner.example/", ["::1"], "::1"),
        (["partner.example"], "http://other.example/", ["10.0.0.1"], None),
        (["partner.example:81"], "http://partner.example:81/", ["10.0.0.1"], "10.0.0.1"),
        (["partner.example:81"], "http://partner.example/", ["10.0.0.1"], None),
        (["partner.example:81"], "http://partner.example/", ["8.8.8.8"], "8.8.8.8"),
        (["10.0.0.0/8"], "http://partner.example/", ["10.0.0.1"], "10.0.0.1"),
        (["10.0.0.0/8"], "http://partner.example:6379/", ["10.0.0.1"], "10.0.0.1"),
        (["10.0.0.0/8"], "http://partner.example:6379/", ["8.8.8.8"], None),
        (["10.0.0.0/8"], "http://partner.example/", ["10.0.0.1", "192.168.0.1"], None),
        (["10.0.0.0/8"], "http://10.9.9.9/", [], "10.9.9.9"),
        (["10.0.0.0/8"], "http://shop.example/", ["10.0.0.1"], "10.0.0.1"),
        (["10.0.0.0/8"], "http://shop.example/", ["8.8.8.8"], None),
        (["shop.example"], "http://shop.example/", ["8.8.8.8"], "8.8.8.8"),
        (["127.0.0.1:81"], "http://127.0.0.1:81/", [], "127.0.0.1"),
        (["127.0.0.1:81"], "http://127.0.0.1/", [], None),
        (["::1"], "http://[::1]:8000/", [], "::1"),
        (["localhost"], "http://localhost:8000/", ["127.0.0.1"], "127.0.0.1"),
        (["127.0.0.0/8"], "http://localhost/", ["::1"], None),
        (["[", "", 5, None, "partner.example"], "http://partner.example/", ["::1"], "::1"),
    ],
)
def test_what_is_allowed_all_the_same(monkeypatch, settings, entries, url, addresses, dialled):
    settings.AFFILIATE_CALLBACK_ALLOW = entries
    say(monkeypatch, *addresses)
    with no_connections() as seen:
        answer = get(url)
    assert seen == ([dialled] if dialled else [])
    assert answer.refused == (dialled is None)


def test_our_own_public_address_is_no_partner(monkeypatch):
    # As on a machine that has such an address: the rules find nothing special in it.
    monkeypatch.setattr(egress.addresses, "why_not_public", lambda address: "")
    with callback_server() as server, mock.patch.object(egress, "allowed", return_value=()):
        monkeypatch.setitem(egress.PORTS, "http", int(server.url.rpartition(":")[2]))
        answer = get(server.url)
        assert answer.refused
        assert "127.0.0.1, which is the machine of this site itself" in answer.error
        assert server.received == []


def test_who_answers_in_place_of_an_address_is_found_out(monkeypatch, loopback):
    with callback_server() as server:
        port = int(server.url.rpartition(":")[2])

        def elsewhere(tried, *args):
            return socket.create_connection(("127.0.0.1", port)), ipaddress.ip_address("127.0.0.2")

        monkeypatch.setattr(egress, "_dial", elsewhere)
        answer = get(server.url)
        assert answer.refused
        assert answer.error == "127.0.0.1 was called at 127.0.0.2, but 127.0.0.1 took it."
        assert server.received == []


# What is sent, and what comes back.


def test_the_request_line_is_what_was_signed(loopback):
    values = {"sub1": "a/b ü%&=#", "visitor_id": ".."}
    template = "/p/{visitor_id}/{sub1}//x;y=1?q={sub1}&e=%c3%bc&r={amount}#{sub1}"
    with callback_server() as server:
        url = callbackurl.render(server.url + template, values)
        assert get(url).status == 200
    assert [call.target for call in server.received] == [callbackurl.request_target(url)]


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"X": "a\r\nY: b"}),
        ("GET", {"X": "a\nb"}),
        ("GET", {"X\r\nY": "b"}),
        ("GET", {"X:": "b"}),
        ("GET", {"": "b"}),
        ("GET", {"X": "€"}),
        ("GET", {"host": "b"}),
        ("GET", {"Content-Length": "0"}),
        ("GET", {"Transfer-Encoding": "chunked"}),
        ("GET /x", {}),
        ("", {}),
    ],
)
def test_what_is_no_method_or_header_is_the_callers_mistake(method, headers):
    with no_connections() as dialled, pytest.raises(ValueError, match="not a"):
        egress.send(method, "http://8.8.8.8/", headers=headers, body=b"")
    assert dialled == []


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ([head("Content-Length: 2"), b"ok"], (200, "", "", b"ok")),
        ([head("Content-Length: 0", status="204 No")], (204, "", "", b"")),
        ([head("Retry-After: 120", status="429 Slow down"), b"x"], (429, "", "120", b"x")),
        (
            [head("Transfer-Encoding: chunked"), b"2\r\nok\r\n1\r\n!\r\n0\r\n\r\n"],
            (200, "", "", b"ok!"),
        ),
        ([head("Transfer-Encoding: chunked"), b"x\r\nok"], (200, "", "", b"", False)),
        ([head("Content-Length: 9"), b"ok"], (200, "", "", b"ok", False)),
        ([head(status="100 Continue"), head(), b"ok"], (200, "", "", b"ok")),
        (
            [head(status="103 Early Hints") * 5, head("Content-Length: 2"), b"ok"],
            (200, "", "", b"ok"),
        ),
        ([b"HTTP/1.0 200 OK\r\n\r\nok"], (200, "", "", b"ok")),
        ([b"HTTP/1.1 200\n\nok"], (200, "", "", b"ok")),
        ([head("Location: http://10.0.0.1/", status="302 Found")], (302, "", "", b"")),
        ([head("Retry-After: " + "9" * 200)], (200, "", "9" * 100, b"")),
        ([b"HTTP/1.1 20 OK\r\n\r\n"], (None, "What was answered is not HTTP.", "", b"")),
        ([b"<html>"], (None, "What was answered is not HTTP.", "", b"")),
        ([b"\0" * 70_000], (None, "What was answered is not HTTP.", "", b"")),
        ([head(*["X: y"] * 150)], (None, "What was answered is not HTTP.", "", b"")),
        ([], (None, "The connection was closed without an answer.", "", b"")),
    ],
)
def test_what_is_made_of_an_answer(loopback, parts, answer):
    with answering(*parts) as port:
        assert get(f"http://127.0.0.1:{port}/") == egress.Answer(*answer)


def test_of_a_long_answer_only_the_beginning_is_taken(loopback):
    with answering(head(), b"x" * 100_000) as port:
        answer = get(f"http://127.0.0.1:{port}/")
    assert answer.body == b"x" * egress.MAX_ANSWER


def test_who_answers_before_all_is_sent_is_heard(loopback):
    def serve(sock):
        sock.recv(10)
        sock.sendall(head("Connection: close", status="413 Too large"))
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    with serving(serve, read=False) as port:
        url = f"http://127.0.0.1:{port}/"
        answer = egress.send("POST", url, headers={}, body=bytes(5_000_000), timeout=5)
    assert answer.status == 413


def test_staff_is_told_in_words(monkeypatch, loopback):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert get(f"http://127.0.0.1:{port}/").error == "The connection was refused."
    say(monkeypatch)
    assert get("http://partner.example/").error == "The host’s name does not exist."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "x"), "The host’s name could not be looked up."),
        (UnicodeError("label"), "The host’s name does not exist."),
        (OSError(101, "Network is unreachable"), "The host cannot be reached."),
        (OSError(5, "Input/output error"), "The connection failed: Input/output error."),
        (OSError("x"), "The connection failed: unknown reason."),
        (TimeoutError(), "No answer within 5 seconds."),
    ],
)
def test_a_name_or_a_network_that_fails_is_told_in_words(monkeypatch, error, words):
    def getaddrinfo(*args, **more):
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert get("http://partner.example/?secret=1") == egress.Answer(None, words)


def test_no_thread_to_look_a_name_up_is_an_answer_too(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert get("http://partner.example/").error == "The host’s name could not be looked up."


def test_the_next_address_is_tried(monkeypatch, settings):
    settings.AFFILIATE_CALLBACK_ALLOW = ["partner.example"]
    with callback_server() as server:
        port = server.url.rpartition(":")[2]
        asked = say(monkeypatch, "127.0.0.9", "127.0.0.9", "127.0.0.1")
        assert get(f"http://partner.example:{port}/").status == 200
        assert asked == ["partner.example"]
        assert server.received[0].headers["host"] == f"partner.example:{port}"


def test_a_name_without_addresses_is_no_error(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: [])
    assert get("http://partner.example/").error == "The host’s name does not exist."


def test_there_may_be_no_time_at_all(loopback):
    assert get("http://127.0.0.1:9/", timeout=0).error == "No answer within 0 seconds."


# Points at which tests let a worker die.


@pytest.mark.parametrize("point", ["connected", "half-sent", "sent"])
def test_a_worker_dies_where_it_is_told_to(loopback, monkeypatch, point):
    class Died(Exception):
        pass

    def reach(reached):
        if reached == faults.POINT:
            raise Died

    monkeypatch.setattr(faults, "reach", reach)
    monkeypatch.setattr(faults, "POINT", point)
    got, done = [], threading.Event()

    def serve(sock):
        while data := sock.recv(65536):
            got.append(data)
        done.set()

    with serving(serve, read=False) as port:
        with pytest.raises(Died):
            egress.send("POST", f"http://127.0.0.1:{port}/", headers={}, body=b"x" * 1000)
        assert done.wait(5)
    expected = {"connected": 0, "half-sent": 0.5, "sent": 1}[point]
    assert len(b"".join(got)) == pytest.approx(expected * 1130, abs=20)


def test_the_rest_is_sent_where_nobody_dies(loopback, monkeypatch):
    monkeypatch.setattr(faults, "POINT", "half-sent")
    monkeypatch.setattr(faults, "reach", lambda point: None)
    with callback_server() as server:
        egress.send("POST", server.url, headers={}, body=b"x" * 1000)
    assert server.received[0].body == b"x" * 1000


# Processes.

FORKED = """
import os, sys, django
django.setup()
from affiliations import egress, wire
call = lambda: egress.send("GET", sys.argv[1], headers={}, body=b"", timeout=5).status
before, rules = call(), wire.context()
child = os.fork()
if child == 0:
    os._exit(0 if call() == 200 and wire.context() is not rules else 1)
assert before == 200 and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert call() == 200 and wire.context() is rules
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
def test_a_forked_worker_makes_calls_too():
    with callback_server() as server:
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.projects.base"}
        subprocess.run(
            [sys.executable, "-c", FORKED, server.url], env=environment, check=True, timeout=60
        )
        assert len(server.received) == 3


def test_calls_side_by_side_do_not_disturb_each_other(loopback):
    def serve(sock):
        sock.sendall(head() + hostile.read_request(sock).split()[1])

    with serving(serve, read=False) as port:
        answers = {}

        def call(number):
            answers[number] = get(f"http://127.0.0.1:{port}/{number}").body

        threads = [threading.Thread(target=call, args=[number]) for number in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: f"/{number}".encode() for number in range(64)}


@pytest.mark.parametrize(
    ("url", "password", "host", "pair"),
    [
        ("http://proxy.example:3128", "", "proxy.example", None),
        ("http://a@10.0.0.1:3128/", "b", "10.0.0.1", "a:b"),
        ("http://a%40x@[::1]:3128", "b:%40ü", "::1", "a@x:b:%40ü"),
        ("http://a@[::1]:3128", "", "::1", "a:"),
        ("http://[::1]:3128", "b", "::1", ":b"),
    ],
)
def test_a_proxy_is_read_and_shows_no_password(url, password, host, pair):
    proxy = addresses.parse_proxy(url, password)
    assert (proxy.host, proxy.port) == (host, 3128)
    assert repr(proxy) == f"<proxy {host}:3128>"
    sent = proxy.headers.removeprefix("Proxy-Authorization: Basic ").removesuffix("\r\n")
    assert sent == (base64.b64encode(pair.encode()).decode() if pair is not None else "")


@pytest.mark.parametrize("url", ["http://a:sesame@10.0.0.1:3128", "http://:sesame@10.0.0.1:3128"])
def test_the_url_of_a_proxy_is_no_place_for_its_password(url):
    with pytest.raises(ValueError, match="AFFILIATE_EGRESS_PROXY_PASSWORD") as refused:
        addresses.parse_proxy(url)
    assert "sesame" not in str(refused.value)
