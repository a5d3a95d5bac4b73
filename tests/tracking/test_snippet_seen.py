"""What a real Chromium tells of pages that carry the snippet, and what it does not."""

import re
import time
from itertools import pairwise
from threading import Event

import pytest
from django.core.signals import request_started
from django.db import connections
from django.http import HttpResponse
from django.template import Context, Template
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from playwright.sync_api import Error, expect, sync_playwright

from affiliations import ident
from affiliations.conf import settings as core
from affiliations.tracking import views
from affiliations.tracking.models import Customer, Hit, Identity
from tests.browser import complaints
from tests.conftest import FLAGS
from tests.referrals.test_pages_seen import PERSON
from tests.tracking.factories import make_event_type, make_property, people

STRICT = "default-src 'none'; script-src 'nonce-n0nce'; connect-src 'self'; img-src data:"
COUNT_BEACONS = """
    window.beacons = 0
    const send = Navigator.prototype.sendBeacon
    Navigator.prototype.sendBeacon = function () {
        window.beacons += 1
        return send.apply(this, arguments)
    }
"""
BUY = {"transaction_id": "R-1001", "amount": 19.9, "currency": "EUR", "meta": {"size": 42}}


def page(request, name=""):
    """Show a page, as its query says: `tag` are the tag's arguments, and `script` follows it."""
    source = (
        "{% load tracking %}<!doctype html><title>"  # noqa: ISC003 # one of them is no f-string
        + f"Page {name}</title>{{% tracking_snippet {request.GET.get('tag', '')} %}}"
        + "<link rel=icon href=data:,>"
        + f"<h1>{name}</h1><a href=/shop/next>Next</a>"
    )
    if "script" in request.GET:
        source += f"<script nonce=n0nce>{request.GET['script']}</script>"
    response = HttpResponse(Template(source).render(Context({"request": request})))
    if "strict" in request.GET:
        response["Content-Security-Policy"] = STRICT
    if "quiet" in request.GET:
        response["Referrer-Policy"] = "no-referrer"
    return response


#: The server answers while it is set.
answering = Event()


def events(request):
    answering.wait(10)
    return views.events(request)


urlpatterns = [
    path("attribution/events", csrf_exempt(events)),
    path("attribution/", include("affiliations.tracking.urls")),
    path("shop/<str:name>", page),
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
]


@pytest.fixture(scope="module")
def browser(chromium):
    """Start one Chromium for all of them, which keeps the pages that are left, as people's do."""
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # As `new_context` does.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield playwright.chromium.launch(
            executable_path=chromium,
            # Not by a context: what is sent when a page is left does not go by that.
            args=[*FLAGS, f"--user-agent={PERSON}"],
            ignore_default_args=["--disable-back-forward-cache"],
        )
        connections.close_all()


@pytest.fixture
def new_context(browser):
    """Make contexts, each of them somebody's."""
    made = []

    def new_context(**options):
        made.append(browser.new_context(**options))
        return made[-1]

    yield new_context
    for each in made:
        each.close()


@pytest.fixture
def shop(settings, transactional_db):
    answering.set()
    settings.AFFILIATE_TRACKING_PROPERTY = "SHOP"
    made = make_property(public_key="SHOP")
    make_event_type(made, "purchase", public_key="BUY")
    return made


@pytest.fixture(autouse=True)
def asked(live_server):
    """List what the server is asked for but pages; Playwright does not tell of beacons."""
    found = []

    def note(environ, **kwargs):
        if not environ["PATH_INFO"].startswith("/shop/"):
            found.append(environ["PATH_INFO"])

    request_started.connect(note)
    yield found
    request_started.disconnect(note)


class Person:
    """Somebody with a browser of their own."""

    def __init__(self, context):
        self.context, self.wrong = context, complaints(context)
        context.add_init_script(COUNT_BEACONS)
        self.page = context.new_page()

    def see(self, name="shoes", **query):
        options = {"referer": query.pop("referer")} if "referer" in query else {}
        self.page.goto(f"/shop/{name}{address(query)}", **options)

    def run(self, script):
        return self.page.evaluate(f"() => {{ {script} }}")

    def cookies(self):
        return {each["name"]: each for each in self.context.cookies()}


