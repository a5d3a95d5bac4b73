"""Any URL, as raw WSGI requests: no error, no way off the site, no loop, and each click counted."""

import logging
import os
import random
from collections import Counter
from io import BytesIO
from urllib.parse import quote, unquote_to_bytes

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.db.models import Max
from django.db.models.functions import Length
from django.http import HttpResponse
from django.urls import clear_script_prefix, re_path

from affiliations import partners, querystring
from affiliations.models import Partner, Visitor
from tests.core.factories import make_partner
from tests.core.test_querystring import FRAGMENTS, KEY, verdict, with_slashes

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

#: How many the long form sends; a million take a quarter of an hour.
REQUESTS = int(os.environ.get("AFFILIATIONS_REQUESTS", "100000"))

PERSON = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"
METHODS = ["GET"] * 12 + ["HEAD", "POST", "OPTIONS", "DELETE", "BREW", "get"]
HOSTS = ["testserver"] * 20 + ["testserver:80", "TESTSERVER", "evil.com", "", "[", "a" * 300, "é"]
KEYS = [KEY] * 12 + ["affiliate%5Fid", KEY.upper(), f"{KEY}x", f" {KEY}", f"{KEY}[]"]
JUNK = ["", "\xff\xfe", "a\x00b", "%00", "'; --", "\\", "é" * 50, "x" * 9000, "%f0%9f%98%80" * 40]
COOKIES = [
    *[""] * 8,
    "sessionid=x",
    f"sessionid={'a' * 32}",
    "sessionid=%00; sessionid=é",
    "affiliate_ident=a:b",
    "=;;=\xff;,",
    'sessionid="\\',
]
HEADERS = {
    "HTTP_USER_AGENT": [PERSON] * 20 + JUNK,
    "HTTP_REFERER": ["https://blog.example/post", "http://[", "//", "javascript:x", *JUNK],
    "HTTP_COOKIE": COOKIES,
    "HTTP_SEC_GPC": [""] * 10 + ["1", "0", "\xff"],
    "HTTP_SEC_PURPOSE": [""] * 10 + ["prefetch", "prefetch;prerender", "\xff"],
    "HTTP_ACCEPT_LANGUAGE": ["de", *JUNK],
    "SCRIPT_NAME": [""] * 4 + ["/app"],
}
#: Found by hand to be hard, each a path and a query as they stand in the request line.
BY_HAND = [
    ("//evil.com/%2e%2e", f"{KEY}=x"),
    ("/%0d%0aSet-Cookie:%20a=b", f"{KEY}=x&%0d%0a"),
    ("/\\evil.com", f"{KEY}=x"),
    ("/%5cevil.com", f"{KEY}=x&\\"),
    ("//[", f"{KEY}=x"),
    ("/a/..//evil.com", f"{KEY}=x"),
    ("/;//evil.com", f"{KEY}=x;{KEY}=y"),
    ("*", f"{KEY}=x"),
    ("", f"{KEY}=x"),
    ("http://evil.com/", f"{KEY}=x"),
    ("/", f"{KEY}=x&{KEY}&{KEY}=&={KEY}&{KEY}=%00"),
    ("/", f"{KEY}=%ed%a0%80"),
    ("/", f"{KEY}={'x' * 60_000}"),
    ("/" + "%ff" * 3000, f"{KEY}=x"),
    ("/", "&".join([f"{KEY}=x"] * 5000)),
    ("/", f"sub1={'%ff' * 3000}&click_id=%00&{KEY}=x"),
]


def anything(request):
    # As a page that needs to know would do.
    return HttpResponse(str(bool(request.affiliate_visitor)))


urlpatterns = [re_path(r"(?s).*", anything)]


def as_sent(path, query, **headers):
    """Return what a server hands over, its strings made of bytes as PEP 3333 has it."""
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query.encode("utf-8", "surrogateescape").decode("latin-1"),
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "testserver",
        "HTTP_USER_AGENT": PERSON,
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        "wsgi.errors": BytesIO(),
        **headers,
    }


