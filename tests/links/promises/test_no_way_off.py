"""Any path, query, Referer and landing page, as raw WSGI requests to the router.

No error, no redirect but to the link's own target, no header that somebody else has written. Judged
by a parser of the WHATWG's rules, which browsers follow, and not by the one that made the address.
"""

import os
import random
from collections import Counter
from urllib.parse import quote

import ada_url
import pytest
from django.core.exceptions import ValidationError
from django.core.handlers.wsgi import WSGIHandler
from django.urls import include, path

from affiliations.links import deeplinks, landing, routing, services
from affiliations.links.exceptions import InvalidLink
from affiliations.links.models import LandingPage, Link, Transaction
from tests.core.factories import make_partner
from tests.core.promises.test_hostile_urls import HEADERS, JUNK, answer, as_sent, served
from tests.core.test_querystring import FRAGMENTS
from tests.links.factories import NETWORK_ID

__all__ = ["served"]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

#: How many the long form sends.
REQUESTS = int(os.environ.get("AFFILIATIONS_REQUESTS", "100000"))
#: Each that many requests other links.
PAGES_FOR = 50

PIECES = [
    *FRAGMENTS,
    "https://",
    "http:",
    "//",
    "\\",
    "@",
    "evil.com",
    "shop.example",
    ":80",
    ":443",
    "[::1]",
    "xn--bcher-kva.example",
    "bücher.example",
    "%0d%0aLocation:%20https://evil.com",
    "\r\nSet-Cookie: a=b",
    "\t",
    "#",
    "?",
    "..",
    "%2e%2e",
    "{transaction_id}",
    "javascript:alert(1)",
    "\u202e",
    "｡evil.com",
]
METHODS = ["GET"] * 12 + ["HEAD", "POST", "OPTIONS", "DELETE", "BREW"]
ACCEPTED = ["text/html", "application/json", "application/json;q=x", "*/*", "\xff"]

urlpatterns = [path("router/", include("affiliations.links.urls"))]


class Fuzz:
    """Requests made at random, for links made at random."""

    def __init__(self, seed=7):
        self.source = random.Random(seed)
        self.some = self.source.choice
        self.handler = WSGIHandler()
        self.links = []
        self.partners = [None, None, make_partner()]

    def pieces(self, most):
        return "".join(self.source.choices(PIECES, k=self.source.randrange(most)))

    def new_links(self):
        """Make links of what can be one; what cannot is refused by an error of ours."""
        routing.forget_all()
        self.links = []
        while len(self.links) < 3:
            start = self.some(["https://shop.example/", "http://a.example:8080/", ""])
            try:
                link = services.generate_link(
                    item_id=self.some(["course-7", self.pieces(4)]),
                    landing_page=start + self.pieces(5),
                    adds=self.some(["", "utm_source=x", self.pieces(4)]),
                    passes=self.some(["*", "", "a b", self.pieces(2)]),
                    partner=self.some(self.partners),
                )
                if self.source.random() < 0.3:
                    LandingPage.objects.create(link=link, url=f"https://b.example/{self.pieces(2)}")
            except (InvalidLink, ValidationError):
                continue
            self.links.append(link)

    def request(self):
        link = self.some(self.links)
        where = self.some([link.path] * 60 + [self.pieces(4), link.path.swapcase(), *JUNK])
        token = deep = ""
        if self.source.random() < 0.3:
            deep = self.some(["/b?x=1#y", "//evil.com", "/\\evil.com", "/" + self.pieces(3)])
            ours = deeplinks.token(link.path, deep)
            token = self.some([ours, ours, ours.swapcase(), self.pieces(4), "x.y"])
            deep = deep if token == ours else ""
        query = [f"transaction_id={self.some([NETWORK_ID, self.pieces(3), *JUNK])}", self.pieces(6)]
        name = self.some(["next", "url", "a", "mlp", quote(self.pieces(2))])
        query.append(f"{name}={self.pieces(4)}")
        self.source.shuffle(query)
        headers = {
            name: self.some(among) for name, among in HEADERS.items() if self.source.random() < 0.4
        }
        headers = {name: value for name, value in headers.items() if value}
        if self.source.random() < 0.2:
            headers["HTTP_ACCEPT"] = self.some(ACCEPTED)
        asked = "/router/" + where + (f"/{token}" if token else "")
        environ = as_sent(asked.partition("?")[0], "&".join(query), **headers)
        return link, deep, environ | {"REQUEST_METHOD": self.some(METHODS)}

    def send(self, number):
        """Send so many requests; return what became of them."""
        seen = Counter()
        for turn in range(number):
            if turn % PAGES_FOR == 0:
                self.new_links()
            seen[self.judged(*self.request())] += 1
        return seen

    def judged(self, link, deep, environ):
        status, headers = answer(self.handler, environ)
        if status >= 500:
            return "error"
        sent = "".join(f"{name}: {value}" for name, value in headers)
        if any(character < " " or character == "\x7f" for character in sent):
            return "no header"
        names = Counter(name.lower() for name, _ in headers)
        if names["location"] > 1 or "x" in names:
            return "no header"
        if not 300 <= status < 400:
            return "refused"
        if status != 302 or "no-store" not in dict(headers)["Cache-Control"]:
            return "kept"
        return verdict(dict(headers)["Location"], link, deep)


def verdict(location, link, deep):
    """Say whether an address is one of the link's own, as a browser reads it."""
    try:
        found = ada_url.URL(location)
    except ValueError:
        return "unreadable"
    if found.username or found.password:
        return "off"
    pages = [link.landing_page, *link.alternatives.values_list("url", flat=True)]
    if deep:
        try:
            pages = [landing.on_host(link.landing_page, deep)]
        except ValueError:
            deep = ""
    for page in map(ada_url.URL, pages):
        own = (found.protocol, found.host, found.pathname, found.hash)
        if own == (page.protocol, page.host, page.pathname, page.hash):
            # Nothing but the query is added to, behind what the page has itself.
            return "deep target" if deep else "own target"
    return "off"


@pytest.mark.parametrize(
    "number",
    [3000, pytest.param(REQUESTS, marks=[pytest.mark.long, pytest.mark.timeout(3600)])],
)
def test_no_request_fails_or_leads_off_the_links_own_target(number):
    seen = Fuzz().send(number)
    assert seen.keys() == {"own target", "deep target", "refused"}, seen
    assert seen["own target"] > number / 4
    assert seen["deep target"] > number / 50
    assert Transaction.objects.exists()


def test_teeth_a_target_that_the_request_may_name(monkeypatch):
    target = routing._target

    def careless(route, query, *rest):
        return dict(query).get("next") or target(route, query, *rest)

    monkeypatch.setattr(routing, "_target", careless)
    seen = Fuzz().send(1500)
    assert seen["off"] + seen["unreadable"] >= 10, seen


def test_teeth_a_deep_link_that_nobody_signed(monkeypatch):
    monkeypatch.setattr(deeplinks, "path_of", lambda path, token: f"/{token}")
    monkeypatch.setattr(landing, "on_host", lambda url, path: f"https://{landing.host(url)}{path}")
    assert Fuzz().send(1500)["off"] > 20


def test_teeth_parameters_that_are_added_as_they_came(monkeypatch):
    monkeypatch.setattr(
        landing, "_encoded", lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
    )
    seen = Fuzz().send(1500)
    assert seen["off"] + seen["no header"] + seen["error"] > 20, seen


def test_a_link_that_is_none_is_refused_before_anybody_follows_it():
    fuzz = Fuzz(3)
    fuzz.new_links()
    for link in Link.objects.all():
        assert ada_url.URL(link.landing_page).href
