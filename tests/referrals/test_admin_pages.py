"""The admin of referrals in a real Chromium, by day and by night, on a desk and on a phone."""

import os
import re

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from affiliations.referrals import invoices, services
from affiliations.referrals.models import Member
from tests.browser import PHONE, assert_readable, complaints, forbid_inline, in_every_look
from tests.core.factories import make_user
from tests.referrals.factories import euros, make_member, make_program
from tests.referrals.test_admin import address

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def busy(transactional_db):
    """Programs in every state, and somebody who has brought more people than a page has."""
    make_program(name="A friend of a friend", depth=2, valid_from=timezone.now())
    make_program(name="Last winter’s, which is over", active=False, reward_minor=None)
    program = make_program(name="Bring a friend", credit_minor=750)
    anna = services.register("f" * 64, program=program, user=make_user("anna@example.com"))
    brought = [make_member(anna) for _ in range(30)]
    for number, each in enumerate(brought):
        invoices.report_total(each, euros(number * 8))
    invoices.report_total(brought[-1], euros(1))
    return make_member(brought[0]).indicator.indicator


def look(page, path):
    page.goto(path)
    see(page, re.sub(r"\W+", "-", path.removeprefix("/admin/affiliations_referrals/")))


def see(page, name):
    assert_readable(page, "#content")
    if directory := os.environ.get("SHOTS"):
        looks = page.evaluate("[matchMedia('(prefers-color-scheme: dark)').matches, innerWidth]")
        page.screenshot(path=f"{directory}/{name}-{looks[0]}-{looks[1]}.png", full_page=True)


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


@in_every_look
def test_every_page_can_be_read(staff, busy, scheme, window):
    context = staff(color_scheme=scheme, viewport=window)
    wrong = complaints(context)
    page = context.new_page()
    look(page, address("program_changelist"))
    look(page, address("program_change", busy.program.pk))
    look(page, address("program_add"))
    page.locator("#id_name").fill("Spring")
    page.locator("#id_credit_minor").fill("0.001")
    page.locator("#id_target_minor").fill("100")
    press(page, "Save")
    expect(page.locator(".errorlist")).to_contain_text(["USD has 2 decimal places, not more."])
    see(page, "errors")
    look(page, address("member_changelist"))
    look(page, address("member_change", busy.pk))
    look(page, address("member_change", busy.indicated.order_by("pk")[5].pk))
    look(page, address("member_add"))
    assert wrong == []


def test_nothing_needs_inline_script_or_style(staff, busy):
    context = staff()
    wrong = complaints(context)
    forbid_inline(context)
    page = context.new_page()
    for name, *args in (
        ("program_changelist",),
        ("program_change", busy.program.pk),
        ("member_changelist",),
        ("member_change", busy.pk),
        ("member_add",),
    ):
        page.goto(address(name, *args))
        expect(page.locator("h1")).to_have_count(1)
    assert wrong == []


def test_from_a_program_to_its_first_member_and_on(staff, busy):
    page = staff(viewport=PHONE).new_page()
    page.goto(address("program_add"))
    page.get_by_label("Name:").fill("Spring")
    page.get_by_label("Currency:").select_option("EUR")
    page.get_by_label("Credit at sign-up:").fill("2.50")
    page.get_by_label("Target:").fill("30")
    press(page, "Save and continue editing")
    expect(page.locator(".aff-facts")).to_contain_text("2.50\N{NO-BREAK SPACE}EUR at sign-up")
    page.goto(address("member_add"))
    page.get_by_label("Hash:").fill("dora")
    page.get_by_label("Program:").select_option("Spring")
    make_user("doras-name")
    page.locator(".select2-selection").click()
    page.locator(".select2-search__field").fill("doras")
    page.locator(".select2-results__option", has_text="doras-name").click()
    press(page, "Save")
    page.get_by_role("link", name="dora", exact=True).click()
    expect(page.locator(".aff-facts").first).to_contain_text("doras-name")
    assert Member.objects.get(user_hash="dora").user.username == "doras-name"


def test_pages_are_turned_without_script(staff, busy):
    page = staff(java_script_enabled=False).new_page()
    page.goto(address("member_change", busy.pk))
    expect(page.locator("#brought tbody tr")).to_have_count(25)
    expect(page.locator("#statement tbody tr")).to_have_count(50)
    page.locator("#brought").get_by_role("link", name="Older").click()
    expect(page.locator("#brought tbody tr")).to_have_count(5)
    page.locator("#statement").get_by_role("link", name="Older").click()
    expect(page.locator("#brought tbody tr")).to_have_count(5)
    last = page.locator("#statement tbody tr")
    expect(last.first).to_be_visible()
    page.locator("#statement").get_by_role("link", name="Newest").click()
    page.locator("#statement").get_by_role("link", name="Its entry in the ledger").first.click()
    expect(page.locator("tr:target")).to_have_count(1)
