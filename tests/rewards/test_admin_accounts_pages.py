"""The admin of accounts and reviews in a real Chromium, by day and by night, desk and phone."""

import re

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from affiliations.money import Money
from affiliations.rewards import ledger, payouts
from affiliations.rewards.models import Commission, Entry, Review
from affiliations.services import reverse_conversion
from affiliations.testing import freeze
from tests.browser import PHONE, assert_readable, complaints, forbid_inline, in_every_look
from tests.core.factories import make_partner, make_user
from tests.rewards.factories import account_of, convert, make_rule
from tests.rewards.test_admin_accounts import address

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
LONG = "donaudampfschifffahrtsgesellschaft" * 8


@pytest.fixture
def busy(transactional_db, settings):
    """A partner with entries of every kind and in every state."""
    settings.AFFILIATE_PAYOUT_MINIMUM = {"EUR": 1}
    partner = make_partner(name="Anna’s blog")
    with freeze() as clock:
        clock.tick(days=-70)
        make_rule(10, name="Ten percent", published_on=clock.now)
        make_rule(3, name="Less specific", priority=-1, published_on=clock.now)
        paid = [convert(partner, minor=4990) for _ in range(5)]
        clock.tick(days=35)
        first = payouts.make_payouts(currency="EUR").payouts.get()
        for step in (payouts.approve, payouts.mark_sent, payouts.mark_paid):
            step(first)
        for days in (10, 5, 3, 2, 8):
            clock.tick(days=days)
            convert(partner, minor=1990 * days)
        reverse_conversion(paid[0])
        reverse_conversion(paid[1], Money(1000, "EUR"))
        ledger.post(
            account_of(partner), Money(9900, "EUR"), kind="adjustment", key="0", memo="Gift"
        )
        clock.tick(days=2)
        payouts.fail(payouts.make_payouts(currency="EUR").payouts.get(), "no such address")
        account = account_of(partner)
        ledger.post(account, Money(-70_000, "EUR"), kind="adjustment", key="a", memo=LONG)
        ledger.post(account_of(partner, "JPY"), Money(5, "JPY"), kind="credit", key="b")
        clock.tick(days=4)
        settings.AFFILIATE_APPROVAL = True
        for _ in range(3):
            convert(partner, minor=9990)
        convert(partner, minor=9990, user=own_user(partner), reference=LONG[:200])
    return partner


def own_user(partner):
    user = make_user()
    partner.users.add(user)
    return user


def look(page, path):
    page.goto(path)
    assert_readable(page, "#content")


@in_every_look
def test_every_page_can_be_read(staff, busy, scheme, window):
    context = staff(color_scheme=scheme, viewport=window)
    wrong = complaints(context)
    page = context.new_page()
    account = account_of(busy)
    look(page, address("account_changelist"))
    look(page, address("account_changelist") + "?whose=site")
    look(page, address("account_change", account.pk))
    look(
        page, address("account_change", account.pk) + "?as_of=abc&since=2026-02-02&until=2026-02-01"
    )
    look(page, address("account_change", account.pk) + "?as_of=2026-11-01")
    look(page, address("account_change", ledger.site_account("commission", "EUR").pk))
    look(page, address("account_history", account.pk))
    look(page, address("commission_changelist"))
    for commission in Commission.objects.order_by("pk")[:1]:
        look(page, address("commission_change", commission.pk))
    look(page, address("commission_change", Commission.objects.get(minor=0).pk))
    look(page, address("review_changelist"))
    look(page, address("review_changelist") + "?outcome=rejected")
    review = Review.objects.first()
    look(page, address("review_change", review.pk))
    look(page, reverse("admin:affiliations_partner_change", args=[busy.pk]))
    conversion = Commission.objects.first().conversion_id
    look(page, reverse("admin:affiliations_conversion_change", args=[conversion]))

    look(page, address("account_adjust", account.pk))
    page.get_by_role("button", name="Check it").click()
    expect(page.get_by_text("This field is required.")).to_have_count(2)
    assert_readable(page, "#content")
    page.get_by_label("Amount").fill("-12.50")
    page.get_by_label("What for").fill(LONG)
    page.get_by_role("button", name="Check it").click()
    expect(page.get_by_text("that much less is owed")).to_be_visible()
    assert_readable(page, "#content")

    for name in ("Release", "Reject"):
        page.goto(address("review_change", review.pk))
        page.get_by_role("button", name=name).click()
        expect(page.get_by_role("button", name="Yes, I’m sure")).to_be_visible()
        assert_readable(page, "#content")
    assert wrong == []


