"""The page of results: what it shows is what `results` says, and it fails at nothing."""

import csv
import os
import re
import sys
from html import unescape
from io import StringIO
from urllib.parse import parse_qs

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission
from playwright.sync_api import expect

from affiliations import charts
from affiliations.experiments.admin import results as pages
from affiliations.experiments.admin import results_figures
from affiliations.experiments.figures import Reason, Verdict
from affiliations.experiments.models import Variation
from affiliations.experiments.results import results
from tests.browser import assert_readable, complaints, forbid_inline, in_every_look
from tests.core.factories import make_partner, make_user
from tests.experiments.factories import make_campaign
from tests.experiments.worlds import THREE, crowd, did, saw, variations_of
from tests.tracking.factories import make_event_type, make_property, say

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop():
    return make_property()


@pytest.fixture
def campaign(shop):
    return make_campaign(shop, name="Checkout <i>", groups=[{"variations": THREE}])


@pytest.fixture
def busy(shop, campaign):
    """Blue sells more than the original, and green less."""
    crowd(
        shop,
        campaign,
        {"Original": (800, 160, 5000), "Blue": (600, 210, 6000), "Green": (600, 50, 4000)},
    )
    Variation.objects.filter(name="Blue", group__campaign=campaign).update(name="=Blue <b>")
    return campaign


def url(campaign):
    return f"/admin/affiliations_experiments/campaign/{campaign.pk}/results/"


def ask(client, campaign, **asked):
    response = client.get(url(campaign), {"goal": "transaction", **asked})
    assert response.status_code == 200
    return response


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
    plain = unescape(re.sub(r"<[^>]*>", " ", drawn)).replace("\N{NO-BREAK SPACE}", " ")
    return " ".join(plain.split())


def errors(response):
    assert "aff-result" not in content(response)
    return dict(response.context["form"].errors)


def test_it_shows_what_the_figures_are(both_clients, admin_user, busy):
    both_clients.force_login(admin_user)
    text = content(ask(both_clients, busy))
    said = words(text)
    assert "Visitors 2,000 Shared out as they should be (p = 1.000)" in said
    blue = results(busy, "transaction").groups[0].variations[1]
    look, uplift = blue.rates.look, blue.rates.uplift
    assert f"=Blue <b> is better: its rate is {look.difference:.2%}".replace("%", " points") in said
    assert f"({100 * look.low:.2f} to {100 * look.high:.2f} points)" in said
    assert (
        f"+{100 * uplift.median:.1f} % +{100 * uplift.low:.1f} to +{100 * uplift.high:.1f} %"
        in said
    )
    assert "Green is worse: its rate is" in said
    assert "=Blue <b> 600 210 35.03 % 31.29 to" in said
    assert "=Blue <b> is better: a visitor brings in 11.00 EUR more than with Original" in said
    assert "=Blue <b> 600 12,600.00 EUR 21.00 EUR 18.71 to" in said
    # A probability is never for certain.
    assert "> 99.9 %" in said
    assert "< 0.1 %" in said
    assert "100.0 %" not in said
    assert "<b> is" not in text
    assert "<i>" not in text
    assert text.rstrip().endswith("</html>")
    assert " style=" not in text.partition('id="content-main"')[2].partition("footer")[0]


def test_uplifts_are_drawn_around_zero(admin_client, busy):
    text = content(ask(admin_client, busy))
    rates, revenue = re.findall(r'<svg class="aff-daily aff-intervals.*?</svg>', text, re.DOTALL)
    for drawn in (rates, revenue):
        tones = re.findall(r'<g class="aff-interval([^"]*)"', drawn)
        assert tones == [" aff-interval-more", " aff-interval-less"]
    assert 'aria-label="Uplift against the reference: =Blue &lt;b&gt; +' in rates
    assert len(re.findall(r'<svg class="aff-portion"', text)) == 6


def test_a_long_name_does_not_stand_on_its_number(admin_client, busy):
    name = "x" * 200
    Variation.objects.filter(name="Green", group__campaign=busy).update(name=name)
    text = content(ask(admin_client, busy))
    assert f">{'x' * 39}…</text>" in text
    assert f"{name} is worse:" in text


