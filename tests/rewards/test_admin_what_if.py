"""The page that tries drafts on the past: what it shows is what `replay` says, piece by piece."""

import csv
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from io import StringIO

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.http import StreamingHttpResponse
from django.test.utils import CaptureQueriesContext

from affiliations.admin import progress
from affiliations.money import Money
from affiliations.rewards import replay as replaying
from affiliations.rewards import rules
from affiliations.rewards.admin import whatif
from affiliations.rewards.models import CommissionRule
from affiliations.rewards.replay import drafts, replay
from affiliations.testing import freeze
from tests.core.factories import make_partner
from tests.rewards.factories import ORDER, convert, make_rule
from tests.rewards.test_admin_rules import NBSP, address, words
from tests.rewards.test_replay import rows

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def site():
    """A site on which three partners have earned in two currencies, and there are two drafts."""
    partners = [make_partner(name=name) for name in ("Anna", "=Bert()", "Carl")]
    with freeze(START):
        old = make_rule(10, published_on=START, name="Old")
        for number, partner in enumerate(partners):
            convert(partner, minor=10_000 * (number + 1))
            convert(partner, minor=777, currency="JPY")
        draft = rules.draft_replacement(old)
        draft.percent = Decimal("7.5")
        draft.name = "Less"
        draft.save()
        make_rule(90, published_on=None, partner=partners[0], name="More for Anna", trigger=ORDER)
    return partners


def content(response):
    if not response.streaming:
        return response.content.decode()
    if not response.is_async:
        return response.getvalue().decode()

    async def collected():
        return b"".join([chunk async for chunk in response])

    return async_to_sync(collected)().decode()


def ask(client, since="2026-10-31", rule=None, **more):
    chosen = [each.pk for each in drafts()] if rule is None else rule
    response = client.get(
        address("commissionrule_what_if"), {"since": since, "rule": chosen, **more}
    )
    assert response.status_code == 200
    return response


def errors(response):
    assert not response.streaming
    found = response.context["form"].errors
    return {name: [unescape(each) for each in said] for name, said in found.items()}


def as_money(minor, currency):
    return f"{Money(abs(minor), currency).amount:,} {currency}"


def impatient(monkeypatch):
    """Have each bar shown, from the first on."""
    for name in ("PATIENCE", "EVERY"):
        monkeypatch.setattr(progress, name, -1)


@pytest.fixture
def browser(both_clients, admin_user):
    both_clients.force_login(admin_user)
    return both_clients


def test_it_shows_what_replay_says(browser, site, monkeypatch):
    impatient(monkeypatch)
    response = ask(browser)
    text = content(response)
    assert response.headers["X-Accel-Buffering"] == "no"
    said = words(text).replace(NBSP, " ")
    outcomes = replay(START - timedelta(days=2), drafts())
    assert len(outcomes) == 6
    assert {each.difference > 0 for each in outcomes} == {True, False}
    for each in outcomes:
        sign = "+" if each.difference > 0 else "−"
        row = (
            f"{each.partner.name} {each.partner.uid} {as_money(each.earned, each.currency)} "
            f"{as_money(each.would_earn, each.currency)} "
            f"{sign}{as_money(each.difference, each.currency)}"
        )
        assert row in said
    for currency in ("EUR", "JPY"):
        mine = [each for each in outcomes if each.currency == currency]
        earned = as_money(sum(each.earned for each in mine), currency)
        would = as_money(sum(each.would_earn for each in mine), currency)
        assert f"All partners {earned} {would}" in said
    assert text.count('class="aff-daily aff-differences"') == 2
    assert text.rstrip().endswith("</html>")


def test_the_file_says_it_too(browser, site):
    response = ask(browser, csv="1")
    assert 'filename="what-if-' in response.headers["Content-Disposition"]
    found = list(csv.DictReader(StringIO(content(response).removeprefix("\ufeff"))))
    outcomes = replay(START - timedelta(days=2), drafts())
    assert [row["partner"].lstrip("'") for row in found] == [each.partner.name for each in outcomes]
    assert "'=Bert()" in {row["partner"] for row in found}
    for row, each in zip(found, outcomes, strict=True):
        sums = [row[name] for name in ("earned", "would have earned", "difference")]
        minors = [Money.of(text, each.currency).minor for text in sums]
        assert minors == [each.earned, each.would_earn, each.difference]


def test_the_page_links_the_file_of_the_same_question(admin_client, site):
    chosen = [drafts()[0].pk]
    text = content(ask(admin_client, rule=chosen))
    url = unescape(re.search(r'href="(\?[^"]*csv=1)"', text)[1])
    assert url == f"?since=2026-10-31&rule={chosen[0]}&csv=1"


def test_one_draft_alone(admin_client, site):
    [less] = CommissionRule.objects.filter(name="Less")
    said = words(content(ask(admin_client, rule=[less.pk]))).replace(NBSP, " ")
    assert "All partners 60.00 EUR 45.00 EUR −15.00 EUR" in said


def test_nothing_is_written(admin_client, site):
    before = rows()
    content(ask(admin_client))
    content(ask(admin_client, csv="1"))
    after = rows()
    assert {name for name in after if after[name] != before[name]} <= {"sessions.Session"}