def address(query):
    hash_ = query.pop("hash", "")
    return "?" + "&".join(f"{k}={escaped(v)}" for k, v in query.items()) + hash_ if query else hash_


def escaped(value):
    return "".join(f"%{byte:02X}" for byte in str(value).encode())


@pytest.fixture
def person(shop, live_server, new_context):
    def person(**options):
        return Person(new_context(base_url=live_server.url, **options))

    return person


@pytest.fixture
def anna(person):
    return person()


def hits(number):
    """Wait for so many hits, and a moment for one too many; return them in their order."""
    until = time.monotonic() + 10
    while Hit.objects.count() < number and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.2)
    found = list(Hit.objects.order_by("pk"))
    assert len(found) == number, [each.url for each in found]
    return found


def paths(number):
    """Return from where to where each of so many hits led, without the server's name."""
    rows = hits(number)
    return [tuple(re.sub(r"^http://[^/]+", "", each) for each in (r.referrer, r.url)) for r in rows]


def nothing(one, asked):
    """See that nothing was asked, nothing written, and no cookie set."""
    time.sleep(0.5)
    assert asked == []
    assert not Hit.objects.exists()
    assert not Identity.objects.exists()
    assert one.cookies() == {}


# A visit


def test_a_visit_is_one_hit(anna, shop, live_server):
    anna.see(utm_source="bing", utm_medium="cpc", hash="#size", referer="https://www.bing.com/")
    [hit] = hits(1)
    assert hit.type == "pageview"
    assert hit.url == f"{live_server.url}/shop/shoes?utm_source=%62%69%6E%67&utm_medium=%63%70%63"
    assert (hit.title, hit.referrer) == ("Page shoes", "https://www.bing.com/")
    assert (hit.channel, hit.source) == ("paid_search", "bing")
    cookie = anna.cookies()[core.COOKIE_NAME]
    assert cookie["httpOnly"]
    assert people(shop) == [f"cookie:{ident.of_cookie(cookie['value'])}"]
    expect(anna.page.locator("body")).to_have_text("shoesNext")
    assert anna.wrong == []


def test_the_next_page_is_the_same_persons(anna, shop):
    anna.see()
    hits(1)
    anna.page.get_by_text("Next").click()
    assert paths(2) == [("", "/shop/shoes"), ("/shop/shoes", "/shop/next")]
    assert Customer.objects.count() == 1


def test_two_who_are_not_the_same(person, shop):
    for one in (person(), person()):
        one.see()
    hits(2)
    assert Customer.objects.count() == 2


def test_a_robot_sees_nothing(shop, live_server, new_context):
    robot = Person(new_context(base_url=live_server.url, user_agent=f"{PERSON} HeadlessChrome"))
    robot.see()
    hits(0)
    assert robot.cookies() == {}


# Within a page


def test_going_on_within_a_page(anna):
    anna.see("a")
    anna.run("history.pushState(null, '', '/shop/b'); document.title = 'B'")
    assert hits(2)[1].title == "B"
    anna.run("history.replaceState(null, '', '/shop/b?color=red')")
    hits(3)
    anna.page.go_back()
    assert paths(4) == [
        ("", "/shop/a"),
        ("/shop/a", "/shop/b"),
        ("/shop/b", "/shop/b?color=red"),
        ("/shop/b?color=red", "/shop/a"),
    ]
    anna.page.go_forward()
    assert paths(5)[4] == ("/shop/a", "/shop/b?color=red")
    # And the page is not hindered.
    with pytest.raises(Error, match="cannot be created in a document"):
        anna.run("history.pushState({}, '', 'https://elsewhere.example/')")
    assert anna.run("history.pushState({step: 1}, '', '/shop/c'); return history.state.step") == 1
    assert paths(6)[5][1] == "/shop/c"
    assert Customer.objects.count() == 1
    assert anna.wrong == []


def test_what_is_no_other_page(anna):
    anna.see("a")
    anna.run("location.hash = 'size'")
    anna.run("history.pushState({}, '', '#color')")
    anna.run("history.replaceState({scrolled: 400}, '')")
    anna.run("history.replaceState({}, '', location.href)")
    anna.run("history.pushState({}, '', '/shop/a')")
    for _ in range(3):
        anna.page.go_back()
    assert anna.page.url.endswith("/shop/a")
    assert paths(1) == [("", "/shop/a")]