@pytest.mark.parametrize(
    ("sums", "sentence"),
    [
        ({"Original": (40, 3, 0), "Blue": (30, 3, 0), "Green": (30, 2, 0)}, "Too early to say."),
        (
            {"Original": (400, 90, 0), "Blue": (300, 69, 0), "Green": (300, 68, 0)},
            "No difference is certain yet.",
        ),
        (
            {"Original": (400, 90, 0), "Blue": (500, 250, 0), "Green": (300, 10, 0)},
            "Nothing can be said: visitors were shared out wrongly.",
        ),
    ],
)
def test_it_says_no_more_than_the_figures(admin_client, shop, campaign, sums, sentence):
    crowd(shop, campaign, sums)
    text = content(ask(admin_client, campaign))
    assert sentence in words(text)
    assert "is better:" not in text
    assert "aff-interval-" not in text
    warning = "Blue 500 instead of 360, Green 300 instead of 360. So much is no chance (p < 0.001)"
    assert (warning in words(text)) == ("wrongly" in sentence)
    assert ('class="errornote"' in text) == ("wrongly" in sentence)


def test_of_others_it_says_that_nothing_is_certain(admin_client, shop, campaign):
    crowd(shop, campaign, {"Original": (400, 90, 0), "Blue": (300, 150, 0), "Green": (300, 68, 0)})
    said = words(content(ask(admin_client, campaign)))
    assert "Blue is better:" in said
    assert "Of Green nothing is certain yet." in said


def test_whoever_has_seen_two_is_told(admin_client, shop, campaign):
    original, blue, _ = variations_of(campaign).values()
    for number in range(3):
        say(shop, f"cookie:a{number} client:a{number}")
        saw(original, f"cookie:a{number}", 1)
        if number:
            saw(blue, f"client:a{number}", 2)
    text = words(content(ask(admin_client, campaign)))
    assert "2 visitors have seen more than one variation, and count for none." in text
    assert "Visitors 1 " in text


def test_other_currencies_are_told(admin_client, shop, campaign):
    original = variations_of(campaign)["Original"]
    for number, currency in enumerate(("EUR", "EUR", "JPY")):
        say(shop, f"cookie:c{number}")
        saw(original, f"cookie:c{number}", 1)
        did(shop, f"cookie:c{number}", 2, minor=500, currency=currency)
    text = words(content(ask(admin_client, campaign)))
    assert "Left out of the revenue, as in other currencies: 1 × JPY." in text
    text = words(content(ask(admin_client, campaign, currency="jpy")))
    assert "Revenue, in JPY" in text
    assert "in other currencies: 2 × EUR." in text


def test_a_cap_can_be_followed(admin_client, busy):
    text = content(ask(admin_client, busy))
    link = unescape(re.search(r'href="(\?[^"]*cap=[^"]*)"', text)[1])
    assert parse_qs(link[1:]) == {
        "goal": ["transaction"],
        "level": ["0.95"],
        "currency": ["EUR"],
        "cap": ["60.00"],
    }
    assert "Count at most 60.00 EUR of each visitor" in words(text)
    followed = words(content(admin_client.get(url(busy) + link)))
    assert "=Blue <b> 600 12,600.00 EUR" in followed
    assert "Count at most 60.00" not in followed
    capped = words(content(ask(admin_client, busy, currency="EUR", cap="50")))
    assert "=Blue <b> 600 10,500.00 EUR 17.50 EUR " in capped
    assert "Count at most 60.00" not in capped


def test_of_one_partner_alone(admin_client, shop, campaign):
    original = variations_of(campaign)["Original"]
    partner = make_partner()
    for number in range(3):
        say(shop, f"cookie:c{number}")
        saw(original, f"cookie:c{number}", 1, partner=partner if number else None)
    assert "Visitors 3 " in words(content(ask(admin_client, campaign)))
    assert "Visitors 2 " in words(content(ask(admin_client, campaign, partner=partner.uid)))
    found = errors(ask(admin_client, campaign, partner="nobody"))
    assert found == {"partner": ["There is no such partner."]}


def test_when_is_by_the_clock(admin_client, shop, campaign, settings):
    settings.TIME_ZONE = "Europe/Berlin"
    original = variations_of(campaign)["Original"]
    say(shop, "cookie:a")
    saw(original, "cookie:a", 1.5)
    for since, until, visitors in (
        ("2026-03-02", "2026-03-03", 1),
        ("2026-03-02T13:00", "2026-03-02T13:01", 1),
        ("2026-03-02T13:01", "", 0),
        ("", "2026-03-02T13:00", 0),
    ):
        text = words(content(ask(admin_client, campaign, since=since, until=until)))
        assert f"Visitors {visitors} " in text


