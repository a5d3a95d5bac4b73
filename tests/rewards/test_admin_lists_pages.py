"""The lists of rewards in a real Chromium: on a desk nothing of them has to be scrolled to."""

from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib import admin

from affiliations.money import Money
from affiliations.rewards import ledger, payouts
from affiliations.rewards.models import PartnerGroup, Review
from affiliations.services import reverse_conversion
from tests.browser import DESKTOP, complaints
from tests.core.factories import make_partner
from tests.rewards.factories import ORDER, account_of, convert, make_rule
from tests.rewards.test_admin_payouts import address, owe

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

MODELS = apps.get_app_config("affiliations_rewards").get_models()
LISTED = [model._meta.model_name for model in MODELS if admin.site.is_registered(model)]


@pytest.fixture
def busy(transactional_db, settings):
    """Rows of everything that is listed, with names and sums as they may well be."""
    settings.AFFILIATE_HOLD = timedelta(0)
    partner = make_partner(name="Anna’s blog about painting")
    group = PartnerGroup.objects.create(name="Partners of the first hour")
    group.partners.add(partner)
    make_rule(10, name="Everybody, 10 % of all", tiers=[[10, "12.5"]], months=12)
    make_rule(12, name="Those of the first hour", group=group, trigger=ORDER)
    make_rule(flat_minor=125_000, currency="EUR", name="A lot", partner=partner, trigger="Other")
    reverse_conversion(convert(partner, minor=123_456_78, reference="2026-1001"))
    convert(partner, minor=987_654_32, reference="2026-1002")
    ledger.post(account_of(partner), Money(-1_234_56, "EUR"), kind="adjustment", key="a")
    for method in ("paypal", "wise", ""):
        owe(12_345_67, method=method)
    batch = payouts.make_payouts(currency="EUR")
    for payout in batch.payouts.order_by("pk")[1:]:
        payouts.approve(payout)
    payouts.send_batch(batch, "paypal")
    payouts.mark_paid(batch.payouts.get(state="sent"), "T-1001")
    settings.AFFILIATE_APPROVAL = True
    convert(partner, minor=45_678, reference="2026-1003")
    Review.objects.update(detail="8 conversions within an hour, where there are 2 on most days")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", LISTED)
def test_no_column_has_to_be_scrolled_to(staff, busy, name, scheme):
    context = staff(color_scheme=scheme, viewport=DESKTOP)
    wrong = complaints(context)
    page = context.new_page()
    page.goto(address(f"{name}_changelist"))
    page.wait_for_load_state("load")
    assert page.locator("#result_list tbody tr").count() > 0
    # With the list of all models beside it, as it is at first.
    assert page.locator("#nav-sidebar").is_visible()
    inner, outer = page.locator("#changelist .results").evaluate(
        "each => [each.scrollWidth, each.clientWidth]"
    )
    assert inner <= outer, f"{inner} px in {outer}"
    assert wrong == []
