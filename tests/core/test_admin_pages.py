"""The admin's pages in a real Chromium, by daylight and by night, on a desk and on a phone."""

import re

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from affiliations.models import Callback, Conversion, Partner, Subscription, Visitor
from affiliations.services import record_conversion
from tests.browser import assert_readable, complaints, in_every_look
from tests.core.factories import make_partner, make_user, make_visitor

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def busy(transactional_db):
    """A partner with visitors, conversions, and a callback in every state."""
    # Nobody listens there: the first attempt, made at once, is refused.
    partner = make_partner({"Order placed": "http://127.0.0.1:1/?v={visitor_id}"}, name="Anna")
    for number, state in enumerate(Callback.State):
        visitor = make_visitor(partner, user=make_user(), entry_point=f"https://s.example/{number}")
        known = {visitor.pk: "session"}
        record_conversion(trigger="Order placed", known=known, reference=f"A-{number}")
        Callback.objects.filter(conversion__visitor=visitor).update(state=state)
    return partner


MODELS = (Subscription, Visitor, Conversion, Callback)


@in_every_look
def test_every_page_can_be_read(staff, busy, scheme, window):
    context = staff(color_scheme=scheme, viewport=window)
    wrong = complaints(context)
    page = context.new_page()
    lists = [
        reverse(f"admin:affiliations_{name}_changelist")
        for name in ("partner", "subscription", "visitor", "conversion", "callback", "apikey")
    ]
    rows = [
        reverse(f"admin:affiliations_{row._meta.model_name}_change", args=[row.pk])
        for row in (busy, *(model.objects.first() for model in MODELS))
    ]
    others = [
        reverse("admin:affiliations_partner_secret", args=[busy.pk]),
        reverse("admin:affiliations_apikey_add"),
    ]
    for path in [*lists, *rows, *others]:
        page.goto(path)
        assert_readable(page, "#content")
    assert wrong == []


def test_the_link_is_copied(staff, busy, live_server):
    context = staff(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    for path in ("partner_changelist", "partner_change"):
        args = [busy.pk] if path == "partner_change" else []
        page.goto(reverse(f"admin:affiliations_{path}", args=args))
        button = page.get_by_role("button", name=re.compile("^Copy the link"))
        button.click()
        expect(button).to_have_text("Copied")
        link = busy.link(live_server.url + "/")
        assert page.evaluate("navigator.clipboard.readText()") == link


def test_the_charts_stand_as_high_as_the_numbers_are(staff, busy):
    page = staff().new_page()
    page.goto(reverse("admin:affiliations_partner_change", args=[busy.pk]))
    bars = page.locator("svg.aff-daily .aff-bar")
    heights = [bars.nth(index).bounding_box()["height"] for index in range(2)]
    # Six of at most ten each, of a panel that is as high as the page makes it.
    panel = page.locator("svg.aff-daily .aff-axis").first.bounding_box()["y"]
    top = page.locator("svg.aff-daily .aff-grid").first.bounding_box()["y"]
    for height in heights:
        assert height == pytest.approx((panel - top) * len(Callback.State) / 10, rel=0.05)
    page.get_by_text("The same as a table").click()
    first = page.locator(".aff-table tbody tr").first
    assert first.locator("td").all_inner_texts() == [str(len(Callback.State))] * 2


def test_a_secret_is_issued_and_a_conversion_taken_back_by_clicking(staff, busy):
    page = staff().new_page()
    page.goto(reverse("admin:affiliations_partner_change", args=[busy.pk]))
    page.get_by_role("link", name="Issue a new signing secret").click()
    page.get_by_role("button", name="Issue a new signing secret").click()
    shown = page.locator(".aff-secret").inner_text()
    assert shown.startswith("whsec_")
    page.get_by_role("link", name="I have copied it").click()
    expect(page.locator("h1")).to_be_visible()
    assert shown not in page.content()
    assert Partner.objects.get().previous_until

    conversion = Conversion.objects.earliest("pk")
    page.goto(reverse("admin:affiliations_conversion_change", args=[conversion.pk]))
    page.get_by_role("button", name="Take back").click()
    page.get_by_role("button", name="Yes, I’m sure").click()
    expect(page.locator(".messagelist")).to_contain_text("taken back")
    conversion.refresh_from_db()
    assert conversion.reversed_on