def test_the_file_says_it_too(both_clients, admin_user, busy):
    both_clients.force_login(admin_user)
    text = content(ask(both_clients, busy, days="9", level="0.9"))
    link = unescape(re.search(r'href="(\?[^"]*csv=1)"', text)[1])
    response = both_clients.get(url(busy) + link)
    assert 'filename="results-campaign-' in response.headers["Content-Disposition"]
    rows = list(csv.DictReader(StringIO(content(response).removeprefix("\ufeff"))))
    [group] = results(busy, "transaction", days=9, level=0.9).groups
    assert [row["name"] for row in rows] == ["Original", "'=Blue <b>", "Green"]
    for row, each in zip(rows, group.variations, strict=True):
        assert row["variation"] == each.id
        assert int(row["visitors"]) == each.visitors
        assert int(row["conversions"]) == each.rates.conversions
        assert float(row["rate_low"]) == pytest.approx(each.rates.rate.low, abs=1e-6)
        assert row["revenue"] == f"{each.revenue.total / 100:.2f}"
        mean = each.revenue.mean
        assert float(row["revenue_per_visitor_high"]) == pytest.approx(mean.high / 100, abs=1e-6)
        assert (row["beats"] == "") == each.is_reference
        if not each.is_reference:
            assert float(row["uplift"]) == pytest.approx(each.rates.uplift.median, abs=1e-6)
            assert float(row["p"]) == each.rates.look.p
            low = each.revenue.look.low / 100
            assert float(row["revenue_difference_low"]) == pytest.approx(low, abs=1e-6)
            assert float(row["revenue_p"]) == each.revenue.look.p
    assert [float(row["expected"]) for row in rows] == [800, 600, 600]


def test_without_a_question_it_answers_the_first(admin_client, busy):
    response = admin_client.get(url(busy))
    assert response.status_code == 200
    assert 'class="aff-result"' in content(response)
    assert '<option value="trigger:User registered" selected>' in content(response)


def test_a_goal_that_nobody_reached_of_late_can_be_asked(admin_client, shop, campaign):
    make_event_type(shop, "signup", name="Signed up")
    text = content(ask(admin_client, campaign, goal="event:Long ago"))
    assert '<option value="event:Long ago" selected>Long ago</option>' in text
    assert '<option value="event:signup">Signed up (signup)</option>' in text
    assert '<option value="transaction">Any transaction</option>' in text


def test_of_many_it_is_shown_how_far_it_is(both_clients, admin_user, busy, monkeypatch):
    both_clients.force_login(admin_user)
    monkeypatch.setattr(pages, "SOON", 10)
    response = ask(both_clients, busy)
    assert response.streaming
    text = content(response)
    assert text.index('<p class="aff-step"><progress') < text.index("aff-result")
    assert 'class="aff-result"' in text
    assert text.rstrip().endswith("</html>")


JUNK = ["", "0", "-1", "x" * 10_240, "\0", "\ud800", "9" * 40, "1e999", "NaN", "ſ", "'", "%", "💥"]


@pytest.mark.parametrize("name", ["goal", *pages.ResultsForm.base_fields, "csv", "junk"])
def test_nothing_in_an_address_makes_it_fail(admin_client, busy, name):
    before = {"since": "2026-03-01", "currency": "EUR", "cap": "5"}
    for each in JUNK:
        text = each.encode(errors="surrogatepass")
        response = admin_client.get(url(busy), {"goal": "transaction", **before, name: text})
        assert response.status_code == 200, each
        content(response)


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        ({"goal": "x"}, "goal"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-03-02", "until": "2026-03-01"}, "until"),
        ({"days": "0"}, "days"),
        ({"currency": "EUX"}, "currency"),
        ({"cap": "5"}, "currency"),
        ({"cap": "5.001", "currency": "EUR"}, "cap"),
        ({"cap": "0", "currency": "EUR"}, "cap"),
        ({"cap": "-5", "currency": "EUR"}, "cap"),
        ({"level": "0.5"}, "level"),
    ],
)
def test_what_cannot_be_asked_is_said(admin_client, busy, asked, wrong):
    assert [*errors(ask(admin_client, busy, **asked))] == [wrong]


def test_who_may_look(client, busy):
    user = make_user()
    user.is_staff = True
    user.save()
    client.force_login(user)
    assert client.get(url(busy)).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_campaign"))
    assert client.get(url(busy)).status_code == 200


def test_nothing_has_been_shown(admin_client, shop):
    draft = make_campaign(shop, live=False)
    text = words(content(ask(admin_client, draft)))
    assert "Nobody has been shown anything of this campaign yet." in text


def test_every_reason_and_verdict_has_its_words():
    assert set(results_figures.REASONS) == set(Reason)
    assert set(results_figures.VERDICTS) == set(Verdict) - {Verdict.DECIDED}


# The drawing


