"""Caches that many people share give nobody another one's visitor."""

import random
from collections import defaultdict
from urllib.parse import urlsplit

import pytest
from django.contrib.sessions import middleware as sessions
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path

from affiliations import ident, middleware
from tests.core.factories import make_partner

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


def shop_window(request):
    """A page of the site's that greets whom a partner has sent."""
    visitor = request.affiliate_visitor
    return HttpResponse(f"visitor {visitor.pk}" if visitor else "welcome")


urlpatterns = [path("window/", shop_window), path("", include("tests.projects.urls"))]
PATHS = ["/", "/window/", "/whoami/", "/echo/?a=1"]


def may_keep(response):
    """Tell whether a shared cache may keep a response: RFC 9111, section 3, read generously.

    Real ones keep some redirects that carry no lifetime, and cookies with what they keep.
    """
    control = {
        each.strip().partition("=")[0].lower()
        for each in response.headers.get("Cache-Control", "").split(",")
    }
    vary = response.headers.get("Vary", "")
    return (
        response.status_code in (200, 301, 302, 404)
        and not control & {"no-store", "private", "no-cache"}
        and "*" not in vary
    )


class Proxy:
    """A cache in front of the site, that all clients come through, and that honours Vary."""

    def __init__(self):
        self.kept = defaultdict(list)
        self.hits = 0
        self.wrong = set()
        self.told_apart = 0

    def get(self, client, url):
        cookie = "; ".join(f"{each.key}={each.value}" for each in client.cookies.values())
        sent = {"cookie": cookie}
        for headers, response in self.kept[url]:
            if all(sent.get(name, "") == value for name, value in headers.items()):
                self.hits += 1
                client.cookies.update(response.cookies)
                return response
        response = client.get(url)
        if may_keep(response):
            vary = response.headers.get("Vary", "").lower().split(",")
            headers = {name.strip(): sent.get(name.strip(), "") for name in vary if name.strip()}
            self.kept[url].append((headers, response))
            if response.cookies:
                self.wrong.add("a response to be kept sets a cookie")
            if b"visitor " in response.content and "cookie" not in headers:
                self.wrong.add("a visitor's page does not say that it varies")
        return response


def browse(requests, clients):
    """Let people come through partners' links, and without; return what went wrong."""
    source = random.Random(5)
    links = [make_partner().link(path) for path in ("/window/", "/") for _ in range(2)]
    people = [Client() for _ in range(clients)]
    proxy = Proxy()
    seen = defaultdict(set)
    for _ in range(requests):
        number = source.randrange(clients)
        client = people[number]
        url = source.choice([*PATHS * 2, *links])
        if source.random() < 0.02:
            client.cookies.clear()
        response = proxy.get(client, url)
        if response.status_code == 302:
            to = urlsplit(response.headers["Location"])
            response = proxy.get(client, to.path + (f"?{to.query}" if to.query else ""))
        text = response.content.decode()
        if text.startswith("visitor "):
            seen[text].add(number)
        for cookie in client.cookies.values():
            if cookie.value:
                seen[cookie.value].add(number)
    shared = {what for what, by in seen.items() if len(by) > 1}
    if shared:
        proxy.wrong.add("two people are taken for one")
    proxy.told_apart = len(seen)
    return proxy


@pytest.fixture(autouse=True)
def cached(settings):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MIDDLEWARE = [
        "django.middleware.cache.UpdateCacheMiddleware",
        *settings.MIDDLEWARE,
        "django.middleware.cache.FetchFromCacheMiddleware",
    ]


@pytest.mark.parametrize("cookie", [False, True])
@pytest.mark.parametrize(
    ("requests", "clients"), [(1000, 20), pytest.param(10_000, 100, marks=pytest.mark.long)]
)
def test_no_two_people_are_given_the_same_visitor(settings, cookie, requests, clients):
    settings.AFFILIATE_COOKIE = cookie
    proxy = browse(requests, clients)
    assert proxy.wrong == set()
    # What depends on nobody is shared, or there would be nothing to be seen here.
    assert proxy.hits > requests / 20
    assert proxy.told_apart > clients


def test_teeth_a_redirect_that_may_be_kept(monkeypatch):
    class Kept(middleware.AffiliateRedirect):
        def __init__(self, location):
            super().__init__(location)
            del self.headers["Cache-Control"]

    monkeypatch.setattr(middleware, "AffiliateRedirect", Kept)
    # The session's own Vary is of no help: of all who come without a cookie, one is like the other.
    wrong = browse(1000, 20).wrong
    assert {"a response to be kept sets a cookie", "two people are taken for one"} <= wrong


def test_teeth_a_page_that_does_not_say_what_it_depends_on(monkeypatch):
    for module in (sessions, ident):
        monkeypatch.setattr(module, "patch_vary_headers", lambda response, names: None)
    assert "a visitor's page does not say that it varies" in browse(1000, 20).wrong
