"""Make outgoing calls, and let none of them reach what partners have no business with.

Staff enter the addresses of calls, and whoever may do that could otherwise reach whatever this
machine can: databases, the cloud's metadata, the site itself. The one rule that holds against DNS
is to judge the address that is dialled, at the moment it is dialled; a check when a URL is saved is
a courtesy to staff, no protection.

Between a call and its socket there is only the standard library's reader of answers. What is not
there cannot be left switched on: proxies and credentials of the environment, cookies, redirects,
kept connections. Each single wait, be it for a name, a connection, a handshake or a byte, ends at
one deadline.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from functools import lru_cache
from http.client import HTTPException, HTTPResponse, RemoteDisconnected
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.utils.http import is_same_domain
from django.views.decorators.debug import sensitive_variables

from . import addresses, callbackurl, faults
from .addresses import Address, Allowed, Proxy, parse_allow, parse_proxy
from .conf import settings
from .exceptions import RefusedDestination
from .wire import Reader, TlsWire, TooLong, Wire, left

__all__ = ["Answer", "check", "send"]

#: Seconds for a whole call: lookup, connection, TLS, request and answer.
TIMEOUT = 10.0
#: Bytes that are read of an answer's body, at most.
MAX_ANSWER = 16 * 1024
#: What partners may be called on, unless AFFILIATE_CALLBACK_ALLOW says otherwise.
PORTS = {"http": 80, "https": 443}
#: Of the addresses that a name has, all are judged, and as many are tried.
MAX_TRIES = 8
#: Answers that are only on the way to the one that counts (RFC 9110, section 15.2), at most.
MAX_EARLY = 20


class Answer(NamedTuple):
    """What came back: a status, or None and why there is none."""

    #: None: there was none.
    status: int | None
    #: Why there is none, in words for staff; "" otherwise.
    error: str
    #: The header of that name, raw.
    retry_after: str = ""
    #: At most MAX_ANSWER bytes; fewer than were sent where the rest came too slowly.
    body: bytes = b""
    #: Whether that is all there was of the body, or at least as much as is read of one.
    whole: bool = True
    #: The call was not let out: to repeat it is of no use.
    refused: bool = False
    #: It failed on our side, before it left: no fault of the other side's.
    ours: bool = False


@sensitive_variables()
def send(
    method: str, url: str, *, headers: dict[str, str], body: bytes, timeout: float = TIMEOUT
) -> Answer:
    """Make one call and return its answer.

    `url` is one that `callbackurl.render` made; its target goes out byte for byte. `timeout` is in
    seconds and holds for everything together. A status that came is the answer, even if the body
    behind it is cut or never ends. Never raises for what the other side does, nor for a destination
    that is refused; raises ValueError for a method or a header that is none.
    """
    deadline = time.monotonic() + timeout
    try:
        to = _destination(url)
        if not url.isascii():
            raise RefusedDestination("The URL is not in normal form: it is not in ASCII.")
        request = _Request(method, callbackurl.request_target(url), headers, body)
        return _call(to, request, deadline)
    except RefusedDestination as error:
        return Answer(None, str(error), refused=True)
    except TimeoutError:
        return Answer(None, f"No answer within {timeout:g} seconds.")
    except _Failed as error:
        return Answer(None, str(error), ours=error.ours)
    except (OSError, HTTPException) as error:
        return Answer(None, _in_words(error))


def check(url: str, *, resolve: bool = False, timeout: float = 2.0) -> None:
    """Raise RefusedDestination, in words for staff, where `send` would refuse a URL.

    Without `resolve` no name is looked up, so a name that leads to an inner address passes. With it
    one is, for at most `timeout` seconds; a name that cannot be looked up is not refused.
    """
    to = _destination(url)
    proxied = bool(settings.EGRESS_PROXY)
    _admit(to, to.address, final=proxied)
    if not resolve or proxied or to.address is not None:
        return
    try:
        found = _look_up(to.name, to.port, time.monotonic() + timeout)
    except OSError:
        return
    for address in found:
        _admit(to, address)


# What is called, and whether it may be.


class _Destination(NamedTuple):
    scheme: str
    #: The host in lower case, without the dot that may end it; an IPv6 address in its brackets.
    name: str
    #: The address that the host is, or None where it is a name.
    address: Address | None
    port: int

    @property
    def authority(self) -> str:
        """What stands in the Host header."""
        return self.name if self.port == PORTS[self.scheme] else f"{self.name}:{self.port}"


_INVISIBLE = re.compile(r"[\x00-\x20\x7f]")
_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")
# By the rules that browsers follow, such a name is an address or nothing (WHATWG URL, 3.5).
_ENDS_IN_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


def _destination(url: str) -> _Destination:
    """Take the host out of a URL; raises RefusedDestination where there is not exactly one."""
    if _INVISIBLE.search(url):
        raise RefusedDestination("The URL contains a blank or an invisible character.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise RefusedDestination("The URL’s host or port is malformed.") from None
    if parts.scheme not in PORTS:
        raise RefusedDestination("The URL does not start with http:// or https://.")
    if "@" in parts.netloc:
        raise RefusedDestination("The URL contains a user name or password before the host.")
    if port == 0:
        raise RefusedDestination("The port 0 is none that could be called.")
    if not host.isascii():
        host = _ascii(host)
    address = addresses.literal(host)
    if address is not None and not addresses.is_canonical(host, address):
        raise RefusedDestination(
            f"{host:.60} is an unusual way to write the address {address}, which others may read "
            "differently."
        )
    name = host.removesuffix(".")
    if isinstance(address, ipaddress.IPv6Address):
        name = f"[{address}]"
    elif len(name) > 253 or not _NAME.fullmatch(name):
        raise RefusedDestination(f"{host:.60} is not the name of a host.")
    elif address is None and _ENDS_IN_A_NUMBER.fullmatch(name):
        raise RefusedDestination(f"{host:.60} is neither a name nor an address.")
    return _Destination(parts.scheme, name, address, port or PORTS[parts.scheme])


def _ascii(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise RefusedDestination(f"{host:.60} is not the name of a host.") from None


def allowed() -> tuple[Allowed, ...]:
    """Return what AFFILIATE_CALLBACK_ALLOW allows."""
    return _parsed(tuple(settings.CALLBACK_ALLOW))


@lru_cache(maxsize=8)
def _parsed(entries: tuple[Any, ...]) -> tuple[Allowed, ...]:
    found = []
    for entry in entries:
        # A malformed one allows nothing; the system check of the setting says so.
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            found.append(parse_allow(entry))
    return tuple(found)


def _admit(to: _Destination, address: Address | None, *, final: bool = True) -> None:
    """Raise RefusedDestination unless a host may be called at one of its addresses.

    With None for the address only what is known without it is judged. If that is not `final`, and
    networks are allowed, what they could allow is left to the addresses.
    """
    if reason := _why_refused(to, address, final=final):
        raise RefusedDestination(reason)


def _why_refused(to: _Destination, address: Address | None, *, final: bool) -> str:
    if _is_allowed(to, address):
        return ""
    by_network = any(each.network and each.port in (None, to.port) for each in allowed())
    if address is None and not final and by_network:
        return ""
    if to.port not in PORTS.values():
        return f"{to.name} is to be called on the port {to.port}; only 80 and 443 are open."
    if _is_own(to.name):
        return f"{to.name} is a host of this site itself: the call would only come back to it."
    if to.name == "localhost" or to.name.endswith(".localhost"):
        return f"{to.name} is the machine of this site itself."
    if address is not None and (why := addresses.why_not_public(address)):
        if to.address is not None:
            return f"The address {address} {why}. No partner can be there."
        return f"{to.name} has the address {address}, which {why}. No partner can be there."
    return ""


def _is_allowed(to: _Destination, address: Address | None) -> bool:
    for entry in allowed():
        if entry.covers(to.name, to.port):
            return True
        if address is not None and entry.contains(address, to.port):
            return True
    return False


def _is_own(name: str) -> bool:
    # "*" means that the web server in front knows the names, and tells nothing.
    return any(
        is_same_domain(name, pattern.lower().removesuffix("."))
        for pattern in django_settings.ALLOWED_HOSTS
        if pattern != "*"
    )


# Names and connections.


def _look_up(name: str, port: int, deadline: float) -> list[Address]:
    """Ask once for the addresses of a name, and stop waiting at the deadline.

    Raises OSError where the name has none. Nothing can end a lookup that hangs, so it has a thread
    of its own, which is left behind. Those cannot pile up for long: the resolver gives up itself
    after some seconds, and whoever waits for one starts no other.
    """
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits is told
            answers.put(error)

    asking = threading.Thread(target=ask, name="affiliations-lookup", daemon=True)
    try:
        asking.start()
    except RuntimeError as error:
        raise socket.gaierror(socket.EAI_AGAIN, str(error)) from error
    try:
        answer = answers.get(timeout=left(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    if isinstance(answer, Exception):
        raise socket.gaierror(socket.EAI_NONAME, "no name of a host") from answer
    texts = dict.fromkeys(str(found[4][0]).partition("%")[0] for found in answer)
    return [ipaddress.ip_address(text) for text in texts]


def _dial(found: Iterable[Address], port: int, deadline: float) -> tuple[socket.socket, Address]:
    """Connect to the first of some addresses that takes the call.

    Each gets its share of the time that is left, so that one that swallows everything does not keep
    the next from its turn.
    """
    tried = list(found)[:MAX_TRIES]
    problem: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
    for number, address in enumerate(tried):
        four = isinstance(address, ipaddress.IPv4Address)
        sock = socket.socket(socket.AF_INET if four else socket.AF_INET6, socket.SOCK_STREAM)
        try:
            sock.settimeout(left(deadline) / (len(tried) - number))
            sock.connect((str(address), port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            problem = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock, address
    raise problem


def _connect(to: _Destination, deadline: float) -> socket.socket:
    """Connect to a destination, at an address that may be called."""
    _admit(to, to.address, final=False)
    if to.address is not None:
        found = [to.address]
    else:
        found = _look_up(to.name, to.port, deadline)
        for address in found:
            # One that may not be called makes all suspect: whoever mixes them does it on purpose.
            _admit(to, address)
    sock, address = _dial(found, to.port, deadline)
    try:
        peer = ipaddress.ip_address(sock.getpeername()[0].partition("%")[0])
        own = ipaddress.ip_address(sock.getsockname()[0].partition("%")[0])
        if peer != address:
            raise RefusedDestination(f"{to.name} was called at {address}, but {peer} took it.")
        # Our own public address: none of the special ones, but the call would come back.
        if peer == own and not _is_allowed(to, peer):
            raise RefusedDestination(
                f"{to.name} has the address {peer}, which is the machine of this site itself."
            )
    except BaseException:
        sock.close()
        raise
    return sock


def _connect_to_proxy(proxy: Proxy, deadline: float) -> socket.socket:
    # The site chose it, so it may be anywhere, and most are on an inner address.
    literal = addresses.literal(proxy.host)
    try:
        found = [literal] if literal is not None else _look_up(proxy.host, proxy.port, deadline)
        return _dial(found, proxy.port, deadline)[0]
    except TimeoutError:
        raise _Failed("The proxy cannot be reached in time.", ours=True) from None
    except OSError as error:
        raise _Failed(f"The proxy cannot be reached. {_in_words(error)}", ours=True) from error


# What is sent and received.


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding"})


class _Request:
    """A request, checked, so that nothing in it can end a line and begin another."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        if not _TOKEN.fullmatch(method):
            raise ValueError("not a method of HTTP")
        for name, value in headers.items():
            if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value) or name.lower() in _OURS:
                raise ValueError(f"not a header that may be sent: {name!r}")
        self.method = method
        self.target = target
        self.headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.body = body

    def encoded(self, to: _Destination, *, origin: str = "", extra: str = "") -> bytes:
        """Return its bytes; a proxy is told the `origin` too, and gets its `extra` headers."""
        length = f"Content-Length: {len(self.body)}\r\n"
        return (
            f"{self.method} {origin}{self.target} HTTP/1.1\r\n"
            f"Host: {to.authority}\r\n"
            "Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n"
            f"{length if self.body or self.method != 'GET' else ''}{extra}{self.headers}\r\n"
        ).encode("latin-1") + self.body


