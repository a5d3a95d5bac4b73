"""The report's page in a real Chromium, by day and by night, on a desk and a phone."""

import os

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from tests.attribution.factories import DAY, START, converted, touched
from tests.browser import assert_readable, complaints, forbid_inline, in_every_look
from tests.core.factories import make_partner, make_user
from tests.tracking.factories import make_property, say

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

URL = "/admin/affiliations_attribution/attributionreport/"


@pytest.fixture
def busy(transactional_db):
    """People whom several partners brought, and who then bought in two currencies."""
    shop = make_property()
    names = [
        "Anna’s bicycles",
        "Bert’s long list of things to buy for the garden",
        "Carl",
        "<b>D</b>",
    ]
    partners = [make_partner(name=name) for name in names]
    today = (timezone.now() - START) // DAY
    ways = [(0,), (0, 1), (1, 1, 2), (2, 0, 1), (None, 3), (3, 2, 2, 0, None, 1, 2)]
    for number in range(24):
        way = ways[number % len(ways)]
        user = make_user()
        say(shop, f"user:{user.pk} cookie:c{number}")
        for step, which in enumerate(way):
            partner = None if which is None else partners[which].pk
            day = today - 3 - (number % 7) * (len(way) - step)
            touched(shop, f"cookie:c{number}", f"s{which}", day, partner_id=partner)
        money = {"minor": 5000 + 777 * number, "currency": "JPY" if number % 4 == 3 else "EUR"}
        converted(shop, user, today - 2, **money)
    converted(shop, make_user(), today - 2, minor=100, currency="EUR")
    return shop


def see(page, name):
    assert_readable(page, "#content")
    if directory := os.environ.get("SHOTS"):
        looks = page.evaluate("[matchMedia('(prefers-color-scheme: dark)').matches, innerWidth]")
        page.screenshot(path=f"{directory}/{name}-{looks[0]}-{looks[1]}.png", full_page=True)


@in_every_look
def test_the_report_can_be_read(staff, busy, scheme, window):
    context = staff(color_scheme=scheme, viewport=window)
    wrong = complaints(context)
    forbid_inline(context)
    page = context.new_page()
    page.goto("/admin/affiliations_attribution/")
    page.locator("#content-main").get_by_role("link", name="Attribution report").click()
    expect(page.locator("h1")).to_have_text("Attribution")
    expect(page.locator(".aff-result")).to_be_visible()
    see(page, "usual")
    for box in page.locator("[name=model]").all():
        box.check()
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_text("The W shape needs to know")).to_be_visible()
    see(page, "wrong")
    page.get_by_label("Trigger of leads").select_option("User registered")
    page.get_by_label("By", exact=True).select_option("source")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator(".aff-legend li")).to_have_count(9)
    page.get_by_text("The same as a list").click()
    see(page, "all")
    assert wrong == []
