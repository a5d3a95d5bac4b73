"""The demo's pages in a real Chromium, from the partner's link to the partner's log."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser import assert_readable, complaints, in_every_look

from .conftest import Demo

pytestmark = pytest.mark.browser

# Chromium without a head says so, and is then taken for the robot that it is.
PERSON = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36"
)


@pytest.fixture(scope="module")
def demo(open_demo, tmp_path_factory) -> Iterator[Demo]:
    with open_demo(tmp_path_factory.mktemp("demo") / "demo.sqlite3") as running:
        yield running


@in_every_look
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
    page.locator("form button.button").click()

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


@in_every_look
def test_from_the_network_and_back_to_it(demo, new_context, scheme, window):
    context = new_context(
        base_url=demo.url, color_scheme=scheme, viewport=window, user_agent=PERSON
    )
    wrong = complaints(context)
    network = context.new_page()
    network.goto("/network/")
    postbacks = network.locator(".events > .postback")
    before = postbacks.count()
    assert_readable(network)

    page = context.new_page()
    page.goto("/network/")
    first = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="Rain teapot"))
    link = first.get_by_role("link")
    # What is shown, and copied, is where the button leads, however it is broken into lines.
    assert first.locator("code").text_content() == link.get_attribute("href")
    link.click()

    expect(page).to_have_url(f"{demo.url}/products/rain-teapot/")
    strip = page.get_by_role("complementary", name="What just happened")
    expect(strip).to_contain_text(re.compile(r"Fairlead\s+sent\s+visitor \d+"))
    assert_readable(page)
    page.get_by_role("link", name="Sign up to order").click()
    page.get_by_label("Username").fill(f"noa-{scheme}-{window['width']}")
    page.get_by_label("Password").fill("a password")
    page.get_by_role("button", name="Create my account").click()
    page.locator("form button.button").click()
    number = page.get_by_role("heading", level=1).inner_text().removeprefix("Order ")
    expect(strip).to_contain_text(re.compile(r"Link completed, 68.00 EUR\s+partner told"))
    assert_readable(page)

    # The page renews itself: nobody has touched it since.
    expect(postbacks).to_have_count(before + 1)
    expect(postbacks.first).to_contain_text("approved")
    expect(postbacks.first).to_contain_text(f"adv_sub={number}")
    expect(postbacks.first).to_contain_text("success=true;")
    assert_readable(network)

    # Whoever has bought it, and comes through the network once more, is led to the order.
    back = context.new_page()
    back.goto("/network/")
    back.get_by_role("link", name="Follow the link to Rain teapot, offer 318").click()
    expect(back).to_have_url(f"{demo.url}/orders/{number}/")

    page.get_by_role("button", name="Refund this order").click()
    expect(strip).to_contain_text(re.compile(r"Link completed, 68.00 EUR\s+taken back"))
    strip.get_by_role("link", name="What the partner heard").click()
    expect(page).to_have_url(f"{demo.url}/network/")
    expect(postbacks).to_have_count(before + 2)
    expect(postbacks.first).to_contain_text("taken back")
    assert_readable(network)
    context.request.get(f"{demo.url}/network/aff_lsr?transaction_id=nobody")
    expect(postbacks.first).to_contain_text("refused")
    assert_readable(network)

    assert wrong == []


def test_each_site_and_each_scheme_looks_its_own_way(demo, new_context):
    grounds = set()
    for scheme in ("light", "dark"):
        page = new_context(base_url=demo.url, color_scheme=scheme).new_page()
        for path in ("/", "/partner-site/", "/network/"):
            page.goto(path)
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 6


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

    staff.goto("/admin/affiliations/subscription/")
    annas = staff.get_by_role("row").filter(has_text="Blog of Anna")
    annas.get_by_role("link", name="Order placed").click()
    staff.get_by_role("button", name="Send a test").click()
    expect(staff.locator(".messagelist")).to_contain_text("A signed test is on its way")
    page.goto("/partner-site/log/")
    entry = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="A test"))
    expect(entry).to_contain_text("signature verified")
    assert wrong == []
