"""What a site's own tests need: visitors, expectations, a partner that can be called, a clock.

    from affiliations.testing import assert_converted, callback_server, freeze, refer

Nothing in here is imported by the package itself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from unittest import mock
from urllib.parse import parse_qs, urlsplit

from django.conf import settings as django_settings
from django.utils import timezone

from . import addresses, delivery, egress, signing, visits
from .models import Conversion, Partner, Visitor

__all__ = [
    "CallbackServer",
    "Clock",
    "Received",
    "assert_converted",
    "assert_not_converted",
    "callback_server",
    "deliver",
    "freeze",
    "refer",
]


def refer(client: Any, partner: Partner, path: str = "/", **extra: Any) -> Visitor:
    """Let a test client follow the partner's link to `path`; return the visitor it became.

    Raises AssertionError where the site recorded none: an inactive partner, a robot, no consent.
    """
    response = client.get(partner.link(path), **extra)
    assert response.status_code == 302, f"{path} answered {response.status_code}, not a redirect"
    # Not the client's session at once: to ask for it makes one where there is none.
    known = django_settings.SESSION_COOKIE_NAME in client.cookies
    trail = client.session.get(visits.trail_key(), []) if known else []
    visitor = Visitor.objects.filter(partner=partner, pk__in=trail[-1:]).first()
    assert visitor is not None, f"following the link of {partner} left no visitor"
    return visitor


def assert_converted(
    trigger: str, *, partner: Partner | None = None, times: int = 1, **fields: Any
) -> list[Conversion]:
    """Assert that `trigger` converted `times` times, and return these conversions.

    `partner` keeps those in which it has a share; `fields` are compared as in a filter, such as
    reference="A-17", user=user or amount_minor=1250.
    """
    found = Conversion.objects.standing().filter(trigger=trigger, **fields)
    if partner is not None:
        found = found.for_partner(partner)
    conversions = list(found.order_by("pk"))
    if len(conversions) != times:
        others = [f"{each} of visitor {each.visitor_id}" for each in Conversion.objects.all()[:20]]
        raise AssertionError(
            f"expected {times} conversion(s) of {trigger!r}, found {len(conversions)}; "
            f"recorded are: {', '.join(others) or 'none'}"
        )
    return conversions


def assert_not_converted(trigger: str, **expected: Any) -> None:
    """Assert that `trigger` did not convert."""
    assert_converted(trigger, times=0, **expected)


def deliver() -> tuple[int, int]:
    """Make an attempt at every callback that is due; return how many, and how many arrived."""
    return delivery.deliver_due()


class Received(NamedTuple):
    """One call that a callback server got."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, decoded."""
        return {key: values[-1] for key, values in parse_qs(urlsplit(self.target).query).items()}

    def verify(self, *secrets: bytes) -> None:
        """Check the signature as a partner would; raises InvalidSignature."""
        payload = signing.payload(self.method, self.target, self.body)
        signing.verify(secrets, self.headers, payload, int(timezone.now().timestamp()))


class CallbackServer:
    """A partner's server on a free port of 127.0.0.1, that keeps what it is sent.

    `answers` are given in turn, the last one from then on: a status, or None to hang up. `body` is
    what each of them says, for a partner whose answer has to contain something.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: list[int | None] = [200]
        self.body = b""
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                call = Received(self.command, self.path, headers, self.rfile.read(length))
                status = owner._take(call)
                self.close_connection = True
                if status is not None:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(owner.body)))
                    self.end_headers()
                    self.wfile.write(owner.body)

            do_GET = do_POST = answer  # noqa: N815 - named by http.server

            def log_message(self, *args: Any) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    def _take(self, call: Received) -> int | None:
        with self._lock:
            self.received.append(call)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def callback_url(self) -> str:
        """An address to subscribe with, that tells everything there is to tell."""
        names = "visitor_id partner_uid trigger reference amount currency timestamp click_id sub1"
        query = "&".join(f"{name}={{{name}}}" for name in names.split())
        return f"{self.url}/callback?{query}"

    def start(self) -> None:
        """Begin to listen."""
        serve = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        serve.daemon = True
        serve.start()

    def stop(self) -> None:
        """Hang up for good."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def callback_server() -> Iterator[CallbackServer]:
    """Run a partner's server, which may be called while it runs, though it is on this machine.

    The way to have one as a pytest fixture is in the docs.
    """
    server = CallbackServer()
    server.start()
    here = addresses.parse_allow(urlsplit(server.url).netloc)
    allowed = egress.allowed
    try:
        # Not the setting: whoever changes one meanwhile could not put it back as it was.
        with mock.patch.object(egress, "allowed", side_effect=lambda: (*allowed(), here)):
            yield server
    finally:
        server.stop()


class Clock:
    """What Django's clock shows within `freeze`."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def tick(self, **passed: float) -> datetime:
        """Let time pass, as in `clock.tick(days=3)`, and return what it is then."""
        self.now += timedelta(**passed)
        return self.now


class _IsDatetime(type):
    """Keeps `isinstance(…, datetime)` true of every datetime."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, datetime)


@contextmanager
def freeze(at: datetime | None = None) -> Iterator[Clock]:
    """Stop `timezone.now()` at `at`, an aware datetime, or at what it is now."""
    clock = Clock(at or timezone.now())

    class Frozen(datetime, metaclass=_IsDatetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return clock.now.astimezone(tz) if tz else timezone.make_naive(clock.now)

    # Not `timezone.now` itself: the defaults of model fields have hold of that function.
    with mock.patch.object(timezone, "datetime", Frozen):
        yield clock
