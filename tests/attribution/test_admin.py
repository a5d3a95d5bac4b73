"""The page of the report: what it shows is what `attribute` says, and it fails at nothing."""

import csv
import re
import sys
from datetime import timedelta
from html import unescape
from io import StringIO
from urllib.parse import parse_qs

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from affiliations import attribution
from affiliations.attribution.admin import forms, report, wording
from affiliations.attribution.questions import MODELS
from affiliations.attribution.sources import DIMENSIONS
from affiliations.models import Conversion
from tests.attribution.factories import DAY, START, converted, touched
from tests.core.factories import make_partner, make_user
from tests.tracking.factories import make_property, say

pytestmark = pytest.mark.django_db

URL = "/admin/affiliations_attribution/attributionreport/"
MARCH = {"since": "2026-03-01", "until": "2026-03-31", "by": "partner", "model": ["last", "linear"]}
LONG = "x" * 10_240


@pytest.fixture
def shop():
    """Anna's and Bert's shops led to two orders in two currencies, and nothing to a third."""
    prop = make_property()
    partners = [make_partner(name="Anna <i>"), make_partner(name="=Bert()")]
    user = make_user()
    say(prop, f"user:{user.pk} cookie:c")
    touched(prop, "cookie:c", "google", 1, partner_id=partners[0].pk)
    touched(prop, "cookie:c", "google", 2, partner_id=partners[0].pk)
    touched(prop, "cookie:c", "mail", 3, partner_id=partners[1].pk)
    touched(prop, "cookie:c", "mail", 3.5)
    converted(prop, user, 4, minor=400_000, currency="EUR")
    converted(prop, user, 5, minor=777, currency="JPY")
    converted(prop, make_user(), 5, minor=100, currency="EUR")
    return partners


def content(response):
    if not response.streaming:
        return response.content.decode()
    if not response.is_async:
        return response.getvalue().decode()

    async def collected():
        return b"".join([chunk async for chunk in response])

    return async_to_sync(collected)().decode()


def words(text):
    drawn = re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", drawn)).split())


def ask(client, **more):
    response = client.get(URL, {**MARCH, **more})
    assert response.status_code == 200
    return response


def errors(response):
    assert "aff-result" not in content(response)
    return dict(response.context["form"].errors)


def test_every_model_and_dimension_has_its_words():
    assert tuple(wording.MODELS) == MODELS
    assert tuple(wording.DIMENSIONS) == DIMENSIONS


def test_models_stand_side_by_side(both_clients, admin_user, shop):
    both_clients.force_login(admin_user)
    anna, bert = shop
    text = content(ask(both_clients))
    said = words(text)
    assert "Conversions 3 Something led to 2 Nothing led to 1" in said
    assert f"none 2.00 0.50 Anna <i> {anna.uid} 0.00 1.00 =Bert() {bert.uid} 0.00 0.50" in said
    assert "In all 2.00 2.00" in said
    assert f"Anna <i> {anna.uid} 0.00 EUR 0.00 2,000.00 EUR 0.50" in said
    assert "none 777 JPY 1.00 194 JPY 0.25" in said
    assert "In all 4,000.00 EUR 4,000.00 EUR" in said
    assert "In all 777 JPY 777 JPY" in said
    assert "Last touch. Whoever brought somebody last gets everything." in said
    assert "<i>" not in text
    assert text.rstrip().endswith("</html>")


def test_each_row_has_a_bar_for_each_model_that_says_what_it_shows(admin_client, shop):
    text = content(ask(admin_client))
    drawn = re.findall(r'<svg class="aff-grouped".*?</svg>', text, flags=re.DOTALL)
    assert len(drawn) == 9
    [anna] = [each for each in drawn if "Anna &lt;i&gt;: Last touch 0.00, Linear 1.00" in each]
    assert re.findall(r'class="aff-model-(\d)"[^>]* width="([\d.]+)"', anna) == [
        ("1", "0"),
        ("2", "100.0"),
    ]
    assert "<desc>All bars are on one scale; the longest of them is 2.00.</desc>" in anna
    assert " style=" not in text.partition('id="content-main"')[2].partition("footer")[0]


def test_paths_and_times(admin_client, shop):
    said = words(content(ask(admin_client)))
    assert "1 conversion 4,000.00 EUR Anna <i> ×2 =Bert() none" in said
    assert "Half of the conversions came within 4 days of the first touchpoint." in said
    assert "3 days: 1 conversion 4 days: 1 conversion" in said


