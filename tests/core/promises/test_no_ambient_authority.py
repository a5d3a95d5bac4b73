"""A call carries what it was given, and goes where it was sent: nothing of the surroundings."""

import base64
import contextlib
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager

import pytest
import requests

from affiliations import egress
from tests.core.receivers.hostile import head, read_request, serving

CODES = (301, 302, 303, 307, 308)
LOGIN, PASSWORD = "somebody", "opensesame"


@pytest.fixture(autouse=True)
def loopback(settings):
    settings.AFFILIATE_CALLBACK_ALLOW = ["127.0.0.0/8"]
    settings.AFFILIATE_EGRESS_PROXY = ""


def targets(port):
    """Return ten places that a redirect may point at; each of them would be answered."""
    return [
        f"http://127.0.0.1:{port}/elsewhere",
        f"//127.0.0.1:{port}/elsewhere",
        f"http://localhost:{port}/elsewhere",
        f"http://user:password@127.0.0.1:{port}/elsewhere",
        f"HTTP://127.0.0.1:{port}",
        "/elsewhere",
        "elsewhere",
        "?elsewhere",
        "../elsewhere",
        "/elsewhere#fragment",
    ]


class Server:
    """Answer with what is told, and keep each request."""

    def __init__(self):
        self.requests = []
        self.answers = []
        self.read = read_request

    def __call__(self, sock):
        self.requests.append(self.read(sock))
        sock.sendall(self.answers.pop(0) if self.answers else head("Connection: close"))


@contextmanager
def kept():
    server = Server()
    with serving(server, read=False) as port:
        yield server, port