def test_a_hash_that_is_a_path(anna):
    anna.see("a")
    anna.run("location.hash = '#/cart'")
    hits(2)
    anna.run("history.pushState({}, '', '#!pay')")
    hits(3)
    anna.page.go_back()
    urls = ["/shop/a", "/shop/a#/cart", "/shop/a#!pay", "/shop/a#/cart"]
    assert paths(4) == [("", urls[0]), *pairwise(urls)]


def test_a_page_that_leads_on_at_once_is_one(anna):
    anna.see("a")
    anna.run("history.pushState({}, '', '/shop/b'); history.replaceState({}, '', '/shop/c')")
    assert paths(2)[1] == ("/shop/a", "/shop/c")


# Without an answer


def test_all_that_is_told_at_once_is_one_persons(anna, shop):
    told = "affiliations.track('BUY', {}); history.pushState({}, '', '/shop/b');"
    anna.see("a", script=told + "affiliations.track('BUY', {})")
    found = hits(4)
    assert found[0].type == "pageview"
    assert sorted(each.type for each in found[1:]) == ["event", "event", "pageview"]
    assert len(people(shop)) == 1
    assert anna.run("return beacons") == 3


def test_teeth_of_one_who_does_not_wait_for_the_cookie(anna, shop, asked):
    """The same search finds the hasty."""

    def answer(route):
        response = route.fetch()
        hasty = response.text().replace("(answered || leaving || !asked)", "true")
        assert hasty != response.text()
        route.fulfill(response=response, body=hasty)

    anna.context.route("**/shop/*", answer)
    # Both have been sent before either is answered, however fast the server is.
    answering.clear()
    anna.see("a", script="affiliations.track('BUY', {})")
    until = time.monotonic() + 8
    while len(asked) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    answering.set()
    hits(2)
    assert len(people(shop)) == 2


def test_whoever_leaves_at_once_was_there(anna):
    anna.see("a", script="affiliations.track('BUY', {}); document.links[0].click()")
    anna.page.wait_for_url("**/shop/next")
    found = hits(3)
    assert [each.title for each in found].count("Page a") == 1
    assert [each.title for each in found].count("Page next") == 1
    assert [each.type for each in found].count("event") == 1


def test_what_waits_is_told_when_the_page_is_left(anna, asked):
    answering.clear()
    anna.see("a", script="affiliations.track('BUY', {})")
    anna.run("history.pushState({}, '', '/shop/b')")
    hits(0)
    assert len(asked) == 1
    anna.run("history.pushState({}, '', '/shop/c'); location.href = 'about:blank'")
    anna.page.wait_for_url("about:blank")
    answering.set()
    assert len({each.url for each in hits(4)}) == 3


@pytest.mark.parametrize("beacon", ["undefined", "() => false"])
def test_a_browser_without_beacons(person, beacon):
    one = person()
    one.context.add_init_script(f"Navigator.prototype.sendBeacon = {beacon}")
    one.see("a", script="affiliations.track('BUY', {})")
    one.run("history.pushState({}, '', '/shop/b')")
    hits(3)
    assert one.wrong == []


def test_a_page_that_the_browser_has_kept(anna):
    anna.see("a")
    anna.run("window.kept = true")
    hits(1)
    anna.see("b")
    hits(2)
    anna.page.go_back(wait_until="commit")
    assert anna.run("return window.kept")
    assert paths(3)[2] == ("/shop/a", "/shop/a")


def test_a_page_that_is_rendered_ahead_is_told_of_when_it_is_shown(anna, asked):
    anna.context.add_init_script(
        "Object.defineProperty(document, 'prerendering', {get: () => !window.shown})"
    )
    anna.see("a", script="affiliations.track('BUY', {})")
    nothing(anna, asked)
    anna.run("shown = true; document.dispatchEvent(new Event('prerenderingchange'))")
    assert [each.type for each in hits(2)] == ["pageview", "event"]


# Events of the page's own


