"""The admin of rules and groups in a real Chromium, by day and by night, on a desk and a phone."""

import os
import re
from datetime import timedelta
from decimal import Decimal
from threading import Event

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from affiliations.rewards import replay as replaying
from affiliations.rewards import rules
from affiliations.rewards.models import CommissionRule, PartnerGroup
from tests.browser import PHONE, assert_readable, complaints, in_every_look
from tests.core.factories import make_partner
from tests.rewards.factories import ORDER, convert, make_rule
from tests.rewards.test_admin_rules import address

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'"


@pytest.fixture
def busy(transactional_db):
    """Rules in every state, and partners who have earned by them."""
    now = timezone.now()
    begun = now - timedelta(days=9)
    partners = [make_partner(name=f"Partner number {n} with a name") for n in range(4)]
    gold = PartnerGroup.objects.create(name="Gold partners")
    gold.partners.set(partners[2:])
    old = make_rule(
        8,
        name="Everybody, 8 %",
        published_on=begun,
        currency="EUR",
        tiers=[[10, "9.5"], [100, "12"]],
        cap_minor=50_000,
    )
    make_rule(flat_minor=500, currency="JPY", name="Flat", published_on=begun, group=gold)
    make_rule(10, name="Summer", published_on=begun, valid_until=now - timedelta(days=2))
    make_rule(10, name="Winter", valid_from=now + timedelta(days=20), trigger=ORDER)
    for number, partner in enumerate(partners):
        convert(partner, minor=10_000 * (number + 1))
    for partner in partners[:2]:
        convert(partner, minor=9999, currency="JPY")
    new = rules.draft_replacement(old)
    new.name, new.percent = "Everybody, 9 %", Decimal(9)
    new.save()
    make_rule(2, published_on=None, name="Less for number 3", partner=partners[3], months=12)
    return old, new


def look(page, path):
    page.goto(path)
    see(page, re.sub(r"\W+", "-", path.removeprefix("/admin/affiliations_rewards/")))


def see(page, name):
    assert_readable(page, "#content")
    if directory := os.environ.get("SHOTS"):
        looks = page.evaluate("[matchMedia('(prefers-color-scheme: dark)').matches, innerWidth]")
        page.screenshot(path=f"{directory}/{name}-{looks[0]}-{looks[1]}.png", full_page=True)


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


@in_every_look
def test_every_page_can_be_read(staff, busy, scheme, window):
    old, new = busy
    context = staff(color_scheme=scheme, viewport=window)
    wrong = complaints(context)
    page = context.new_page()
    look(page, address("commissionrule_changelist"))
    look(page, address("commissionrule_change", old.pk))
    look(page, address("commissionrule_change", new.pk))
    look(page, address("partnergroup_changelist"))
    look(page, address("partnergroup_change", PartnerGroup.objects.get().pk))
    look(page, address("partnergroup_add"))

    look(page, address("commissionrule_add"))
    page.locator("#id_name").fill("Spring")
    page.locator("#id_cap_minor").fill("5")
    page.get_by_label("Tier 1: after the first").fill("10")
    press(page, "Save")
    expect(page.get_by_text("There are sums in the rule: in which currency?")).to_have_count(1)
    see(page, "errors")

    page.goto(address("commissionrule_change", new.pk))
    press(page, "Publish")
    expect(page.locator("h1")).to_have_text("Publish this rule?")
    see(page, "publish")
    page.goto(address("commissionrule_change", old.pk))
    press(page, "Let it end")
    see(page, "end")

    look(page, address("commissionrule_what_if"))
    press(page, "Work it out")
    expect(page.locator(".aff-result")).to_be_visible()
    expect(page.locator(".aff-step:visible")).to_have_count(0)
    see(page, "answer")
    assert wrong == []


def test_nothing_needs_inline_script_or_style(staff, busy):
    old, new = busy
    context = staff()
    wrong = complaints(context)

    def answer(route):
        response = route.fetch(max_redirects=0)
        route.fulfill(
            response=response, headers={**response.headers, "content-security-policy": POLICY}
        )

    context.route("**/admin/**", answer)
    page = context.new_page()
    for name, *args in [
        ("commissionrule_changelist",),
        ("commissionrule_add",),
        ("commissionrule_change", old.pk),
        ("commissionrule_change", new.pk),
        ("partnergroup_change", PartnerGroup.objects.get().pk),
        ("commissionrule_what_if",),
    ]:
        page.goto(address(name, *args))
        assert_readable(page, "#content")
    press(page, "Work it out")
    bar = page.locator("svg.aff-differences .aff-less")
    fill = "each => getComputedStyle(each).fill"
    assert bar.first.evaluate(fill) != page.locator(".aff-more").first.evaluate(fill)
    expect(page.locator(".aff-step:visible")).to_have_count(0)
    assert wrong == []


