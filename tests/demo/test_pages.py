"""The demo's pages in a real Chromium, from the partner's link to the partner's log."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from .conftest import Demo

pytestmark = pytest.mark.browser

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Chromium without a head says so, and is then taken for the robot that it is.
PERSON = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36"
)
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def demo(open_demo, tmp_path_factory) -> Iterator[Demo]:
    with open_demo(tmp_path_factory.mktemp("demo") / "demo.sqlite3") as running:
        yield running


@pytest.fixture
def new_context(chromium, monkeypatch) -> Iterator[Any]:
    # Playwright leaves its event loop running in this thread, which Django takes for async code.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS])
        yield browser.new_context
        browser.close()


def complaints(context: BrowserContext) -> list[str]:
    """Collect whatever goes wrong in the pages of a context."""
    found: list[str] = []
    context.on("console", lambda each: each.type == "error" and found.append(each.text))
    context.on("weberror", lambda each: found.append(str(each.error)))
    context.on("response", lambda each: each.status >= 400 and found.append(each.url))
    return found


def assert_readable(page: Page) -> None:
    """See that a page fits its window, that its text stands out, and that its fields are named."""
    page.wait_for_load_state("load")
    wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window, f"{page.url} scrolls sideways: {wide} px in {window}"
    assert page.evaluate(CONTRAST) == [], page.url
    assert page.locator("h1").count() == 1, page.url
    unnamed = "[...document.querySelectorAll('input:not([type=hidden])')].filter(e => !e.labels[0])"
    assert page.evaluate(f"{unnamed}.length") == 0, page.url


@pytest.mark.parametrize(
    ("scheme", "window"),
    [("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE), ("dark", PHONE)],
    ids=["light", "dark", "light-phone", "dark-phone"],
)
def test_from_the_link_to_the_log(demo, new_context, scheme, window):
    context = new_context(
        base_url=demo.url, color_scheme=scheme, viewport=window, user_agent=PERSON
    )
    wrong = complaints(context)
    log = context.new_page()
    log.goto("/partner-site/log/")
    before = log.get_by_text("signature verified").count()
    assert_readable(log)

    page = context.new_page()
    page.goto("/partner-site/")
    assert_readable(page)
    page.get_by_role("link", name="Rain teapot").click()

    expect(page).to_have_url(f"{demo.url}/products/rain-teapot/?sub1=teapot")
    strip = page.get_by_role("complementary", name="What just happened")
    expect(strip).to_contain_text(re.compile(r"Blog of Anna\s+sent\s+visitor \d+"))
    expect(strip).to_contain_text("No conversion yet")
    assert_readable(page)
    page.get_by_role("link", name="Sign up to order").click()
    assert_readable(page)
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("a password")
    page.get_by_role("button", name="Create my account").click()
    expect(page.get_by_text("A user with that username already exists.")).to_be_visible()
    assert_readable(page)
    page.get_by_label("Username").fill(f"mia-{scheme}-{window['width']}")
    page.get_by_label("Password").fill("a password")
    page.get_by_role("button", name="Create my account").click()

    expect(page).to_have_url(f"{demo.url}/products/rain-teapot/")
    expect(strip).to_contain_text(re.compile(r"User registered\s+partner told"))
    assert_readable(page)
    page.get_by_role("button", name="Order now").click()

    expect(page.get_by_role("heading", level=1)).to_contain_text("Order HK")
    expect(strip).to_contain_text(re.compile(r"Order placed, 68.00 EUR\s+partner told"))
    assert_readable(page)

    # The log renews itself: nobody has touched that page since.
    expect(log.get_by_text("signature verified")).to_have_count(before + 2)
    expect(log.locator(".calls > li").first).to_contain_text("68.00")
    assert_readable(log)

    page.get_by_role("button", name="Refund this order").click()
    expect(page.get_by_role("status")).to_contain_text("is refunded")
    expect(strip).to_contain_text(re.compile(r"Order placed, 68.00 EUR\s+taken back"))
    page.get_by_role("link", name="Orders").click()
    expect(page.get_by_text("refunded", exact=True)).to_be_visible()
    assert_readable(page)
    page.get_by_role("link", name="Harbour Kiln", exact=True).click()
    assert_readable(page)
    page.get_by_role("button", name="Log out").click()
    expect(strip).to_contain_text("Nobody sent you here")
    page.get_by_role("link", name="Log in").click()
    assert_readable(page)

    assert wrong == []


def test_each_site_and_each_scheme_looks_its_own_way(demo, new_context):
    grounds = set()
    for scheme in ("light", "dark"):
        page = new_context(base_url=demo.url, color_scheme=scheme).new_page()
        for path in ("/", "/partner-site/"):
            page.goto(path)
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 4


def test_it_can_be_used_without_a_mouse(demo, new_context):
    page = new_context(base_url=demo.url).new_page()
    page.goto("/")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    seen = set()
    for _ in range(6):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
    assert seen == {"solid"}


def test_staff_are_led_to_the_visitor(demo, new_context):
    context = new_context(base_url=demo.url, user_agent=PERSON)
    wrong = complaints(context)
    page = context.new_page()
    page.goto("/partner-site/")
    page.get_by_role("link", name="Morning mug").click()
    strip = page.get_by_role("complementary", name="What just happened")
    address = strip.get_by_role("link", name=re.compile("^visitor ")).get_attribute("href")

    staff = new_context(base_url=demo.url).new_page()
    staff.goto(address)
    staff.get_by_label("Username").fill("admin")
    staff.get_by_label("Password").fill("admin")
    staff.get_by_role("button", name="Log in").click()

    expect(staff).to_have_url(f"{demo.url}{address}")
    expect(staff.locator("#content")).to_contain_text("Blog of Anna")
    assert wrong == []