@sensitive_variables()
def _call(to: _Destination, request: _Request, deadline: float) -> Answer:
    if not settings.EGRESS_PROXY:
        with contextlib.closing(_connect(to, deadline)) as sock:
            wire = Wire(sock, deadline)
            if to.scheme == "https":
                wire = TlsWire(wire, to.name.strip("[]"))
            return _exchange(wire, request.method, request.encoded(to))
    try:
        proxy = parse_proxy(settings.EGRESS_PROXY, settings.EGRESS_PROXY_PASSWORD)
    except ValueError as error:
        # Never past it: it may be there so that calls leave the network in one place only.
        raise _Failed(f"The setting AFFILIATE_EGRESS_PROXY {error}.", ours=True) from None
    _admit(to, to.address)
    with contextlib.closing(_connect_to_proxy(proxy, deadline)) as sock:
        wire = Wire(sock, deadline)
        if to.scheme == "https":
            _tunnel(wire, to, proxy)
            wire = TlsWire(wire, to.name.strip("[]"))
            return _exchange(wire, request.method, request.encoded(to))
        sent = request.encoded(to, origin=f"http://{to.authority}", extra=proxy.headers)
        answer = _exchange(wire, request.method, sent)
        if answer.status == 407:
            raise _Failed("The proxy answered 407.", ours=True)
        return answer


