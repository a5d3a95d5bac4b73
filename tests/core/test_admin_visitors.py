"""The list of visitors: what it finds, and that no page looks at all of them."""

import csv
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from io import StringIO

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from affiliations import services
from affiliations.admin import lists
from affiliations.admin.visitors import VisitorAdmin
from affiliations.models import Visitor
from tests.core.factories import make_partner, make_user, make_visitor

pytestmark = pytest.mark.django_db
LIST = "admin:affiliations_visitor_changelist"
EXPORT = "admin:affiliations_visitor_export"


def came(when, partner=None, **fields):
    """Return a visitor that came then."""
    visitor = make_visitor(partner, **fields)
    Visitor.objects.filter(pk=visitor.pk).update(referred_on=when)
    return visitor


def listed(client, **query):
    """Return the page, and the numbers of the visitors on it."""
    response = client.get(reverse(LIST), query)
    assert response.status_code == 200, query
    text = response.content.decode()
    return text, [int(pk) for pk in re.findall(r'field-number"><a[^>]*>(\d+)<', text)]


def found(client, **query):
    return sorted(listed(client, **query)[1])


@pytest.fixture
def four(admin_client):
    """Visitors of two partners and two users, on four pages."""
    anna, bert = make_partner(name="Anna"), make_partner(name="Bert")
    mia = make_user("mia@example.com")
    won = timezone.now()
    return [
        make_visitor(anna, user=mia, entry_point="https://shop.example/Teapots/"),
        make_visitor(anna, entry_point="https://shop.example/cups/", successful_on=won),
        make_visitor(bert, user=mia, entry_point="https://shop.example/?x=mia@example.com"),
        make_visitor(bert, user=make_user(), entry_point="https://shop.example/100%_off"),
    ]


def test_their_own_page_tells_what_they_are_credited_with(admin_client, monkeypatch):
    visitor = make_visitor(make_partner({"Order placed": ""}))
    url = reverse("admin:affiliations_visitor_change", args=[visitor.pk])
    for n in range(3):
        known = {visitor.pk: "session"}
        services.record_conversion(trigger="Order placed", known=known, reference=f"A-{n}")
    services.reverse_conversion(visitor.conversions.get(reference="A-0"))
    text = admin_client.get(url).content.decode()
    assert all(f"Order placed (A-{n})" in text for n in range(3))
    assert text.count("(taken back)") == 1
    assert "and others before" not in text
    monkeypatch.setattr("affiliations.admin.visitors.MAX_CREDITED", 2)
    text = admin_client.get(url).content.decode()
    assert "Order placed (A-2)" in text
    assert "Order placed (A-0)" not in text
    assert "and others before" in text


def test_it_is_searched_by_what_staff_have_at_hand(admin_client, four):
    pks = [visitor.pk for visitor in four]
    assert found(admin_client, q=four[0].partner.uid) == pks[:2]
    assert found(admin_client, q="mia@example.com") == [pks[0], pks[2]]
    assert found(admin_client, q="mia@example") == [pks[2]]
    assert found(admin_client, q=str(pks[1])) == [pks[1]]
    assert found(admin_client, q="teapots") == [pks[0]]
    assert found(admin_client, q="100%_") == [pks[3]]
    assert found(admin_client, q=f"mia@example.com {four[0].partner.uid}") == [pks[0]]
    assert found(admin_client, q="99999999999999999999") == []
    assert found(admin_client, q="nothing of the kind") == []
    assert len(found(admin_client, q="a\0b")) in (0, 4)


def test_it_is_filtered(admin_client, four):
    pks = [visitor.pk for visitor in four]
    assert found(admin_client, partner=four[2].partner.uid) == pks[2:]
    assert found(admin_client, partner="ann") == pks[:2]
    assert found(admin_client, partner="n") == pks[:2]
    assert found(admin_client, partner="e") == pks[2:]
    assert found(admin_client, partner="Carl") == []
    assert found(admin_client, partner=" ") == pks
    assert len(found(admin_client, partner="a\0")) == 2
    assert found(admin_client, successful="yes") == [pks[1]]
    assert found(admin_client, successful="no", partner="Anna") == [pks[0]]


