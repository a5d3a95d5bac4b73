"""The admin of payouts in a real Chromium, by daylight and by night, on a desk and on a phone."""

from datetime import timedelta

import pytest
from playwright.sync_api import expect

from affiliations.admin import progress
from affiliations.money import Money
from affiliations.rewards import ledger, payouts
from affiliations.rewards.models import Payout, PayoutBatch, PayoutDestination
from tests.browser import assert_readable, complaints, in_every_look
from tests.core.factories import make_partner
from tests.rewards.factories import account_of, convert, make_rule
from tests.rewards.test_admin_payouts import address, owe

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def busy(transactional_db, settings):
    """A batch with payouts in every state, and what is due for another one."""
    settings.AFFILIATE_HOLD = timedelta(0)
    make_rule(10)
    anna = owe(12_345_678, make_partner(name="Anna’s blog about everything that can be painted"))
    convert(anna, minor=250_000, reference="A-1001")
    ledger.post(account_of(anna), Money(-99, "EUR"), kind="adjustment", key="x", memo="A fee")
    for _ in range(60):
        owe(100, anna)
    for method in ("paypal", "paypal", "paypal", "wise", "wise", "", ""):
        owe(7000, method=method)
    batch = payouts.make_payouts(currency="EUR")
    rows = list(batch.payouts.order_by("pk"))
    for row in rows[:-1]:
        payouts.approve(row)
    payouts.send_batch(batch, "paypal")
    paid, returned, _sent = batch.payouts.filter(state="sent").order_by("pk")
    payouts.mark_paid(paid, "T-1001")
    payouts.mark_returned(payouts.mark_paid(returned), "The account was closed.")
    payouts.fail(rows[4], "Asked to be left out of it.")
    for _ in range(3):
        owe(6000)
    return batch


def look(page, path):
    page.goto(path)
    assert_readable(page, "#content")


def results(*rows):
    return "\n".join(["Transaction ID,Customer ID,Status,Reason", *rows])


def check(page, text):
    page.goto(address("payoutbatch_results"))
    page.get_by_label("Or paste it").fill(text)
    page.get_by_role("button", name="Check it").click()


@in_every_look
def test_every_page_can_be_read(staff, busy, scheme, window):
    context = staff(color_scheme=scheme, viewport=window)
    wrong = complaints(context)
    page = context.new_page()
    look(page, address("payoutbatch_changelist"))
    look(page, address("payoutbatch_change", busy.pk))
    look(page, address("payout_changelist"))
    for payout in busy.payouts.all():
        look(page, address("payout_change", payout.pk))
    look(page, address("payoutdestination_changelist"))
    look(page, address("payoutdestination_add"))
    look(page, address("payoutdestination_change", PayoutDestination.objects.first().pk))
    look(page, address("payoutbatch_make"))
    page.get_by_label("Currency").select_option("EUR")
    page.get_by_role("button", name="Show what is due").click()
    expect(page.get_by_role("button", name="Make 5 payouts")).to_be_visible()
    assert_readable(page, "#content")

    sent = busy.payouts.get(state="sent").reference
    check(page, results(f"T,{sent},Perhaps,", "T,no,Completed,"))
    assert_readable(page, "#content")
    check(page, results(f"T,{sent},Returned,The account was closed."))
    expect(page.get_by_role("button", name="Note it for 1 payout")).to_be_visible()
    assert_readable(page, "#content")

    for name, button in (("fail", "Note as failed"), ("mark_paid", "Note as paid")):
        page.goto(address("payout_change", busy.payouts.get(state="sent").pk))
        page.get_by_role("button", name=button).click()
        expect(page.get_by_role("button", name="Yes, I’m sure")).to_be_visible()
        assert_readable(page, "#content"), name
    for payout in busy.payouts.exclude(state="draft"):
        page.goto(address("payout_statement", payout.pk))
        assert_readable(page)
    assert wrong == []


def test_nothing_needs_inline_script_or_style(staff, busy, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0)
    monkeypatch.setattr(progress, "EVERY", 0)
    monkeypatch.setattr(payouts, "SLICE", 3)
    context = staff()
    wrong = complaints(context)

    def answer(route):
        response = route.fetch(max_redirects=0)
        policy = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'"
        route.fulfill(
            response=response, headers={**response.headers, "content-security-policy": policy}
        )

    context.route("**/admin/**", answer)
    page = context.new_page()
    look(page, address("payoutbatch_changelist"))
    paid = page.locator("svg.aff-stacked .aff-part-paid").first
    assert paid.evaluate("each => getComputedStyle(each).fill") != "rgb(0, 0, 0)"
    look(page, address("payoutbatch_change", busy.pk))
    look(page, address("payout_change", busy.payouts.first().pk))
    page.goto(address("payout_statement", busy.payouts.first().pk))
    assert page.locator("main").evaluate("each => getComputedStyle(each).maxWidth") == "896px"
    page.goto(f"{address('payoutbatch_make')}?currency=EUR")
    # Of the bars none is left once there is an outcome.
    assert page.locator("progress").count() > 1
    expect(page.locator("progress:visible")).to_have_count(0)
    expect(page.get_by_text("Please leave this page open")).to_be_hidden()
    assert_readable(page, "#content")
    page.get_by_role("button", name="Make 5 payouts").click()
    expect(page.locator(".aff-good-news")).to_contain_text("5 payouts were made")
    expect(page.locator("progress:visible")).to_have_count(0)
    assert wrong == []