@sensitive_variables()
def _tunnel(wire: Wire, to: _Destination, proxy: Proxy) -> None:
    """Let a proxy connect to a destination, and hand on whatever comes."""
    target = f"{to.name}:{to.port}"
    wire.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{proxy.headers}\r\n".encode())
    try:
        response = _begun(wire, "CONNECT")
    except ConnectionError:
        # So do some where the destination cannot be reached.
        raise
    except HTTPException as error:
        raise _Failed(f"The proxy cannot be used. {_in_words(error)}", ours=True) from error
    if not 200 <= response.status < 300:
        # From 500 on it may be the destination that failed; all else is between the proxy and us.
        raise _Failed(f"The proxy answered {response.status}.", ours=response.status < 500)


def _exchange(wire: Wire, method: str, request: bytes) -> Answer:
    """Send a request and read its answer, and no more of it than is kept."""
    if faults.POINT:
        faults.reach("connected")
        if faults.POINT == "half-sent":
            half = len(request) // 2
            wire.send(request[:half])
            faults.reach("half-sent")
            request = request[half:]
    # Who answers before all was sent, and hangs up, may still have said why.
    with contextlib.suppress(ConnectionError):
        wire.send(request)
    if faults.POINT:
        faults.reach("sent")
    response = _begun(wire, method)
    wanted = MAX_ANSWER if response.length is None else min(response.length, MAX_ANSWER)
    body = b""
    whole = False
    # The partner has said what became of the call; that the rest fails changes nothing in it.
    with contextlib.suppress(OSError, HTTPException, ValueError):
        while len(body) < wanted and (piece := response.read1(wanted - len(body))):
            body += piece
        whole = response.length is None or len(body) >= wanted
    retry_after = (response.headers.get("Retry-After") or "")[:100]
    return Answer(response.status, "", retry_after, body[:MAX_ANSWER], whole)