def test_many_partners_of_a_name_are_all_kept(admin_client, monkeypatch):
    monkeypatch.setattr(lists, "FEW", 2)
    pks = [make_visitor(make_partner(name=f"Blog {n}")).pk for n in range(5)]
    make_visitor(make_partner(name="Shop"))
    assert found(admin_client, partner="blog") == pks


def test_a_filter_that_is_written_into_keeps_the_others(admin_client, four):
    text, _ = listed(admin_client, successful="no", q="shop", partner="Anna")
    form = re.search(r'<form method="get">(.*?)</form>', text, re.DOTALL)[1]
    assert re.findall(r'type="hidden" name="(\w+)" value="(\w*)"', form) == [
        ("q", "shop"),
        ("successful", "no"),
    ]
    assert 'name="partner" value="Anna"' in form
    assert "?q=shop&amp;successful=no" in form
    assert re.search(r'<label for="(aff-partner)">.*<input id="\1"', form, re.DOTALL)


class TestMany:
    """What holds for three hundred rows holds for a million: no query looks at all of them."""

    @pytest.fixture
    def many(self, admin_client, monkeypatch):
        monkeypatch.setattr(lists, "BOUND", 120)
        partners = [make_partner(name=f"Blog {n}") for n in range(5)]
        users = [make_user() for _ in range(5)]
        start = datetime(2025, 3, 30, 12, tzinfo=UTC)
        for n in range(300):
            when = start + timedelta(days=n * 2)
            came(when, partners[n % 5], user=users[n % 5], entry_point=f"https://s.example/{n}")

    def queries(self, client, **query):
        with CaptureQueriesContext(
            connection,
        ) as captured:
            listed(client, **query)
        return [each["sql"] for each in captured if "affiliations_visitor" in each["sql"]]

    @pytest.mark.parametrize(
        "query",
        [
            {},
            {"p": "2"},
            {"q": "example"},
            {"partner": "Blog"},
            {"successful": "no"},
            {"referred_on__year": "2025"},
            {"referred_on__year": "2025", "referred_on__month": "5"},
            {"o": "1"},
        ],
    )
    def test_every_query_is_bounded_or_looks_at_one_end_of_an_index(
        self, admin_client, many, query, monkeypatch
    ):
        monkeypatch.setattr(VisitorAdmin, "list_per_page", 10)
        for sql in self.queries(admin_client, **query):
            ends = re.match(r"SELECT (MIN|MAX)\(.[a-z_]+.\..referred_on.\) AS .(first|last). ", sql)
            assert " LIMIT " in sql or ends, sql
            assert "DISTINCT" not in sql
            if "COUNT(" in sql:
                assert "LIMIT 121" in sql

    def test_the_number_of_queries_does_not_grow(
        self, admin_client, django_assert_num_queries, many
    ):
        # Session and user; how many, up to a bound; a page of them; partners, users; both ends.
        with django_assert_num_queries(8):
            listed(admin_client)
        with django_assert_num_queries(8):
            listed(admin_client, p="2")

    def test_pages_can_be_turned_up_to_the_bound(self, admin_client, many):
        text, first = listed(admin_client)
        assert "More than 120 visitors." in text
        _, second = listed(admin_client, p="2")
        _, third = listed(admin_client, p="3")
        pks = list(Visitor.objects.order_by("-referred_on").values_list("pk", flat=True))
        assert first + second + third == pks[:120]
        assert "?p=3" in text
        assert "?p=4" not in text
        response = admin_client.get(reverse(LIST), {"p": "4"})
        assert response.status_code == 302

    def test_a_list_within_the_bound_says_its_number(self, admin_client, many):
        text, _ = listed(admin_client, partner="Blog 3")
        assert "60 results" in text
        assert "More than" not in text

    def test_a_search_does_not_print_the_bound_as_a_result(self, admin_client, many):
        text, _ = listed(admin_client, q="example")
        assert "120 results" not in text
        assert "More than 120 visitors." in text

    def test_the_dates_lead_to_every_visitor(self, admin_client, many, settings):
        settings.TIME_ZONE = "Europe/Berlin"
        text, _ = listed(admin_client)
        years = re.findall(r"\?referred_on__year=(\d+)", text)
        assert years == ["2025", "2026"]
        text, _ = listed(admin_client, referred_on__year="2026")
        months = re.findall(r"referred_on__month=(\d+)&amp;referred_on__year=2026", text)
        assert months == [str(month) for month in range(1, 12)]
        month = {"referred_on__year": "2026", "referred_on__month": "11"}
        text, _ = listed(admin_client, **month)
        days = re.findall(r"referred_on__day=(\d+)&amp;referred_on__month=11", text)
        assert days == [str(day) for day in range(2, 19)]
        _, pks = listed(admin_client, **month, referred_on__day="18")
        assert pks == [Visitor.objects.order_by("-referred_on").first().pk]

    def test_the_dates_are_there_while_searching_and_cost_no_search(self, admin_client, many):
        text, _ = listed(admin_client, q="s.example/7")
        assert "referred_on__year=2025" in text
        searches = [sql for sql in self.queries(admin_client, q="s.example/7") if "LIKE" in sql]
        assert len(searches) == 2
        searches = [sql for sql in self.queries(admin_client, q="/none") if "LIKE" in sql]
        assert len(searches) == 1


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_dates_of_one_month_and_of_none(admin_client, settings, use_tz):
    settings.USE_TZ = use_tz
    text, _ = listed(admin_client)
    assert "referred_on__" not in text.partition("changelist-form")[0].partition("toplinks")[2]
    zone = UTC if use_tz else None
    for day in (3, 5):
        came(datetime(2026, 2, day, 12, tzinfo=zone))
    text, _ = listed(admin_client)
    days = re.findall(r"referred_on__day=(\d+)&amp;referred_on__month=2", text)
    assert days == ["3", "4", "5"]