def test_channels_are_called_as_people_call_them(admin_client):
    prop, user = make_property(), make_user()
    say(prop, f"user:{user.pk} cookie:c")
    touched(prop, "cookie:c", "google", 1)
    converted(prop, user, 4, minor=100, currency="EUR")
    said = words(content(ask(admin_client, by="channel")))
    assert "paid search 1.00 1.00" in said
    assert "paid_search" not in said


def test_the_file_says_it_too(both_clients, admin_user, shop):
    both_clients.force_login(admin_user)
    text = content(ask(both_clients, trigger="Order placed", lookback="9"))
    query = unescape(re.search(r'href="\?([^"]*csv=1)"', text)[1])
    assert parse_qs(query) == {
        **{name: [each] for name, each in MARCH.items() if name != "model"},
        "model": MARCH["model"],
        "trigger": ["Order placed"],
        "lookback": ["9"],
        "csv": ["1"],
    }
    response = both_clients.get(f"{URL}?{query}")
    assert 'filename="attribution-' in response.headers["Content-Disposition"]
    found = list(csv.DictReader(StringIO(content(response).removeprefix("\ufeff"))))
    asked = {"since": START, "until": START + 31 * DAY, "lookback": 9 * DAY}
    expected = attribution.attribute(MARCH["model"], **asked).to_pylist()
    assert [row["partner"] or None for row in found] == [row["label"] for row in expected]
    assert {row["name"] for row in found} == {"Anna <i>", "'=Bert()", ""}
    euros = [row["amount"] for row in found if row["currency"] == "EUR"]
    assert euros == ["4000.00", "0.00", "0.00", "2000.00", "1000.00", "1000.00"]


def test_names_are_asked_for_once(admin_client, shop):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        content(ask(admin_client))
    table = connection.ops.quote_name("affiliations_partner")
    assert (
        len(
            [
                each
                for each in queries
                if each["sql"].startswith("SELECT")
                and f"FROM {table}" in each["sql"].partition("WHERE")[0]
            ]
        )
        == 1
    )


def test_the_last_thirty_days_by_three_models_unless_it_is_said(admin_client, shop):
    form = admin_client.get(URL).context["form"]
    today = timezone.localtime(timezone.now()).date()
    assert form.cleaned_data["since"] == today - timedelta(days=29)
    assert form.cleaned_data["until"] == today
    assert (form.cleaned_data["by"], form.cleaned_data["model"]) == ("partner", [*forms.MODELS])
    form = admin_client.get(URL, {"by": "channel", "model": "first"}).context["form"]
    assert (form.cleaned_data["by"], form.cleaned_data["model"]) == ("channel", ["first"])


def test_nothing_happened(admin_client):
    assert "Nobody converted in this time." in words(content(ask(admin_client)))


def test_nothing_led_to_any(admin_client, shop):
    said = words(content(ask(admin_client, since="2026-03-05", lookback="1")))
    assert "Conversions 2 Something led to 0 Nothing led to 2" in said
    assert "Try more days before a conversion." in said


def test_the_last_day_is_included(admin_client, shop):
    said = words(content(ask(admin_client, until="2026-03-04")))
    assert "Conversions 1 Something led to 1" in said


@pytest.mark.parametrize(
    ("asked", "field", "message"),
    [
        ({"since": "soon"}, "since", "Enter a valid date."),
        ({"since": ""}, "since", "This field is required."),
        ({"since": "0001-01-01"}, "since", "Enter a valid date."),
        ({"until": "9999-12-31"}, "until", "Enter a valid date."),
        ({"until": "9998-12-31"}, "until", "Enter a valid date."),
        ({"until": "2026-02-28"}, "until", "It ends before it begins."),
        ({"by": "colour"}, "by", "Choose one of the list."),
        ({"model": []}, "model", "Choose at least one model."),
        ({"model": ["best"]}, "model", "Choose models of the list."),
        ({"model": ["w_shaped"]}, "lead", "The W shape needs to know which trigger makes a lead."),
        ({"trigger": "No such"}, "trigger", "There is no such trigger."),
        ({"lookback": "0"}, "lookback", "Ensure this value is greater than or equal to 1."),
        ({"lookback": "9" * 5000}, "lookback", "Enter a whole number."),
    ],
)
def test_what_cannot_be_asked(admin_client, asked, field, message):
    assert errors(ask(admin_client, **asked)) == {field: [message]}


