"""The admin of links in a real Chromium, by daylight and by night, on a desk and on a phone."""

import re

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from affiliations.links import services
from affiliations.links.models import LandingPage, Link, Transaction
from affiliations.models import Callback
from affiliations.outcomes import REFUSED
from tests.browser import PHONE, assert_readable, complaints, forbid_inline, in_every_look
from tests.core.factories import make_partner, make_user
from tests.links.factories import make_link, make_transaction
from tests.links.test_admin_links import address

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
GOOD = "item_id,landing_page\ncourse-1,https://shop.example/1\ncourse-2,https://shop.example/2\n"
BAD = GOOD + ",nowhere\n"


@pytest.fixture
def busy(transactional_db):
    """A link with clicks, and purchases of which the network has heard in every way."""
    partner = make_partner(name="Anna’s blog")
    # Nobody listens there: the first attempt, made at once, is refused.
    called = "http://127.0.0.1:1/aff_lsr?transaction_id={transaction_id}&amount={amount}"
    link = make_link(callback_url=called, partner=partner, currency="EUR", floor_minor=1000)
    LandingPage.objects.create(link=link, url="https://shop.example/other", weight=3)
    make_transaction(link)
    for number, state in enumerate(Callback.State):
        user = make_user()
        make_transaction(link, user=user)
        sold = services.complete(
            item_id=link.item_id, user=user, amount=40 + number, order_id=f"A-{number}"
        )
        reason = f"{REFUSED} It said: success=false" if state == "refused" else ""
        Callback.objects.filter(pk=sold.relay.pk).update(state=state, reason=reason, attempts=1)
    services.refund_transaction(sold)
    make_link(active=False, path="switched-off")
    services.delete_link(make_link(path="Gone-for-good").path)
    return link


def look(page, path):
    page.goto(path)
    assert_readable(page, "#content")


def check(page, text):
    """Have the page of the import look at a file."""
    page.goto(address("link_import"))
    page.get_by_label("Or paste it").fill(text)
    page.get_by_role("button", name="Check it").click()


@in_every_look
def test_every_page_can_be_read(staff, busy, scheme, window):
    context = staff(color_scheme=scheme, viewport=window)
    wrong = complaints(context)
    page = context.new_page()
    look(page, address("link_changelist"))
    look(page, address("link_changelist") + "?deleted=all")
    look(page, address("link_change", busy.pk))
    look(page, address("link_change", busy.pk) + "?deep=/courses/painting")
    look(page, address("link_change", busy.pk) + "?deep=//evil.example")
    look(page, address("link_change", Link.objects.get(path="Gone-for-good").pk))
    look(page, address("transaction_changelist"))
    for row in Transaction.objects.all():
        look(page, address("transaction_change", row.pk))
    look(page, reverse("admin:affiliations_apikey_add"))

    look(page, address("link_add"))
    page.locator("summary").first.click()
    assert_readable(page, "#content")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("This field is required.")).to_have_count(2)
    assert_readable(page, "#content")

    check(page, BAD)
    assert_readable(page, "#content")
    check(page, GOOD)
    assert_readable(page, "#content")
    page.get_by_role("button", name="Make 2 links").click()
    expect(page.locator("h1")).to_have_text("Imported links")
    assert_readable(page, "#content")

    page.goto(address("link_change", busy.pk))
    page.get_by_role("button", name="Delete", exact=True).click()
    assert_readable(page, "#content")
    page.goto(address("transaction_change", Transaction.objects.filter(state="completed")[0].pk))
    page.get_by_role("button", name="Refund").click()
    assert_readable(page, "#content")
    assert wrong == []