def test_nothing_needs_inline_script_or_style(staff, busy):
    context = staff()
    wrong = complaints(context)
    forbid_inline(context)
    page = context.new_page()
    look(page, address("account_change", account_of(busy).pk))
    bars = page.locator("svg.aff-daily .aff-bar")
    assert bars.first.evaluate("each => getComputedStyle(each).fill") != "rgb(0, 0, 0)"
    look(page, address("account_adjust", account_of(busy).pk))
    look(page, address("commission_changelist"))
    look(page, address("review_changelist"))
    assert wrong == []


@pytest.mark.parametrize("window", [None, PHONE], ids=["desk", "phone"])
def test_an_adjustment_is_posted_by_keyboard_alone(staff, busy, window):
    context = staff(**({"viewport": window} if window else {}))
    page = context.new_page()
    account = account_of(busy)
    before = ledger.balance(account).total
    page.goto(address("account_change", account.pk))
    page.get_by_role("link", name="Post an adjustment").click()
    page.get_by_label("Amount").focus()
    page.keyboard.type("12.50")
    page.keyboard.press("Tab")
    page.keyboard.type("For the nice picture")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Yes, post it")).to_be_visible()
    assert ledger.balance(account).total == before
    page.get_by_role("button", name="Yes, post it").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("12.50 EUR was posted.")
    expect(page.locator(".aff-statement tbody tr").first).to_contain_text("For the nice picture")
    assert ledger.balance(account).total == before + 1250


def test_a_double_click_posts_once(staff, busy):
    page = staff().new_page()
    account = account_of(busy)
    before = ledger.balance(account).total
    page.goto(address("account_adjust", account.pk))
    page.get_by_label("Amount").fill("12.50")
    page.get_by_label("What for").fill("For the nice picture")
    page.get_by_role("button", name="Check it").click()
    page.get_by_role("button", name="Yes, post it").dblclick()
    expect(page.locator(".messagelist")).to_contain_text("12.50 EUR")
    assert ledger.balance(account).total == before + 1250


def test_a_statement_is_read_and_downloaded_by_clicking(staff, busy):
    account = account_of(busy)
    for number in range(60):
        ledger.post(account, Money(1, "EUR"), kind="credit", key=f"c{number}")
    page = staff().new_page()
    page.goto(address("account_changelist"))
    page.get_by_role("link", name="Anna’s blog").first.click()
    rows = page.locator(".aff-statement tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_role("link", name="Older").click()
    expect(rows.last).to_contain_text("Commission on Order placed")
    page.get_by_role("link", name="What it reverses").first.click()
    expect(page.locator("tr:target")).to_have_count(1)
    with page.expect_download() as saved:
        page.get_by_role("link", name="Export as CSV").click()
    text = saved.value.path().read_text(encoding="utf-8-sig")
    assert len(text.splitlines()) == 1 + Entry.objects.filter(account=account).count()


def test_the_queue_is_decided_on_by_clicking(staff, busy):
    page = staff().new_page()
    page.goto(address("review_changelist"))
    expect(page.locator("#content h1")).to_have_text("Reviews: 3 open")
    page.get_by_role("link", name="2 others open").first.click()
    page.locator("#action-toggle").check()
    page.get_by_role("combobox", name="Action:").select_option("Reject")
    page.get_by_role("button", name=re.compile("Go|Run")).click()
    expect(page.locator("#content")).to_contain_text("29.97 EUR is taken back")
    page.get_by_label("Why").fill("Bought by a robot")
    page.get_by_role("button", name="Yes, I’m sure").click()
    expect(page.locator(".messagelist")).to_contain_text("3 commissions were rejected.")
    expect(page.locator("#content h1")).to_have_text("Reviews: 0 open")