@pytest.mark.parametrize(
    "junk", [LONG, "\0", "a\0b", "'; --", "<script>", "-1", "9" * 40, "%", "😀"]
)
def test_whatever_is_typed_is_answered(admin_client, junk):
    for name in forms.ReportForm.base_fields:
        for more in ({}, {"csv": "1"}):
            text = content(ask(admin_client, **{name: junk, **more}))
            assert "aff-ask" in text
    assert content(ask(admin_client, csv=junk, q=junk, e=junk, p=junk))


def test_what_a_report_refuses_stands_at_the_field(admin_client, shop, settings):
    settings.AFFILIATE_ATTRIBUTION_LOOKBACK = timedelta(0)
    assert errors(ask(admin_client)) == {"lookback": ["must be a timedelta above zero"]}
    assert errors(ask(admin_client, csv="1")) == {"lookback": ["must be a timedelta above zero"]}


def test_too_many_for_a_page(admin_client, shop, monkeypatch):
    monkeypatch.setattr(forms, "MOST", 2)
    [said] = errors(ask(admin_client))["since"]
    assert said.endswith("manage.py attribution_report --since 2026-03-01")


def test_of_many_the_page_is_shown_first(both_clients, admin_user, shop, monkeypatch):
    both_clients.force_login(admin_user)
    monkeypatch.setattr(report, "SOON", 1)
    response = ask(both_clients)
    assert response.streaming
    assert response.headers["X-Accel-Buffering"] == "no"
    text = content(response)
    assert text.index('class="aff-step"') < text.index("aff-result")
    assert "In all 2.00 2.00" in words(text)


def test_what_a_report_refuses_late_is_told(admin_client, shop, monkeypatch, settings):
    monkeypatch.setattr(report, "SOON", 1)
    settings.AFFILIATE_ATTRIBUTION_LOOKBACK = timedelta(0)
    text = content(ask(admin_client))
    assert "lookback: must be a timedelta above zero" in text
    assert text.rstrip().endswith("</html>")


def test_triggers_that_are_no_longer_in_the_settings_can_be_chosen(admin_client, shop):
    Conversion.objects.filter(currency="JPY").update(trigger="Old one")
    said = words(content(ask(admin_client, trigger="Old one")))
    assert "Conversions 1 Something led to 1" in said


def test_without_duckdb_it_says_what_to_install(admin_client, shop, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    said = words(content(ask(admin_client)))
    assert "Reports are made with duckdb, which is not installed here." in said
    assert "pip install django-affiliations[attribution]" in said


def test_who_may_look(client, django_user_model, shop):
    row = Conversion.objects.first()
    assert client.get(URL).status_code == 302
    staff = django_user_model.objects.create_user("staff", password="x", is_staff=True)
    client.force_login(staff)
    assert client.get(URL).status_code == 403
    assert client.get(URL, {**MARCH, "csv": "1"}).status_code == 403
    assert "Attribution report" not in client.get("/admin/").content.decode()
    staff.user_permissions.add(Permission.objects.get(codename="view_attributionreport"))
    assert client.get(URL).status_code == 200
    assert "Attribution report" in client.get("/admin/").content.decode()
    # The report says sums; whoever may see it may not therefore see each conversion.
    for page in ("change", "history", "delete"):
        assert client.get(f"{URL}{row.pk}/{page}/").status_code == 403
    assert client.get(f"{URL}add/").status_code == 403
    codenames = Permission.objects.filter(content_type__app_label="affiliations_attribution")
    assert [each.codename for each in codenames] == ["view_attributionreport"]


@pytest.mark.parametrize("view", ["change", "delete", "history"])
@pytest.mark.parametrize("key", ["0", "-1", "x", "1e400", "9" * 400, "_00", "_ED_A0_80", "\x01"])
def test_no_address_below_the_report_fails(admin_client, view, key):
    url = reverse(f"admin:affiliations_attribution_attributionreport_{view}", args=[key])
    assert admin_client.get(url).status_code < 500
    assert admin_client.post(url, {"post": "yes"}).status_code < 500