def test_nothing_needs_inline_script_or_style(staff, busy):
    context = staff()
    wrong = complaints(context)
    forbid_inline(context)
    page = context.new_page()
    look(page, address("link_changelist"))
    look(page, address("link_add"))
    look(page, address("transaction_changelist"))
    check(page, GOOD)
    page.goto(address("link_change", busy.pk) + "?deep=/courses/painting")
    qr = page.get_by_role("img", name="QR code of the address").locator("svg")
    assert qr.bounding_box()["width"] == 144
    bars = page.locator("svg.aff-daily .aff-bar")
    assert bars.first.evaluate("each => getComputedStyle(each).fill") != "rgb(0, 0, 0)"
    assert wrong == []


@pytest.mark.parametrize("window", [None, PHONE], ids=["desk", "phone"])
def test_a_link_is_generated_and_copied_by_keyboard_alone(staff, transactional_db, window):
    options = {"viewport": window} if window else {}
    context = staff(permissions=["clipboard-read", "clipboard-write"], **options)
    wrong = complaints(context)
    page = context.new_page()
    page.goto(address("link_add"))
    # Where the landing page is pasted one is at once.
    expect(page.locator("#id_landing_page")).to_be_focused()
    page.keyboard.type("https://shop.example/courses/drawing")
    page.keyboard.press("Tab")
    page.keyboard.type("course-7")
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("ready to be copied")
    link = Link.objects.get()
    button = page.get_by_role("button", name="Copy the address", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.endswith(f"/router/{link.path}")
    page.get_by_label("Path", exact=True).focus()
    page.keyboard.type("/courses/painting")
    page.keyboard.press("Enter")
    deep = page.locator(".aff-shown code").inner_text()
    assert deep.startswith(copied + "/")
    assert wrong == []


def test_it_is_tried_out_in_a_new_tab(staff, busy, live_server):
    Link.objects.filter(pk=busy.pk).update(landing_page=f"{live_server.url}/echo/")
    LandingPage.objects.all().delete()
    page = staff().new_page()
    page.goto(address("link_change", busy.pk))
    before = busy.transactions.count()
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Open it in a new tab").click()
    expect(opened.value).to_have_url(re.compile("/echo/"))
    # As the page has said, this click does not count.
    assert busy.transactions.count() == before


def test_the_qr_code_is_downloaded(staff, busy, tmp_path):
    page = staff().new_page()
    page.goto(address("link_change", busy.pk))
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download the QR code").click()
    assert saved.value.suggested_filename == f"{busy.path}.svg"
    assert saved.value.path().read_bytes().startswith(b"<?xml")


def test_a_file_is_imported_and_downloaded_by_clicking(staff, transactional_db, tmp_path):
    page = staff().new_page()
    page.goto(address("link_changelist"))
    page.get_by_role("link", name="Import CSV").click()
    file = tmp_path / "links.csv"
    file.write_text(BAD)
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_role("button", name="Check it").click()
    expect(page.locator(".errornote")).to_contain_text("1 of 3 lines cannot be imported")
    first = page.locator(".aff-lines tbody tr").first
    expect(first).to_contain_text("landing_page: The URL must start with http")
    file.write_text(GOOD)
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_label("Or paste it").fill("")
    page.get_by_role("button", name="Check it").click()
    assert not Link.objects.exists()
    page.get_by_role("button", name="Make 2 links").click()
    expect(page.locator(".aff-lines tbody tr")).to_have_count(2)
    assert Link.objects.count() == 2
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download these as CSV").click()
    text = saved.value.path().read_text(encoding="utf-8-sig")
    assert all(f"/router/{link.path}" in text for link in Link.objects.all())


def test_a_purchase_is_refunded_by_clicking(staff, busy):
    row = Transaction.objects.filter(relay__state="delivered", state="completed").get()
    page = staff().new_page()
    page.goto(address("transaction_change", row.pk))
    page.get_by_role("button", name="Refund").click()
    expect(page.locator("#content")).to_contain_text("is told now that it does not count")
    page.get_by_role("button", name="Yes, I’m sure").click()
    expect(page.locator(".messagelist")).to_contain_text("1 purchase was refunded.")
    row.refresh_from_db()
    assert row.state == "refunded"
    assert "status=rejected" in row.adjustment.url