def drawn(*rows, **options):
    said = "{:+.0%}".format
    return charts.intervals(
        [charts.Interval(*each) for each in rows], title="Uplifts", said=said, **options
    )


def test_an_interval_lies_where_its_numbers_do():
    text = drawn(("Blue <b>", -0.5, 0.5, 1.5, "+50 %"))
    # From -0.5 to 1.5 there are 704 units, which begin at 8.
    assert 'class="aff-axis" x1="184.0" x2="184.0"' in text
    assert '<path d="M8.0 34H712.0M8.0 29v10M712.0 29v10"/><circle cx="360.0"' in text
    assert "Blue &lt;b&gt;" in text
    assert re.findall(r">([+-]\d+%)<", text) == ["-50%", "+150%", "+0%"]


def test_the_line_of_zero_crosses_no_words():
    text = drawn(("a", -0.5, 0.5, 1.5, ""), ("b", -0.5, 0.5, 1.5, ""))
    zeros = re.findall(r'class="aff-axis" x1="[0-9.]+" x2="[0-9.]+" y1="(\d+)" y2="(\d+)"', text)
    words = [int(y) for y in re.findall(r'aff-name" x="0" y="(\d+)"', text)]
    assert (len(zeros), len(words)) == (2, 2)
    for top, bottom in zeros:
        assert not any(int(top) < y < int(bottom) for y in words)


def test_a_scale_holds_zero_on_either_side():
    assert 'x1="8.0" x2="8.0"' in drawn(("a", 0.5, 0.75, 1.0, ""))
    assert 'x1="712.0" x2="712.0"' in drawn(("a", -1.0, -0.75, -0.5, ""))


def test_what_goes_on_beyond_has_no_end_there():
    text = drawn(("a", -0.5, 1.0, 30.0, ""), ("b", 3.0, 4.0, 5.0, ""), most=2.0)
    first, second = re.findall(r'<path d="([^"]*)"/>(<circle)?', text)
    assert first == ("M8.0 34H712.0M8.0 29v10", "<circle")
    assert second == ("M712.0 80H712.0", "")


@pytest.mark.parametrize("numbers", [(), ((0, 0, 0),), ((-1e-300, 0, 1e300),)])
def test_whatever_the_numbers_are_there_is_a_drawing(numbers):
    text = drawn(*(("a", *each, "") for each in numbers), most=sys.float_info.max)
    assert "nan" not in text
    assert "inf" not in text.replace("info", "")


def test_a_portion_is_as_long_as_it_is():
    assert 'width="40.0" height="12"' in charts.portion(0.25, title="25 %")
    assert 'width="1" height="12"' in charts.portion(1e-9, title="")
    assert 'width="0" height="12"' in charts.portion(0.0, title="")


# Seen


def see(page, name):
    assert_readable(page, "#content")
    if directory := os.environ.get("SHOTS"):
        looks = page.evaluate("[matchMedia('(prefers-color-scheme: dark)').matches, innerWidth]")
        page.screenshot(path=f"{directory}/{name}-{looks[0]}-{looks[1]}.png", full_page=True)


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
@in_every_look
def test_it_can_be_read(staff, shop, scheme, window):
    long = "Green, with a very long name of its own, that a page has to have room for somewhere"
    variations = [*THREE[:2], {"name": long, "allocation": 30}]
    campaign = make_campaign(
        shop,
        name="Checkout: a blue button",
        groups=[{"name": "Newcomers", "variations": THREE}, {"variations": variations}],
    )
    second = campaign.groups.last()
    context = staff(color_scheme=scheme, viewport=window)
    wrong = complaints(context)
    forbid_inline(context)
    page = context.new_page()
    page.goto(url(campaign))
    expect(page.get_by_text("Too early to say.").first).to_be_visible()
    see(page, "results-early")
    sums = {"Original": (800, 160, 5000), "Blue": (600, 210, 6000), "Green": (600, 110, 400)}
    Variation.objects.filter(group=second, name="Original").update(name="Old")
    Variation.objects.filter(group=second, name="Blue").update(name="New")
    crowd(shop, campaign, sums)
    crowd(
        shop,
        campaign,
        {"Old": (80, 20, 500), "New": (160, 30, 600), long: (60, 1, 700)},
    )
    page.goto(f"{url(campaign)}?goal=transaction")
    expect(page.get_by_text("Blue is better").first).to_be_visible()
    expect(page.get_by_text("Do not trust these figures")).to_be_visible()
    see(page, "results")
    page.get_by_label("Count at most").fill("5")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_text("Is needed for what is counted at most.")).to_be_visible()
    see(page, "results-wrong")
    assert wrong == []