@pytest.fixture
def surroundings(monkeypatch, tmp_path):
    """Set up what a machine may have lying about; return the server that its proxies lead to."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"default login {LOGIN} password {PASSWORD}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with kept() as (proxy, port):

        def through_a_proxy():
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
                monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{port}")

        yield proxy, through_a_proxy


def guarded(url):
    return egress.send("GET", url, headers={"X-Given": "1"}, body=b"", timeout=5).status


def trusting(url):
    """Call as `requests` does by itself."""
    with requests.Session() as session:
        assert session.trust_env
        return session.get(url, headers={"X-Given": "1"}, timeout=5).status_code


def carried(call, surroundings):
    """Make calls that are redirected, then calls beside a proxy; return what came of them."""
    proxy, through_a_proxy = surroundings
    seen = {"calls": 0, "followed": 0, "credentials": 0, "proxied": 0, "cookies": 0}
    with kept() as (server, port), kept() as (elsewhere, other):
        for code in CODES:
            for target in targets(other):
                server.requests.clear()
                lines = f"Location: {target}", "Set-Cookie: a=b; Path=/", "Connection: close"
                server.answers = [head(*lines, status=f"{code} Moved")]
                call(f"http://127.0.0.1:{port}/first?v=1")
                seen["calls"] += 1
                seen["followed"] += len(server.requests) - 1 + len(elsewhere.requests)
                sent = b"".join(server.requests + elsewhere.requests).lower()
                seen["credentials"] += b"authorization" in sent
                seen["cookies"] += b"cookie" in sent
                elsewhere.requests.clear()
        through_a_proxy()
        # Of the second, a proxy hears only that it is to connect; nobody listens there.
        for url in (f"http://127.0.0.1:{port}/", "https://127.0.0.1:9/"):
            with contextlib.suppress(requests.RequestException):
                call(url)
            seen["calls"] += 1
    seen["proxied"] = len(proxy.requests)
    return seen


def test_nothing_is_followed_handed_over_or_led_astray(surroundings):
    assert carried(guarded, surroundings) == {
        "calls": 52,
        "followed": 0,
        "credentials": 0,
        "proxied": 0,
        "cookies": 0,
    }


def test_teeth_a_session_that_trusts_its_environment(surroundings):
    seen = carried(trusting, surroundings)
    assert seen["followed"] >= 40
    assert seen["credentials"] == 50
    assert seen["proxied"] == 2
    assert seen["cookies"] > 0


def test_a_request_is_exactly_what_it_should_be(surroundings):
    with kept() as (server, port):
        headers = {"User-Agent": "x/1", "webhook-id": "msg_1"}
        egress.send("GET", f"http://127.0.0.1:{port}/a%20b?v=%C3%BC#f", headers=headers, body=b"")
        egress.send("POST", f"http://127.0.0.1:{port}", headers={}, body="ü".encode())
    common = (
        f"Host: 127.0.0.1:{port}\r\n"
        "Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n"
    )
    get, post = (each.decode() for each in server.requests)
    assert get == (
        f"GET /a%20b?v=%C3%BC HTTP/1.1\r\n{common}User-Agent: x/1\r\nwebhook-id: msg_1\r\n\r\n"
    )
    assert post == f"POST / HTTP/1.1\r\n{common}Content-Length: 2\r\n\r\nü"


# The one proxy there is: that of the setting.


class Proxy(Server):
    """A proxy that takes everything to one port of loopback, for those who know the password."""

    def __init__(self, port):
        super().__init__()
        self.port = port

    def __call__(self, sock):
        request = read_request(sock)
        self.requests.append(request)
        pair = base64.b64encode(f"{LOGIN}:{PASSWORD}/@".encode())
        if b"Proxy-Authorization: Basic " + pair not in request:
            sock.sendall(head("Content-Length: 0", status="407 Proxy Authentication Required"))
            return
        with socket.socket() as partner:
            partner.connect(("127.0.0.1", self.port))
            if request.startswith(b"CONNECT"):
                sock.sendall(head(status="200 Connection established"))
                back = threading.Thread(target=pump, args=[partner, sock], daemon=True)
                back.start()
                pump(sock, partner)
                back.join(5)
            else:
                partner.sendall(request)
                pump(partner, sock)


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def proxied(settings, monkeypatch):
    """A partner that can be reached through a proxy only; nobody else looks its name up."""
    settings.AFFILIATE_CALLBACK_ALLOW = ()
    settings.ALLOWED_HOSTS = ["shop.example"]

    def nobody(*args, **more):
        raise AssertionError("a name was looked up here")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with kept() as (partner, port):
        proxy = Proxy(port)
        with serving(proxy, read=False) as proxy_port:
            settings.AFFILIATE_EGRESS_PROXY = f"http://{LOGIN}@127.0.0.1:{proxy_port}"
            settings.AFFILIATE_EGRESS_PROXY_PASSWORD = f"{PASSWORD}/@"
            yield proxy, partner


def test_the_proxy_of_the_setting_is_used_and_gets_its_credentials(proxied):
    proxy, partner = proxied
    partner.answers = [head("Retry-After: 7", "Content-Length: 2", status="503 Busy") + b"no"]
    answer = egress.send(
        "POST", "http://partner.example/x?v=1", headers={"X-Given": "1"}, body=b"body"
    )
    assert answer == egress.Answer(503, "", "7", b"no")
    [request] = proxy.requests
    assert request.startswith(
        b"POST http://partner.example/x?v=1 HTTP/1.1\r\nHost: partner.example"
    )
    assert request.endswith(b"\r\n\r\nbody")


def test_through_a_tunnel_the_partner_gets_no_credentials_of_the_proxy(proxied):
    proxy, partner = proxied
    partner.read = lambda sock: sock.recv(65536)
    answer = egress.send("GET", "https://partner.example/x", headers={}, body=b"")
    # The partner speaks no TLS; what it got was the beginning of some.
    assert answer.error.startswith("No encrypted connection came about")
    [request] = proxy.requests
    assert request.startswith(b"CONNECT partner.example:443 HTTP/1.1\r\nHost: partner.example:443")
    assert b"Proxy-Authorization" not in b"".join(partner.requests)


def test_a_wrong_password_is_said_and_not_shown(proxied, settings, caplog):
    settings.AFFILIATE_EGRESS_PROXY_PASSWORD = "closesesame"
    for url in ("http://partner.example/x", "https://partner.example/x"):
        answer = egress.send("GET", url, headers={}, body=b"")
        assert answer == egress.Answer(None, "The proxy answered 407.", ours=True)
    assert "sesame" not in caplog.text


@pytest.mark.parametrize(
    "proxy",
    [
        "http://127.0.0.1:9",
        "http://somebody@127.0.0.1:9",
        "http://somebody:opensesame@127.0.0.1:9",
        "https://somebody:opensesame@127.0.0.1:9",
        "http://somebody:opensesame@127.0.0.1",
        "http://somebody:opensesame@[",
        "socks5://127.0.0.1:9",
        "127.0.0.1:9",
    ],
)
def test_without_its_proxy_no_call_is_made(settings, proxy, caplog):
    with kept() as (server, port):
        settings.AFFILIATE_EGRESS_PROXY = proxy
        settings.AFFILIATE_EGRESS_PROXY_PASSWORD = PASSWORD
        answer = egress.send("GET", f"http://127.0.0.1:{port}/", headers={}, body=b"")
    assert server.requests == []
    assert answer.status is None
    assert answer.ours
    assert not answer.refused
    assert "proxy" in answer.error.lower()
    assert "sesame" not in answer.error + caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://[::1]/",
        "http://169.254.169.254/latest",
        "http://localhost/",
        "http://shop.example/",
        "http://partner.example:22/",
        "https://10.0.0.1/",
    ],
)
def test_what_can_be_known_without_a_lookup_holds_with_a_proxy_too(proxied, settings, url):
    proxy, _ = proxied
    assert egress.send("GET", url, headers={}, body=b"").refused
    # What is allowed by address is not known of a name that nobody looks up.
    settings.AFFILIATE_CALLBACK_ALLOW = ["10.99.0.0/16"]
    assert egress.send("GET", url, headers={}, body=b"").refused
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("said", "ours", "words"),
    [
        (head(status="407 Who are you"), True, "The proxy answered 407."),
        (head(status="403 Not for you"), True, "The proxy answered 403."),
        (head(status="405 No such method"), True, "The proxy answered 405."),
        (b"SSH-2.0-OpenSSH_9.2\r\n", True, "The proxy cannot be used."),
        # It may have found nobody, or been cut off from whom it found.
        (head(status="502 Bad Gateway"), False, "The proxy answered 502."),
        (head(status="503 No such name"), False, "The proxy answered 503."),
        (head(status="504 Too late"), False, "The proxy answered 504."),
        (b"", False, "The connection was closed without an answer."),
    ],
)
def test_whose_fault_it_is_that_a_tunnel_does_not_come_about(settings, said, ours, words):
    settings.AFFILIATE_CALLBACK_ALLOW = ()
    with kept() as (server, port):
        settings.AFFILIATE_EGRESS_PROXY = f"http://127.0.0.1:{port}"
        server.answers = [said]
        answer = egress.send("GET", "https://partner.example/", headers={}, body=b"")
    assert answer.error.startswith(words)
    assert (answer.status, answer.ours) == (None, ours)


def test_what_comes_through_a_proxy_is_the_partners(proxied):
    _, partner = proxied
    partner.answers = [head("Content-Length: 0", status="502 Bad Gateway")]
    answer = egress.send("GET", "http://partner.example/", headers={}, body=b"")
    assert answer == egress.Answer(502, "")


@pytest.mark.skipif(sys.platform != "linux", reason="a backlog means something else elsewhere")
def test_a_proxy_that_takes_no_connection_is_our_own_matter(settings):
    settings.AFFILIATE_CALLBACK_ALLOW = ()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        # Linux lets one more wait than it is told to; who comes then gets no answer at all.
        for _ in range(2):
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        settings.AFFILIATE_EGRESS_PROXY = f"http://127.0.0.1:{full.getsockname()[1]}"
        answer = egress.send("GET", "http://partner.example/", headers={}, body=b"", timeout=0.3)
    assert answer == egress.Answer(None, "The proxy cannot be reached in time.", ours=True)


def test_a_proxy_has_no_longer_than_the_partner(proxied, settings):
    with serving(lambda sock: threading.Event().wait(2)) as port:
        settings.AFFILIATE_EGRESS_PROXY = f"http://127.0.0.1:{port}"
        for url in ("http://partner.example/", "https://partner.example/"):
            answer = egress.send("GET", url, headers={}, body=b"", timeout=0.3)
            assert answer == egress.Answer(None, "No answer within 0.3 seconds.")