def test_it_comes_piece_by_piece(browser, site, monkeypatch):
    impatient(monkeypatch)
    monkeypatch.setattr(replaying, "BATCH", 2)
    text = content(ask(browser))
    found = [tuple(map(int, each)) for each in re.findall(r'max="(\d+)" value="(\d+)"', text)]
    assert found == [(6, 0), (6, 2), (6, 4), (6, 6)]
    assert text.index("6 of 6 conversions") < text.index("All partners")
    monkeypatch.setattr(progress, "EVERY", 1e9)
    assert content(ask(browser)).count("<progress") == 1


def test_the_first_piece_is_there_before_anything_is_looked_at(admin_client, site, monkeypatch):
    impatient(monkeypatch)
    response = ask(admin_client)
    pieces = iter(response)
    with CaptureQueriesContext(connection) as seen:
        first = next(pieces).decode()
    assert not seen.captured_queries
    assert "What if" in first
    assert "</html>" not in first
    with CaptureQueriesContext(connection) as seen:
        assert b"0 of 6" in next(pieces)
    assert not [each for each in seen if "affiliations_share" in each["sql"]]


def test_teeth_pieces_that_asgi_would_gather(admin_user, site, monkeypatch, new_client):
    impatient(monkeypatch)
    monkeypatch.setattr(
        progress, "answered", lambda request, chunks, content_type: StreamingHttpResponse(chunks)
    )
    client = new_client()
    client.force_login(admin_user)
    if client.is_async:
        with pytest.raises(Warning, match="synchronous iterators"):
            content_of_plain(ask(client))
    else:
        assert "All partners" in content(ask(client))


def content_of_plain(response):
    async def collected():
        return b"".join([chunk async for chunk in response])

    return async_to_sync(collected)()


@pytest.mark.parametrize(
    ("query", "where", "said"),
    [
        ({"since": ""}, "since", "required"),
        ({"since": "x"}, "since", "Must be a date"),
        ({"since": "\0"}, "since", "Must be a date"),
        ({"since": "0001-01-01"}, "since", "Must be a date"),
        ({"since": "9998-01-01"}, "since", "Must be in the past."),
        ({"rule": []}, "rule", "Choose at least one draft."),
        ({"rule": ["x"]}, "rule", "not a valid value"),
        ({"rule": ["9" * 40]}, "rule", "not a valid value"),
        ({"rule": ["99999"]}, "rule", "not one of the available choices"),
        ({"rule": ["\0"]}, "rule", "not a valid value"),
    ],
)
def test_what_is_wrong_stands_at_its_field(admin_client, site, query, where, said):
    found = errors(ask(admin_client, **query))
    assert list(found) == [where]
    assert said in found[where][0]


def test_what_is_published_cannot_be_tried(admin_client, site):
    [old] = CommissionRule.objects.filter(name="Old")
    assert list(errors(ask(admin_client, rule=[old.pk]))) == ["rule"]


def test_of_two_drafts_of_one_rule_one_is_tried(admin_client, site):
    [old] = CommissionRule.objects.filter(name="Old")
    rules.draft_replacement(old)
    said = "“Less” and “Old” replace the same rule: choose one of them."
    assert errors(ask(admin_client)) == {"rule": [said]}


def test_more_conversions_than_a_page_looks_at(admin_client, site, monkeypatch):
    monkeypatch.setattr(whatif, "MOST", 5)
    [said] = errors(ask(admin_client))["since"]
    assert said.startswith("There are more than 5 conversions since then")
    assert "manage.py replay_rules --since 2026-10-31T00:00" in said
    monkeypatch.setattr(whatif, "MOST", 6)
    assert "All partners" in content(ask(admin_client))


def test_more_partners_than_a_page_shows(admin_client, site, monkeypatch):
    monkeypatch.setattr(whatif, "MOST_ROWS", 2)
    monkeypatch.setattr(whatif, "DRAWN", 1)
    text = content(ask(admin_client))
    assert text.count("1 more partner is in the CSV file.") == 2
    assert text.count("Drawn are the largest; there are 2 more.") == 2
    assert len(list(csv.reader(StringIO(content(ask(admin_client, csv="1")))))) == 7


def test_nothing_to_show(admin_client, site):
    text = content(ask(admin_client, since="2026-11-20"))
    assert "Nothing was earned since then" in text
    assert "<progress" not in text


def test_all_drafts_are_suggested_or_the_one_it_is_asked_from(admin_client, site):
    path = address("commissionrule_what_if")
    text = admin_client.get(path).content.decode()
    assert len(re.findall(r'name="rule"[^>]* checked', text)) == 2
    assert re.search(
        r'name="since"[^>]*type="datetime-local"|type="datetime-local"[^>]*name="since"', text
    )
    draft = drafts()[1]
    for query in ({"rule": draft.pk}, {"rule": [draft.pk, "x"]}):
        text = admin_client.get(path, query).content.decode()
        assert re.findall(r'name="rule" value="(\d+)"[^>]* checked', text) == [str(draft.pk)]
    assert (
        f"{path}?rule={draft.pk}"
        in admin_client.get(address("commissionrule_change", draft.pk)).content.decode()
    )
    assert (
        f'href="{path}"' in admin_client.get(address("commissionrule_changelist")).content.decode()
    )


def test_without_drafts_it_says_so(admin_client):
    text = admin_client.get(address("commissionrule_what_if")).content.decode()
    assert "There is no draft to try." in text
    assert f'href="{address("commissionrule_add")}"' in text
    assert errors(admin_client.get(address("commissionrule_what_if"), {"since": "2026-01-01"}))