def at_random(number, active, inactive):
    """Yield requests, each with whether it is a click that counts."""
    source = random.Random(11)
    some = source.choice

    def pieces(most):
        return "".join(source.choices(FRAGMENTS, k=source.randrange(most)))

    spelled = [active, "".join(f"%{ord(each):02x}" for each in active)]
    values = [*spelled * 4, inactive, active.swapcase(), f"{active}x", f"{active}%00", *JUNK]
    for _ in range(number):
        key, value, method, host = some(KEYS), some(values), some(METHODS), some(HOSTS)
        query = f"{pieces(5)}&sub1={some(JUNK)}{pieces(2)}&{key}={quote(value, safe='%')}"
        if source.random() < 0.5:
            query += f"&{pieces(3)}&click_id={pieces(3)}"
        headers = {name: some(among) for name, among in HEADERS.items() if source.random() < 0.4}
        headers = {name: value for name, value in headers.items() if value}
        environ = as_sent("/" + pieces(6).partition("?")[0], query, **headers)
        environ |= {"REQUEST_METHOD": method, "HTTP_HOST": host}
        counts = (
            (method.upper(), key) == ("GET", KEY)
            and value in spelled
            and host.lower().partition(":")[0] == "testserver"
            and "HTTP_SEC_GPC" not in {name for name, sent in headers.items() if sent == "1"}
            and not headers.get("HTTP_SEC_PURPOSE", "").startswith("prefetch")
        )
        yield environ, counts


def answer(handler, environ):
    """Return the status and the headers of a response, taken to its end as a server does."""
    taken = []
    response = handler(dict(environ), lambda status, headers: taken.append((status, headers)))
    b"".join(response)
    response.close()
    [(status, headers)] = taken
    return int(status.split()[0]), headers


def judged(handler, environ):
    """Say what becomes of a request and of the redirects that follow it."""
    for hop in range(3):
        status, headers = answer(handler, environ)
        if status >= 500:
            return "error"
        sent = "".join(f"{name}: {value}" for name, value in headers)
        if any(character < " " or character == "\x7f" for character in sent):
            return "no header"
        if not 300 <= status < 400:
            return "refused" if status >= 400 else "redirected" if hop else "passed"
        location = dict(headers)["Location"]
        if (found := verdict(location)) != "fine":
            return found
        path, _, query = location.partition("?")
        path = unquote_to_bytes(path).decode("latin-1")
        # What is mounted below a path is asked for below it again.
        path = path.removeprefix(environ.get("SCRIPT_NAME", ""))
        environ = {**environ, "PATH_INFO": path, "QUERY_STRING": query}
    return "loop"


def send(number, by_hand=()):
    """Send so many requests, and those made by hand; return what became of them."""
    active, inactive = make_partner(), make_partner(active=False)
    handler = WSGIHandler()
    seen = Counter(judged(handler, as_sent(*each)) for each in by_hand)
    clicks = 0
    for environ, counts in at_random(number, active.uid, inactive.uid):
        became = judged(handler, environ)
        seen[became] += 1
        clicks += counts and became == "redirected"
    longest = Visitor.objects.aggregate(longest=Max(Length("entry_point")))["longest"]
    elsewhere = Visitor.objects.exclude(entry_point__istartswith="http://testserver").count()
    missed = clicks - Visitor.objects.filter(partner=active).count()
    return seen, {"missed": missed, "elsewhere": elsewhere, "too long": (longest or 0) > 2000}


@pytest.fixture(autouse=True)
def served(settings):
    """Serve as in production, but within the transaction of the test, and quietly."""
    settings.APPEND_SLASH = False
    logging.disable(logging.CRITICAL)
    between = (request_started, request_finished)
    for signal in between:
        signal.disconnect(close_old_connections)
    yield
    for signal in between:
        signal.connect(close_old_connections)
    clear_script_prefix()
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    "number",
    [
        3000,
        pytest.param(REQUESTS, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_no_request_fails_leaves_the_site_or_loops_and_every_click_counts(number):
    seen, wrong = send(number, BY_HAND)
    assert seen.keys() == {"redirected", "passed", "refused"}, seen
    assert seen["redirected"] > number / 4
    assert wrong == {"missed": 0, "elsewhere": 0, "too long": False}


def test_teeth_a_redirect_that_is_quoted_as_django_quotes_paths(monkeypatch):
    monkeypatch.setattr(querystring, "redirect_target", with_slashes)
    seen, _ = send(2000)
    assert seen["off-site"] >= 20


def test_teeth_a_partner_who_is_looked_up_as_asked_for(monkeypatch):
    monkeypatch.setattr(partners, "active_id", lambda uid: Partner.objects.get(uid=uid).pk)
    seen, wrong = send(300)
    assert seen["error"] >= 10
    assert wrong["missed"] or Visitor.objects.filter(partner__active=False).exists()


def test_teeth_a_redirect_that_keeps_the_key(monkeypatch):
    monkeypatch.setattr(querystring, "strip", lambda query, key: query)
    seen, _ = send(300)
    assert seen["loop"] >= 100