def test_an_event_of_a_transaction_is_one(anna, shop, asked):
    anna.see()
    for _ in range(2):
        anna.page.evaluate("told => affiliations.track('BUY', told)", BUY)
    _, bought = hits(2)
    assert asked == ["/attribution/events"] * 3
    assert (bought.type, bought.event_type.key, bought.transaction_id) == (
        "event",
        "purchase",
        "R-1001",
    )
    assert (bought.minor, bought.currency, bought.meta) == (1990, "EUR", {"size": 42})
    assert bought.url.endswith("/shop/shoes")
    anna.run("affiliations.track('', {type: 'screen', title: 'Cart'})")
    assert (hits(3)[2].type, hits(3)[2].title) == ("screen", "Cart")
    assert len(people(shop)) == 1


def test_a_page_that_carries_it_twice(anna):
    anna.see("a", tag="%}{% tracking_snippet")
    assert anna.page.locator("script").count() == 2
    anna.run("history.pushState({}, '', '/shop/b')")
    hits(2)


# What the server would refuse


def test_an_address_and_a_title_without_end(anna):
    anna.see("a", many="x" * 2000)
    anna.run("document.title = '😀'.repeat(499) + 'x😀'; history.pushState({}, '', '/shop/b')")
    hits(2)
    anna.run(r"document.title = 'a\0b\ud800c'; history.pushState({}, '', '/shop/c')")
    found = hits(3)
    assert (len(found[0].url), len(found[1].referrer)) == (4000, 4000)
    assert found[1].title == "😀" * 250
    assert found[2].title in ("abc", "a bc")


def test_a_page_that_tells_nobody_where_one_comes_from(anna):
    anna.see("a", quiet=1)
    anna.run("affiliations.track('BUY', {})")
    hits(2)
    assert anna.run("return beacons") == 1
    anna.page.get_by_text("Next").click()
    assert paths(3)[2] == ("", "/shop/next")
    assert anna.wrong == []


# Who does not want it


def test_without_consent_nothing_is_asked(anna, settings, asked):
    settings.AFFILIATE_CONSENT = lambda request: False
    anna.see("a")
    assert anna.run("return window.affiliations?.track") is None
    anna.run("history.pushState({}, '', '/shop/b')")
    nothing(anna, asked)


def agrees(request):
    return request.COOKIES.get("consent") == "yes"


def test_consent_that_is_given_later(anna, settings, shop, asked):
    settings.AFFILIATE_CONSENT = agrees
    anna.see("a", tag="wait=True", utm_source="bing")
    anna.run("history.pushState({}, '', '/shop/b'); affiliations.track('BUY', {})")
    nothing(anna, asked)
    # Leaving is no consent.
    anna.see("a", tag="wait=True", utm_source="bing")
    anna.run("history.pushState({}, '', '/shop/b'); affiliations.track('BUY', {})")
    nothing(anna, asked)
    anna.run("document.cookie = 'consent=yes; path=/'; affiliations.consent()")
    found = hits(3)
    assert sorted(each.type for each in found[1:]) == ["event", "pageview"]
    assert (found[0].type, found[0].source) == ("pageview", "bing")
    # And needs no call any more.
    anna.see("c", tag="wait=True")
    hits(4)
    anna.run("affiliations.consent()")
    hits(4)
    assert len(people(shop)) == 1


def test_gpc_that_only_the_browser_knows_of(person, settings, asked):
    """As where a cache has kept the page."""
    one = person()
    one.context.add_init_script(
        "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', {value: true})"
    )
    one.see("a", script="affiliations.track('BUY', {}); affiliations.consent()")
    one.run("history.pushState({}, '', '/shop/b')")
    one.see("c")
    nothing(one, asked)
    settings.AFFILIATE_HONOUR_GPC = False
    one.see("d")
    hits(1)


def test_gpc_that_the_server_knows_of(person, settings, asked):
    one = person(extra_http_headers={"Sec-GPC": "1"})
    one.see("a", tag="wait=True")
    one.run("window.affiliations?.consent()")
    nothing(one, asked)
    settings.AFFILIATE_HONOUR_GPC = False
    one.see("b")
    hits(1)


# A policy


def test_a_strict_policy(anna):
    anna.see("a", strict=1, tag="nonce='n0nce'", script="affiliations.track('BUY', {})")
    anna.run("history.pushState({}, '', '/shop/b')")
    hits(3)
    assert anna.wrong == []


def test_teeth_of_a_strict_policy(anna, asked):
    anna.see("a", strict=1)
    nothing(anna, asked)
    [said] = anna.wrong
    assert "violates the following Content Security Policy directive" in said
