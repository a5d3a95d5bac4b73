"""The admin's pages in a real Chromium, by day and by night, on a desk and a phone."""

import os

import pytest
from playwright.sync_api import expect

from affiliations.experiments import publishing
from affiliations.experiments.models import Environment
from tests.browser import assert_readable, complaints, forbid_inline, in_every_look
from tests.experiments.factories import (
    BLUE,
    ORIGINAL,
    make_assignment,
    make_campaign,
    make_exclusion,
)
from tests.tracking.factories import make_property

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ADMIN = "/admin/affiliations_experiments/"
GOLD = [
    [
        {"key": "plan", "operator": "EQUALS", "value": ["gold", "platinum"]},
        {"key": "orders", "operator": "GREATER_THAN", "value": 3},
    ],
    [{"key": "fs_users", "operator": "EQUALS", "value": "a-tester-of-ours"}],
]
LONG = "A quite long name of a variation that somebody has thought about for a while"


@pytest.fixture
def busy(transactional_db):
    """A shop with a campaign of two groups, that has been changed since it was started."""
    shop = make_property(name="Bicycles")
    exclusion = make_exclusion(shop, name="Checkout")
    make_campaign(shop, name="Free delivery", slug="delivery", exclusion=exclusion)
    campaign = make_campaign(
        shop,
        name="Checkout: a button that can be seen",
        slug="checkout-button",
        exclusion=exclusion,
        exclusion_share=40,
        groups=[
            {
                "name": "Good customers",
                "targeting": GOLD,
                "variations": [
                    {**ORIGINAL, "allocation": 20},
                    {
                        "name": LONG,
                        "allocation": 30,
                        "modifications": {
                            "color": "blue",
                            "discount": 1.0,
                            "free": True,
                            "steps": [1, 2, {"last": "pay"}],
                        },
                    },
                    {"name": "Green", "allocation": 25, "modifications": {"color": "green"}},
                ],
            },
            {"variations": [ORIGINAL, BLUE]},
        ],
    )
    make_assignment(campaign.groups.first().variations.first(), "visitor-1")
    blue = campaign.groups.last().variations.last()
    blue.allocation = 20
    blue.save()
    publishing.publish(campaign=campaign)
    blue.allocation = 40
    blue.modifications = '{"color": "navy"}'
    blue.save()
    return campaign


def see(page, name):
    assert_readable(page, "#content")
    if directory := os.environ.get("SHOTS"):
        looks = page.evaluate("[matchMedia('(prefers-color-scheme: dark)').matches, innerWidth]")
        page.screenshot(path=f"{directory}/{name}-{looks[0]}-{looks[1]}.png", full_page=True)


@pytest.fixture
def opened(staff):
    """Open a page in a look, that may not complain of anything."""
    found = []

    def made(scheme, window):
        context = staff(color_scheme=scheme, viewport=window)
        found.append(complaints(context))
        forbid_inline(context)
        return context.new_page()

    yield made
    assert not any(found)


@in_every_look
def test_campaigns(opened, busy, scheme, window):
    page = opened(scheme, window)
    page.goto(f"{ADMIN}campaign/")
    see(page, "campaigns")
    page.get_by_role("link", name="Checkout: a button").click()
    expect(page.get_by_text("What is in force differs from this page")).to_be_visible()
    see(page, "campaign")
    page.get_by_role("button", name="Put changes into force").click()
    expect(page.locator("h1")).to_have_text("Put the changes into force?")
    see(page, "publishing")
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_text("All that is on this page is in force")).to_be_visible()
    page.get_by_role("link", name="Version 3").click()
    see(page, "version")


@in_every_look
def test_groups(opened, busy, scheme, window):
    page = opened(scheme, window)
    page.goto(f"{ADMIN}campaign/{busy.pk}/change/")
    page.get_by_role("link", name="Change this group").first.click()
    see(page, "group")
    page.get_by_label("Condition 4: what").fill("country")
    page.get_by_label("Condition 4: block").fill("3")
    page.get_by_label("Condition 4: values").fill("Ελλάδα\nDeutschland")
    page.locator("[name=variations-1-modifications]").fill('{"color": "a", "color": "b"}')
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("color must be given once")).to_be_visible()
    see(page, "group-wrong")
    page.locator("[name=variations-1-modifications]").fill('{"color": "a"}')
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("country is “Ελλάδα” or “Deutschland”").first).to_be_visible()
    page.get_by_role("link", name="Add a group").click()
    see(page, "group-new")
    # By the script of the admin itself.
    page.get_by_text("Add another Variation").click()
    see(page, "group-new-more")


@in_every_look
def test_explaining(opened, busy, scheme, window):
    page = opened(scheme, window)
    page.goto(f"{ADMIN}campaign/{busy.pk}/change/")
    page.get_by_role("link", name="Who sees what?").click()
    see(page, "explain")
    page.get_by_label("Visitor’s id").fill("visitor-1")
    page.get_by_label("What is known").fill("plan = gold\norders = 7")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator(".aff-sentence")).to_be_visible()
    see(page, "explained")


@in_every_look
def test_all_else(opened, busy, scheme, window):
    page = opened(scheme, window)
    page.goto(f"{ADMIN}campaign/add/")
    see(page, "campaign-new")
    page.goto(f"{ADMIN}assignment/")
    see(page, "assignments")
    page.locator("#result_list th a").first.click()
    see(page, "assignment")
    page.goto(f"{ADMIN}exclusion/")
    see(page, "exclusions")
    page.get_by_role("link", name="Checkout", exact=True).click()
    see(page, "exclusion")
    page.goto(f"{ADMIN}environment/{Environment.objects.get().pk}/change/")
    see(page, "environment")
    page.get_by_role("button", name="Panic").click()
    see(page, "panic")
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_text("panic: nobody sees anything")).to_be_visible()
    see(page, "environments")
    page.goto(f"{ADMIN}campaign/{busy.pk}/change/")
    expect(page.get_by_role("alert")).to_be_visible()
    see(page, "campaign-panic")