@pytest.mark.parametrize("window", [None, PHONE], ids=["desk", "phone"])
def test_a_rule_is_drafted_tried_published_changed_and_let_end(staff, busy, window):
    context = staff(**({"viewport": window} if window else {}))
    wrong = complaints(context)
    page = context.new_page()
    page.goto(address("commissionrule_add"))
    page.locator("#id_name").fill("Spring")
    page.locator("#id_flat_minor").fill("5")
    page.locator("#id_currency").select_option("EUR")
    page.get_by_label("Tier 1: after the first").fill("100")
    page.get_by_label("Tier 1: it pays").fill("7.50")
    press(page, "Save")
    expect(page.locator(".messagelist")).to_contain_text("The draft was saved.")
    rule = CommissionRule.objects.get(name="Spring")
    assert (rule.flat_minor, rule.tiers) == (500, [[100, 750]])
    preview = page.locator("section", has=page.locator("#aff-preview"))
    expect(preview.locator("tbody tr").first).to_contain_text(re.compile("5.00.EUR.*7.50.EUR"))

    page.get_by_role("link", name="What if…").click()
    expect(page.get_by_role("checkbox", checked=True)).to_have_count(1)
    press(page, "Work it out")
    expect(page.locator(".aff-result tfoot")).to_contain_text([re.compile("EUR")])

    page.goto(address("commissionrule_change", rule.pk))
    press(page, "Publish")
    press(page, "Yes, I’m sure")
    expect(page.locator(".messagelist")).to_contain_text("“Spring” is published.")
    rule.refresh_from_db()
    assert rule.is_published
    press(page, "Change it")
    expect(page.locator(".messagelist")).to_contain_text("This draft replaces “Spring”")
    expect(page.get_by_label("Tier 1: it pays")).to_have_value("7.50")
    page.get_by_role("link", name="Spring", exact=True).click()
    press(page, "Let it end")
    press(page, "Yes, I’m sure")
    expect(page.locator(".messagelist")).to_contain_text("“Spring” ends in 10 seconds.")
    assert wrong == []


def test_partners_are_found_by_name_and_come_into_a_group(staff, busy):
    context = staff()
    wrong = complaints(context)
    page = context.new_page()
    group = PartnerGroup.objects.get()
    page.goto(address("partnergroup_change", group.pk))
    page.locator(".field-come .select2-search__field").fill("number 1")
    page.get_by_role("option", name="Partner number 1 with a name").click()
    press(page, "Save")
    expect(page.locator(".messagelist")).to_contain_text("was changed successfully")
    assert group.partners.count() == 3
    assert wrong == []


@in_every_look
def test_one_bar_at_a_time_says_how_far_it_is(staff, busy, monkeypatch, scheme, window):
    """The server is held up in the midst of it: the page is there, and so is the last bar."""
    go_on = Event()
    monkeypatch.setattr(replaying, "BATCH", 1)
    for name in ("PATIENCE", "EVERY"):
        monkeypatch.setattr(f"affiliations.admin.progress.{name}", -1)
    real = replaying.Replay.run

    def slow(self):
        for done, total in real(self):
            yield done, total
            if done == 3:
                assert go_on.wait(60)

    monkeypatch.setattr(replaying.Replay, "run", slow)
    context = staff(color_scheme=scheme, viewport=window)
    wrong = complaints(context)
    page = context.new_page()
    page.goto(address("commissionrule_what_if"))
    try:
        page.get_by_role("button", name="Work it out").click(no_wait_after=True)
        steps = page.locator(".aff-step")
        expect(steps).to_have_count(5)
        expect(page.locator(".aff-step:visible")).to_have_count(1)
        expect(page.locator(".aff-step:visible")).to_have_text("3 of 6 conversions")
        expect(page.locator(".aff-step:visible")).to_be_in_viewport(ratio=1)
        if directory := os.environ.get("SHOTS"):
            page.screenshot(path=f"{directory}/progress-{scheme}-{window['width']}.png")
    finally:
        go_on.set()
    expect(page.locator(".aff-result")).to_be_visible()
    expect(page.locator(".aff-step:visible")).to_have_count(0)
    assert_readable(page, "#content")
    assert wrong == []