class TestExport:
    def rows(self, client, **query):
        response = client.get(reverse(EXPORT), query)
        assert response.status_code == 200
        data = b"".join(response).decode("utf-8-sig")
        return list(csv.reader(StringIO(data, newline="")))

    def test_it_holds_what_the_list_shows(self, admin_client, four):
        text, _ = listed(admin_client, partner="Bert", q="shop")
        [link] = re.findall(r'href="([^"]*/export/[^"]*)"', text)
        response = admin_client.get(unescape(link))
        assert response.streaming
        heading, *rows = self.rows(admin_client, partner="Bert", q="shop")
        assert heading[:5] == ["number", "partner", "id in links", "entry point", "user"]
        assert sorted(int(row[0]) for row in rows) == [four[2].pk, four[3].pk]
        assert {row[1] for row in rows} == {"Bert"}
        assert len(self.rows(admin_client)) == 5

    def test_no_cell_runs(self, admin_client):
        formula = "=HYPERLINK(1)"
        make_visitor(
            make_partner(name=formula),
            entry_point="@SUM(1)",
            user=make_user("+1"),
            click_id="-1",
            sub_ids={"sub2": "\t=1"},
            referrer_host=formula,
        )
        [_, row] = self.rows(admin_client)
        assert not [text for text in row if text.startswith(("=", "+", "-", "@", "\t"))]
        assert row[1] == f"'{formula}"
        assert row[-4] == "'\t=1"

    def test_its_dates_are_the_sites_own(self, admin_client, settings):
        settings.TIME_ZONE = "Europe/Berlin"
        came(datetime(2026, 7, 1, 23, 30, tzinfo=UTC))
        heading, row = self.rows(admin_client)
        assert heading[5] == "referred on (Europe/Berlin)"
        assert row[5] == "2026-07-02 01:30:00"
        assert row[7] == ""

    def test_it_takes_the_same_queries_for_all_that_fit_into_one_go(
        self, admin_client, django_assert_num_queries
    ):
        for _ in range(50):
            make_visitor(user=make_user())
        # Session and user; the list's own count and page are not asked for what is on it; the
        # visitors, their partners and users.
        with django_assert_num_queries(6):
            assert len(self.rows(admin_client)) == 51

    def test_who_may_not_look_gets_none(self, client):
        user = make_user()
        user.is_staff = True
        user.save()
        client.force_login(user)
        assert client.get(reverse(EXPORT)).status_code == 403
        client.logout()
        assert client.get(reverse(EXPORT)).status_code == 302

    def test_a_filter_that_makes_no_sense_leads_back(self, admin_client):
        response = admin_client.get(reverse(EXPORT), {"referred_on__year": "x"})
        assert response.status_code == 302
        assert response["Location"].endswith("?e=1")