def _begun(wire: Wire, method: str) -> HTTPResponse:
    """Return the answer behind any that are only on the way to it, its headers read."""
    reader = Reader(wire)
    for _ in range(MAX_EARLY):
        response = HTTPResponse(reader, method=method)  # type: ignore[arg-type]
        response.begin()
        if response.status >= 200:
            return response
        # Else it would, once forgotten, close the reader that the next one needs.
        response.fp = None  # type: ignore[assignment]
    raise TooLong


# What staff reads.


class _Failed(Exception):
    """A call came to nothing at the proxy; says why, in words for staff, and whether it is ours."""

    def __init__(self, why: str, *, ours: bool) -> None:
        super().__init__(why)
        self.ours = ours


_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
_NO_WAY = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}


def _in_words(error: Exception) -> str:
    """Say why a call failed, without anything of what was sent."""
    match error:
        case socket.gaierror():
            if error.errno in _NO_SUCH_NAME:
                return "The host’s name does not exist."
            return "The host’s name could not be looked up."
        case TooLong():
            return "The answer’s head has no end."
        case ConnectionRefusedError():
            return "The connection was refused."
        case RemoteDisconnected():
            return "The connection was closed without an answer."
        case ConnectionError():
            return "The connection was cut before the answer."
        case ssl.SSLCertVerificationError():
            return f"The certificate is not valid: {error.verify_message.rstrip('.')}."
        case ssl.SSLError():
            return f"No encrypted connection came about: {error.reason or 'it was cut'}."
        case HTTPException():
            return "What was answered is not HTTP."
        case OSError(errno=number) if number in _NO_WAY:
            return "The host cannot be reached."
        case _:
            return f"The connection failed: {getattr(error, 'strerror', '') or 'unknown reason'}."