def test_without_script_the_last_bar_alone_is_seen(staff, busy, monkeypatch):
    """What is sent so far is a page with one bar, before the rest of it is there."""
    context = staff(java_script_enabled=False)

    def answer(route):
        response = route.fetch(max_redirects=0)
        text = response.text()
        # Cut off in the middle, as it is while the rest is not sent yet.
        head = text.partition('<div class="aff-outcome"')[0]
        route.fulfill(response=response, body=head)

    monkeypatch.setattr(progress, "PATIENCE", 0)
    monkeypatch.setattr(progress, "EVERY", 0)
    monkeypatch.setattr(payouts, "SLICE", 3)
    context.route("**/make/?*", answer)
    page = context.new_page()
    page.goto(f"{address('payoutbatch_make')}?currency=EUR")
    bars = page.locator("progress:visible")
    expect(bars).to_have_count(1)
    expect(page.locator(".aff-step:visible")).to_contain_text("accounts")
    expect(page.get_by_text("Please leave this page open")).to_be_visible()


def test_payouts_are_made_approved_sent_and_settled_by_clicking(staff, transactional_db, tmp_path):
    for method in ("paypal", "paypal", ""):
        owe(6000, method=method)
    page = staff().new_page()
    page.goto(address("payoutbatch_changelist"))
    page.get_by_role("link", name="Make payouts").click()
    page.get_by_label("Currency").select_option("EUR")
    page.get_by_role("button", name="Show what is due").click()
    page.get_by_role("button", name="Make 3 payouts").click()
    expect(page.locator(".messagelist")).to_contain_text("3 payouts were made, of 180.00 EUR")
    batch = PayoutBatch.objects.get()
    page.get_by_role("button", name="Approve all").click()
    page.get_by_role("button", name="Yes, I’m sure").click()
    expect(page.locator(".messagelist")).to_contain_text("3 payouts were approved")

    # Somebody has no destination: it is added by the link, and then there is nobody left.
    page.get_by_role("link", name="Add a destination for").click()
    lost = Payout.objects.latest("pk")
    expect(page.locator(".select2-selection__rendered")).to_contain_text(lost.account.partner.name)
    page.get_by_label("Method").select_option("wise")
    page.get_by_label("Name:", exact=True).fill("Carla")
    page.get_by_label("Recipient’s e-mail address").fill("carla@example.com")
    page.get_by_role("button", name="Save", exact=True).click()
    page.goto(address("payoutbatch_change", batch.pk))
    expect(page.get_by_text("go nowhere")).to_have_count(0)

    page.get_by_role("button", name="Send by PayPal").click()
    expect(page.locator("#content")).to_contain_text("2 payouts, 120.00 EUR in all")
    page.get_by_role("button", name="Yes, I’m sure").click()
    with page.expect_download() as saved:
        page.get_by_role("link", name="File for PayPal").click()
    lines = saved.value.path().read_text().splitlines()
    assert len(lines) == 2
    references = [line.split(",")[3] for line in lines]

    file = tmp_path / "results.csv"
    file.write_text(results(*(f"T,{each},Completed," for each in references)))
    page.get_by_role("link", name="Import a result file").click()
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_role("button", name="Check it").click()
    assert not Payout.objects.filter(state="paid").exists()
    page.get_by_role("button", name="Note it for 2 payouts").click()
    expect(page.locator(".messagelist")).to_contain_text("2 were paid")
    assert Payout.objects.filter(state="paid").count() == 2
    payout = Payout.objects.filter(state="paid").first()
    page.goto(address("payout_change", payout.pk))
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Statement to print").click()
    expect(opened.value.locator("h1")).to_have_text("Statement of a payout")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Statement as CSV").click()
    assert saved.value.suggested_filename == f"payout-{payout.reference}.csv"


def test_a_statement_is_printed_on_paper(staff, busy, tmp_path):
    payout = busy.payouts.order_by("-minor").first()
    page = staff(color_scheme="dark").new_page()
    page.goto(address("payout_statement", payout.pk))
    page.emulate_media(media="print")
    assert page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    sheet = page.pdf(prefer_css_page_size=True)
    # 60 entries and more: two sheets of A4.
    assert sheet.startswith(b"%PDF")
    assert b"/MediaBox [0 0 594.95996 841.91998]" in sheet or b"/MediaBox [0 0 595" in sheet
    (tmp_path / "statement.pdf").write_bytes(sheet)
