"""The admin of accounts: lists, statements, adjustments, and commissions with their reasons."""

import csv
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from io import StringIO
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from affiliations.admin import sections
from affiliations.money import Money
from affiliations.rewards import ledger, payouts, reviews, statements
from affiliations.rewards.admin import accounts as accounts_admin
from affiliations.rewards.admin import commissions as commissions_admin
from affiliations.rewards.admin.adjusting import AdjustingMixin
from affiliations.rewards.models import Commission, Entry, Payout, Review, Snapshot
from affiliations.rewards.statements import Period
from affiliations.services import reverse_conversion
from affiliations.testing import freeze
from tests.core.factories import make_partner, make_user
from tests.core.promises.test_races import at_once
from tests.rewards.factories import account_of, convert, make_rule, numbers, total

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>"
JUNK = (
    "abc",
    "-1",
    "9" * 40,
    "1e9",
    "٣",
    "",
    "\0",
    "2026-13-45",
    "9999-12-31",
    "0001-01-01",
    "' or 1",
)
PARAMETERS = ("as_of", "since", "until", "before", "after", "page", "p", "o", "all")


def address(name, *args):
    return reverse(f"admin:affiliations_rewards_{name}", args=args)


def page(client, name, *args, **query):
    response = client.get(address(name, *args), query)
    assert response.status_code == 200, (name, args, query)
    return text_of(response)


def text_of(response):
    # In between stands what keeps an amount on one line.
    return response.content.decode().replace("\N{NO-BREAK SPACE}", " ")


def told(response):
    said = [str(message) for message in response.context["messages"]]
    return [text.replace("\N{NO-BREAK SPACE}", " ") for text in said]


def staff_with(*codenames):
    """Return a client of somebody with these permissions."""
    user = make_user()
    user.is_staff = True
    user.save()
    found = Permission.objects.filter(
        codename__in=codenames, content_type__app_label__startswith="affiliations"
    )
    assert {each.codename for each in found} == set(codenames)
    user.user_permissions.set(found)
    client = Client()
    client.force_login(user)
    return client


def cells(text, name):
    """Return what a list shows in a column."""
    found = re.findall(rf'<t[dh] class="field-{name}[^"]*">(.*?)</t[dh]>', text, re.DOTALL)
    return [unescape(re.sub("<[^>]*>", "", each)).strip() for each in found]


def boss():
    """Return a client of somebody who logs in at this moment, and may do everything."""
    user = make_user()
    user.is_staff = user.is_superuser = True
    user.save()
    client = Client()
    client.force_login(user)
    return client


def statement(text):
    """Return the lines of a statement: what for, amount, balance and state."""
    [body] = re.findall(
        r'<table class="aff-lines aff-statement">.*?<tbody>(.*?)</tbody>', text, re.DOTALL
    )
    body = re.sub('<span class="aff-on-phone">[^<]*</span>', "", body)
    lines = []
    for row in re.findall(r"<tr id.*?</tr>", body, re.DOTALL):
        found = re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)
        lines.append(
            tuple(" ".join(unescape(re.sub("<[^>]*>", " ", each)).split()) for each in found[1:])
        )
    return lines


def post(account, minor, **options):
    options = {"kind": "adjustment", "key": f"k{next(numbers)}", **options}
    return ledger.post(account, Money(minor, account.currency), **options)


@pytest.fixture
def partner():
    make_rule(10, name="Ten percent", published_on=datetime(2020, 1, 1, tzinfo=UTC))
    return make_partner(name="Anna")


class TestList:
    def test_it_shows_what_is_owed_available_and_held(self, admin_client, partner):
        convert(partner)
        post(account_of(partner), 250)
        text = page(admin_client, "account_changelist")
        assert cells(text, "whose") == ["Anna"]
        assert cells(text, "owed_") == ["12.50 EUR"]
        assert cells(text, "available_") == ["2.50 EUR"]
        assert cells(text, "held_") == ["10.00 EUR"]

    def test_what_partners_owe_is_said_in_words(self, admin_client, partner):
        post(account_of(partner), -300)
        assert cells(page(admin_client, "account_changelist"), "owed_") == [
            "−3.00 EUR: owed to the site"
        ]

    def test_the_sites_own_are_apart(self, admin_client, partner):
        convert(partner)
        post(ledger.account_of("member:7", "JPY"), 5)
        assert cells(page(admin_client, "account_changelist"), "whose") == ["Anna", "member:7"]
        own = page(admin_client, "account_changelist", whose="site")
        assert cells(own, "whose") == ["site:commissions", "site:adjustments"]
        assert cells(own, "owed_") == ["–", "–"]

    def test_it_is_filtered_and_searched(self, admin_client, partner, shared):
        other = make_partner(name="Bert")
        convert(partner, other)
        convert(other, currency="JPY", minor=500)
        post(ledger.account_of("member:7", "EUR"), 5)

        def found(**query):
            return cells(page(admin_client, "account_changelist", **query), "whose")

        assert found() == ["Anna", "Bert", "Bert", "member:7"]
        assert found(currency="JPY") == ["Bert"]
        assert found(partner="bert") == found(q="BERT") == found(q=other.uid) == ["Bert", "Bert"]
        assert found(q="member:7") == found(holder="member:7") == ["member:7"]
        assert found(q="nobody") == found(holder="x:1") == found(partner="nobody") == []

    @pytest.mark.parametrize("count", [1, 30])
    @pytest.mark.parametrize("noted", [False, True])
    def test_it_takes_the_same_queries_however_long(
        self, admin_client, django_assert_num_queries, count, noted
    ):
        with freeze() as clock:
            for _ in range(count):
                post(account_of(make_partner()), 100)
            post(account_of(make_partner()), 100)
            if noted:
                clock.tick(hours=2)
                for entry in Entry.objects.all()[:count]:
                    assert ledger.take_snapshot(entry.account)
            # Session and user; currencies; how many; how many in all; the rows; their partners;
            # snapshots and sums; with snapshots also what was decided since, and the sums since.
            with django_assert_num_queries(11 if noted else 9):
                text = page(admin_client, "account_changelist")
            assert cells(text, "owed_") == ["1.00 EUR"] * (count + 1)

    def test_what_is_typed_is_text(self, admin_client):
        post(account_of(make_partner(name=HOSTILE)), 5, memo=HOSTILE)
        account = account_of(make_partner(name="x"))
        for text in (
            page(admin_client, "account_changelist", q=HOSTILE),
            page(admin_client, "account_change", Entry.objects.get().account_id),
            page(admin_client, "account_change", account.pk),
        ):
            assert HOSTILE not in text


class TestStatement:
    def test_it_says_what_each_entry_was_for(self, partner, settings):
        settings.AFFILIATE_PAYOUT_MINIMUM = {"EUR": 1}
        with freeze() as clock:
            first = convert(partner, reference="A-17")
            account = account_of(partner)
            clock.tick(days=31)
            batch = payouts.make_payouts(currency="EUR")
            clock.tick(days=1)
            reverse_conversion(first, Money(2500, "EUR"))
            convert(partner, reference="A-18")
            post(account, 123, memo="For the nice picture")
            payout = batch.payouts.get()
            payouts.fail(payout, "no such address")
            lines = statement(page(boss(), "account_change", account.pk))
        assert [line[:3] for line in lines] == [
            (
                f"Given back from payout {payout.reference} What it reverses",
                "+10.00 EUR",
                "18.73 EUR",
            ),
            ("adjustment For the nice picture", "+1.23 EUR", "8.73 EUR"),
            ("Commission on Order placed (A-18)", "+10.00 EUR", "7.50 EUR"),
            (
                "Reversal of the commission on Order placed (A-17) What it reverses",
                "−2.50 EUR",
                "−2.50 EUR",
            ),
            (f"Payout {payout.reference}", "−10.00 EUR", "0.00 EUR"),
            ("Commission on Order placed (A-17)", "+10.00 EUR", "10.00 EUR"),
        ]
        assert [line[3] for line in lines][:2] == ["–", "available"]
        assert lines[4][3] == "failed"
        assert lines[2][3].startswith("held until")

    def test_what_it_says_leads_to_more(self, admin_client, partner):
        conversion = convert(partner)
        reverse_conversion(conversion)
        account = account_of(partner)
        text = page(admin_client, "account_change", account.pk)
        commission = Commission.objects.get()
        assert text.count(address("commission_change", commission.pk)) == 2
        entry = Entry.objects.get(kind="commission")
        assert f'href="?before={entry.pk + 1}#entry-{entry.pk}"' in text
        assert f'id="entry-{entry.pk}"' in page(
            admin_client, "account_change", account.pk, before=entry.pk + 1
        )

    def test_what_is_reviewed_and_paid_says_so(self, admin_client, partner, settings):
        settings.AFFILIATE_PAYOUT_MINIMUM = {"EUR": 1}
        account = account_of(partner)
        post(account, 500)
        batch = payouts.make_payouts(currency="EUR")
        payout = batch.payouts.get()
        settings.AFFILIATE_APPROVAL = True
        convert(partner)

        def states():
            lines = statement(page(admin_client, "account_change", account.pk))
            return [line[3].replace(" ,", ",") for line in lines]

        assert states() == [
            "held for review",
            "draft",
            f"in Payout {payout.reference}, which is draft",
        ]
        payouts.approve(payout)
        payouts.mark_sent(payout)
        payouts.mark_paid(payout)
        assert states()[2] == f"paid out in Payout {payout.reference}"
        assert states()[1] == "paid"
        text = page(admin_client, "account_change", account.pk)
        assert text.count(f'href="{address("payout_change", payout.pk)}"') == 2
        assert f'{address("review_changelist")}?partner={partner.uid}"' in text

    def test_reviews_are_led_to_only_where_somebody_may_see_them(self, partner, settings):
        settings.AFFILIATE_APPROVAL = True
        convert(partner)
        review = Review.objects.get()
        pages = (
            ("account_change", account_of(partner).pk),
            ("commission_change", Commission.objects.get().pk),
        )
        for more, is_led in (((), False), (("view_review",), True)):
            client = staff_with("view_account", "view_commission", "view_entry", *more)
            for name, pk in pages:
                text = page(client, name, pk)
                assert "held for review" in text
                assert (address("review_change", review.pk) in text) is is_led, name
                if name == "account_change":
                    assert "some of it for review" in text
                    assert (address("review_changelist") + "?" in text) is is_led

    def test_what_is_in_payouts_that_are_not_paid_is_said(self, admin_client, settings):
        settings.AFFILIATE_PAYOUT_MINIMUM = {"EUR": 1}
        account = account_of(make_partner())

        def unpaid():
            text = page(admin_client, "account_change", account.pk)
            found = re.findall(r"<dt>In payouts, not paid yet</dt><dd>(.*?)</dd>", text)
            return [re.sub("<[^>]*>", " ", each).strip() for each in found]

        assert unpaid() == []
        made = []
        for minor in (100_000, 20_000, 3000):
            post(account, minor)
            made.append(payouts.make_payouts(currency="EUR").payouts.get())
        payouts.approve(made[0])
        payouts.mark_sent(made[0])
        payouts.approve(made[1])
        assert unpaid() == ["1,230.00 EUR  30.00 EUR draft, 200.00 EUR approved, 1,000.00 EUR sent"]
        payouts.mark_paid(made[0])
        payouts.fail(made[2], "closed")
        assert unpaid() == ["200.00 EUR  200.00 EUR approved"]

    def test_the_top_says_when_the_next_is_available(self, admin_client, partner):
        with freeze(datetime(2026, 3, 1, 12, tzinfo=UTC)) as clock:
            convert(partner)
            clock.tick(days=1)
            convert(partner)
            text = page(admin_client, "account_change", account_of(partner).pk)
            assert "the next until March 31, 2026" in text
            clock.tick(days=40)
            assert "the next until" not in page(boss(), "account_change", account_of(partner).pk)

    def test_a_balance_as_of_any_day(self, admin_client, partner):
        with freeze(datetime(2026, 3, 1, 12, tzinfo=UTC)) as clock:
            account = account_of(partner)
            post(account, 100)
            clock.tick(days=1)
            post(account, 50, available_on=timezone.now() + timedelta(days=1))
            clock.tick(days=1)
            post(account, 7)

            def sums(as_of):
                text = page(admin_client, "account_change", account.pk, as_of=as_of)
                return re.findall(r"<dt>(?:Owed|Available|Held)</dt><dd>([^<]*) EUR", text)

            assert sums("2026-02-28") == ["0.00", "0.00", "0.00"]
            assert sums("2026-03-01") == ["1.00", "1.00", "0.00"]
            assert sums("2026-03-02") == ["1.50", "1.00", "0.50"]
            assert sums("2026-03-03") == sums("") == ["1.57", "1.57", "0.00"]

    def test_a_day_ends_by_the_sites_clock(self, admin_client, partner, settings):
        settings.TIME_ZONE = "Pacific/Auckland"
        with freeze(datetime(2026, 3, 1, 11, 30, tzinfo=UTC)):  # half past midnight there
            account = account_of(partner)
            post(account, 100)
        with freeze(datetime(2026, 3, 5, tzinfo=UTC)):
            text = page(admin_client, "account_change", account.pk, as_of="2026-03-01")
            assert "<dt>Owed</dt><dd>0.00 EUR" in text
            text = page(admin_client, "account_change", account.pk, as_of="2026-03-02")
            assert "<dt>Owed</dt><dd>1.00 EUR" in text
            text = page(
                admin_client, "account_change", account.pk, since="2026-03-02", until="2026-03-02"
            )
            assert len(statement(text)) == 1
            assert "No entries here" in page(
                admin_client, "account_change", account.pk, until="2026-03-01"
            )

    def test_the_sites_own_are_told_from_the_other_side(self, admin_client, partner):
        conversion = convert(partner)
        reverse_conversion(conversion, Money(5000, "EUR"))
        site = ledger.site_account("commission", "EUR")
        text = page(admin_client, "account_change", site.pk)
        assert [line[1:4] for line in statement(text)] == [
            ("Anna (EUR)", "+5.00 EUR", "−5.00 EUR"),
            ("Anna (EUR)", "−10.00 EUR", "−10.00 EUR"),
        ]
        assert "<dt>Balance</dt><dd>−5.00 EUR</dd>" in text
        assert "owed to the site" not in text
        assert address("account_adjust", site.pk) not in text

    def test_it_turns_pages_to_and_fro(self, admin_client, partner, monkeypatch):
        monkeypatch.setattr(statements, "PAGE", 3)
        account = account_of(partner)
        for minor in range(1, 9):
            post(account, minor)
        seen, query, pages = [], "", []
        while True:
            text = admin_client.get(address("account_change", account.pk) + query).content.decode()
            pages.append(statement(text))
            seen += pages[-1]
            following = re.findall(r'href="(\?[^"]*)" rel="next"', text)
            if not following:
                break
            [query] = following
        assert [line[2] for line in seen] == [
            f"{n * (n + 1) / 200:.2f} EUR" for n in range(8, 0, -1)
        ]
        [back] = re.findall(r'href="(\?[^"]*)" rel="prev"', text)
        text = admin_client.get(address("account_change", account.pk) + back).content.decode()
        assert statement(text) == pages[1]

    def test_the_chart_shows_what_was_added_and_taken_off(self, admin_client, partner):
        conversion = convert(partner)
        reverse_conversion(conversion, Money(5000, "EUR"))
        text = page(admin_client, "account_change", account_of(partner).pk)
        assert "10.00 EUR added and 5.00 EUR taken off in the last 30 days" in text
        site = page(admin_client, "account_change", ledger.site_account("commission", "EUR").pk)
        assert "5.00 EUR added and 10.00 EUR taken off in the last 30 days" in site

    @pytest.mark.parametrize("count", [1, 30])
    def test_it_takes_the_same_queries_however_long(
        self, admin_client, django_assert_num_queries, partner, count
    ):
        for _ in range(count):
            reverse_conversion(convert(partner), Money(5000, "EUR"))
        account = account_of(partner)
        page(admin_client, "account_change", account.pk)  # so that content types are known
        # Session and user; the account and its partner; snapshot and balance; the next; reviews;
        # what is in payouts; the chart, and the snapshot before it; the page, and of its entries
        # the commissions, conversions, reversed ones, accounts and partners; the snapshots below
        # and above it, and what is between; newer and older ones; payouts and reviews.
        with django_assert_num_queries(24):
            page(admin_client, "account_change", account.pk)

    def test_nothing_that_is_typed_fails(self, admin_client, partner):
        convert(partner)
        account = account_of(partner)
        for name in PARAMETERS:
            for junk in JUNK:
                for path in ("account_change", "account_statement"):
                    answer = admin_client.get(address(path, account.pk), {name: junk})
                    assert answer.status_code == 200, (path, name, junk)
                    assert answer.getvalue()
                for path in ("account_changelist", "commission_changelist", "review_changelist"):
                    answer = admin_client.get(address(path), {name: junk}, follow=True)
                    assert answer.status_code == 200, (path, name, junk)
        text = page(admin_client, "account_change", account.pk, as_of="abc", until="2026-03-99")
        assert text.count("Enter a valid date.") == 2
        text = page(
            admin_client, "account_change", account.pk, since="2026-03-02", until="2026-03-01"
        )
        assert "It ends before it begins." in text
        for path in ("account_change", "account_adjust", "account_statement", "commission_change"):
            for junk in ("abc", "-1", "9" * 40, "0"):
                assert admin_client.get(address(path, junk)).status_code in (302, 404)


class TestExport:
    def lines(self, client, account, **query):
        answer = client.get(address("account_statement", account.pk), query)
        assert answer.status_code == 200
        assert answer["Content-Type"].startswith("text/csv")
        text = b"".join(answer.streaming_content).decode("utf-8-sig")
        return list(csv.reader(StringIO(text)))

    def test_it_has_all_lines_with_the_running_balance(self, admin_client, partner):
        conversion = convert(partner, reference="A-17")
        reverse_conversion(conversion, Money(5000, "EUR"))
        post(account_of(partner), 7, memo="=cmd()")
        heading, *lines = self.lines(admin_client, account_of(partner))
        assert heading[4:8] == ["what for", "amount", "balance", "currency"]
        assert [line[2:8] for line in lines] == [
            [
                "Anna (EUR)",
                "commission",
                "Commission on Order placed (A-17)",
                "10.00",
                "10.00",
                "EUR",
            ],
            [
                "Anna (EUR)",
                "reversal",
                "Reversal of the commission on Order placed (A-17)",
                "-5.00",
                "5.00",
                "EUR",
            ],
            ["Anna (EUR)", "adjustment", "adjustment: =cmd()", "0.07", "5.07", "EUR"],
        ]

    @pytest.mark.parametrize("together", [1, 500])
    def test_it_names_payouts_as_the_payee_knows_them(
        self, admin_client, settings, monkeypatch, together
    ):
        monkeypatch.setattr(accounts_admin, "EXPORTED_AT_ONCE", together)
        settings.AFFILIATE_PAYOUT_MINIMUM = {"EUR": 1}
        account = account_of(make_partner())
        post(account, 500)
        payout = payouts.make_payouts(currency="EUR").payouts.get()
        payouts.fail(payout, "closed")
        _heading, *lines = self.lines(admin_client, account)
        assert [line[4:6] for line in lines] == [
            ["adjustment", "5.00"],
            [f"Payout {payout.reference}", "-5.00"],
            [f"Given back from payout {payout.reference}", "5.00"],
        ]

    def test_it_is_of_the_period_that_is_chosen(self, admin_client, partner):
        with freeze(datetime(2026, 3, 1, 12, tzinfo=UTC)) as clock:
            account = account_of(partner)
            for minor in (1, 20, 300):
                post(account, minor)
                clock.tick(days=1)
        _, *lines = self.lines(admin_client, account, since="2026-03-02", until="2026-03-02")
        assert [line[5:7] for line in lines] == [["0.20", "0.21"]]
        assert self.lines(admin_client, account, since="2027-01-01")[1:] == []

    def test_it_holds_no_more_rows_than_it_sends(self, partner, monkeypatch):
        account = account_of(partner)
        for _ in range(5):
            post(account, 1)
        monkeypatch.setattr(statements, "READ_AT_ONCE", 2)
        with CaptureQueriesContext(connection) as queries:
            lines = statements.lines(account)
            assert len(queries) == 0
            assert [next(lines).balance for _ in range(5)] == [1, 2, 3, 4, 5]
        assert sum("affiliations_rewards_entry" in each["sql"] for each in queries) == 1


# A running balance is exact

MINORS = st.integers(-(10**12), 10**12).filter(bool)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("post"), MINORS),
        st.tuples(st.just("late"), MINORS),
        st.tuples(st.just("wait"), st.integers(1, 3000)),
        st.tuples(st.just("note"), st.integers(61, 200)),
    ),
    min_size=4,
    max_size=30,
)


def live(steps, account, clock):
    """Post what the steps say; return when each was posted, in the order of their numbers."""
    for kind, number in steps:
        if kind == "wait":
            clock.tick(minutes=number)
        elif kind == "note":
            clock.tick(minutes=number)
            ledger.take_snapshot(account)
        elif kind == "late":
            # Another clock: its number is higher than its date says.
            Entry.objects.create(
                account=account,
                contra=ledger.site_account("adjustment", "EUR"),
                kind="adjustment",
                minor=number,
                key=f"late:{next(numbers)}",
                created_on=clock.now - timedelta(minutes=50),
                available_on=clock.now,
            )
        else:
            post(account, number)


def by_hand(account):
    """Return each entry's number, date, amount and the plain sum of all up to it."""
    side = {"contra": account} if account.is_site else {"account": account}
    balance, found = 0, []
    for entry in Entry.objects.filter(**side).order_by("pk"):
        minor = -entry.minor if account.is_site else entry.minor
        balance += minor
        found.append((entry.pk, entry.created_on, minor, balance))
    return found


def in_pages(account, period, *, size):
    """Return all lines as the pages show them, turning to older ones, and back to newer ones."""
    page = statements.page(account, period=period)
    found = list(page.lines)
    while page.has_older:
        page = statements.page(account, before=page.lines[-1].entry.pk, period=period)
        assert page.has_newer
        assert 0 < len(page.lines) <= size
        found += page.lines
    back = list(reversed(page.lines))
    while page.has_newer:
        page = statements.page(account, after=page.lines[0].entry.pk, period=period)
        back += [line for line in reversed(page.lines) if line.entry.pk > back[-1].entry.pk]
    assert [line.entry.pk for line in back] == [line.entry.pk for line in reversed(found)]
    return found


def tell(examples, monkeypatch, **options):
    monkeypatch.setattr(statements, "PAGE", 3)
    noted = []

    @hypothesis_settings(
        max_examples=examples, suppress_health_check=list(HealthCheck), deadline=None, **options
    )
    @given(STEPS, st.tuples(st.integers(-100, 9000), st.integers(-100, 9000)))
    def story(steps, ends):
        with transaction.atomic(), freeze(datetime(2026, 3, 1, tzinfo=UTC)) as clock:
            account = ledger.account_of("member:1", "EUR")
            live(steps, account, clock)
            start, end = (clock.now - timedelta(minutes=max(each, 0)) for each in ends)
            periods = [Period(), Period(since=start), Period(until=end), Period(start, end)]
            for each in (account, ledger.site_account("adjustment", "EUR")):
                rows = by_hand(each)
                for period in periods:
                    expected = [
                        (pk, minor, balance)
                        for pk, when, minor, balance in rows
                        if period.holds(when)
                    ]
                    told = [
                        (e.entry.pk, e.minor, e.balance) for e in statements.lines(each, period)
                    ]
                    assert told == expected
                    shown = in_pages(each, period, size=3)
                    assert [(e.entry.pk, e.minor, e.balance) for e in shown] == expected[::-1]
            noted.append(Snapshot.objects.count())
            transaction.set_rollback(True)

    story()
    return sum(map(bool, noted))


def test_each_running_balance_is_the_plain_sum_of_all_before(monkeypatch):
    assert tell(60, monkeypatch) > 0


def careless(account, period=statements.ALWAYS):
    """Leave out the hour by which a number may be ahead of its date."""
    rows, snapshots = statements.legs(account), statements._snapshots(account)
    if period.since is not None:
        rows = rows.filter(created_on__gte=period.since)
    if period.until is not None:
        rows = rows.filter(created_on__lt=period.until)
        behind = snapshots.filter(taken_on__gte=period.until).order_by("taken_on").first()
        if behind is not None:
            rows = rows.filter(pk__lte=behind.last_entry)
    return rows


def test_teeth_a_period_that_trusts_a_snapshot_too_much(monkeypatch, partner):
    account = account_of(partner)
    with freeze(datetime(2026, 3, 1, tzinfo=UTC)) as clock:
        post(account, 1)
        clock.tick(minutes=60)
        post(account, 2)
        live([("late", 4)], account, clock)
        late = Entry.objects.get(minor=4)
        # A snapshot of in between: it ends before the second, which is younger. The third has a
        # higher number, and is older.
        clock.now = late.created_on + timedelta(minutes=5) + ledger.LATE
        assert ledger.take_snapshot(account).last_entry == Entry.objects.get(minor=1).pk
        period = Period(until=late.created_on + timedelta(minutes=1))
        assert [line.minor for line in statements.lines(account, period)] == [1, 4]
        monkeypatch.setattr(statements, "within", careless)
        assert [line.minor for line in statements.lines(account, period)] == [1]


def test_what_is_between_the_lines_of_a_period_counts(partner):
    account = account_of(partner)
    with freeze(datetime(2026, 3, 1, tzinfo=UTC)) as clock:
        live([("post", 1), ("wait", 60), ("post", 2), ("late", 4)], account, clock)
        period = Period(until=clock.now)
        shown = [
            (line.minor, line.balance) for line in statements.page(account, period=period).lines
        ]
        assert shown == [(4, 7), (1, 1)]


def test_the_balance_is_found_from_the_nearest_snapshot(partner, django_assert_num_queries):
    account = account_of(partner)
    with freeze() as clock:
        entries = [post(account, 1)]
        for _ in range(2):
            entries += [post(account, 10) for _ in range(5)]
            clock.tick(hours=2)
            ledger.take_snapshot(account)
        # What was before the first of them, and what is behind it, is not looked at.
        first, second = Snapshot.objects.order_by("pk")
        for at, noted in ((5, first), (6, first), (9, second), (10, second)):
            with CaptureQueriesContext(connection) as queries:
                found = statements.up_to(account, entries[at].pk)
            assert found == 1 + 10 * at
            assert str(noted.last_entry) in queries[-1]["sql"]


class TestAdjustments:
    def form(self, **fields):
        return {
            "amount": "12.50",
            "memo": "For the nice picture",
            "available": "now",
            "token": str(uuid4()),
            **fields,
        }

    def send(self, client, account, **fields):
        return client.post(address("account_adjust", account.pk), self.form(**fields), follow=True)

    def test_it_is_shown_before_it_is_posted(self, admin_client, partner):
        convert(partner)
        account = account_of(partner)
        answer = admin_client.get(address("account_adjust", account.pk))
        assert answer.status_code == 200
        text = text_of(self.send(admin_client, account))
        assert [unescape(each) for each in re.findall(r'aff-number">([^<]*EUR)<', text)] == [
            "10.00 EUR", "22.50 EUR", "0.00 EUR", "12.50 EUR", "10.00 EUR", "10.00 EUR",
        ]  # fmt: skip
        assert total(partner) == 1000
        answer = self.send(admin_client, account, confirmed="yes")
        assert told(answer) == ["12.50 EUR was posted."]
        entry = Entry.objects.get(kind="adjustment")
        assert (entry.minor, entry.memo) == (1250, "For the nice picture")
        assert ledger.balance(account) == (2250, 1250, "EUR")
        [log] = LogEntry.objects.all()
        assert (log.object_id, log.get_change_message()) == (
            str(account.pk),
            "Posted an adjustment of 12.50\N{NO-BREAK SPACE}EUR: For the nice picture",
        )

    def test_it_is_held_like_a_commission(self, admin_client, partner):
        account = account_of(partner)
        with freeze():
            self.send(admin_client, account, amount="-3", available="held", confirmed="yes")
            entry = Entry.objects.get()
            assert (entry.minor, entry.available_on) == (-300, timezone.now() + timedelta(days=30))

    def test_it_can_still_be_changed(self, admin_client, partner):
        answer = self.send(admin_client, account_of(partner), again="yes")
        assert 'value="12.50"' in answer.content.decode()
        assert answer.context["preview"] is None

    def test_a_second_click_posts_nothing(self, admin_client, partner):
        account, token = account_of(partner), str(uuid4())
        self.send(admin_client, account, token=token, confirmed="yes")
        answer = self.send(admin_client, account, token=token, confirmed="yes")
        assert told(answer) == [
            "12.50 EUR had been posted before, by the same form: once is enough."
        ]
        answer = self.send(admin_client, account, token=token, amount="1", confirmed="yes")
        assert "had posted another sum before" in told(answer)[0]
        assert (total(partner), LogEntry.objects.count()) == (1250, 1)

    @pytest.mark.parametrize(
        ("field", "value", "said"),
        [
            ("amount", "abc", "is not a number such as 12.50"),
            ("amount", "1e9", "is not a number such as 12.50"),
            ("amount", "NaN", "is not a number such as 12.50"),
            ("amount", "0.00", "it is zero"),
            ("amount", "1.005", "EUR has 2 decimal places, not more"),
            ("amount", "9" * 40, "is too large"),
            ("amount", "", "This field is required."),
            ("memo", " ", "This field is required."),
            ("memo", "x" * 501, "at most 500 characters"),
            ("memo", "a\0b", "Null characters are not allowed."),
            ("available", "later", "Select a valid choice"),
            ("token", "x", "Enter a valid UUID"),
        ],
    )
    def test_what_is_wrong_is_said_and_nothing_posted(
        self, admin_client, partner, field, value, said
    ):
        for more in ({}, {"confirmed": "yes"}):
            answer = self.send(admin_client, account_of(partner), **{field: value}, **more)
            assert answer.status_code == 200
            assert said in unescape(answer.content.decode())
        assert not Entry.objects.exists()

    def test_who_may(self, partner):
        account = account_of(partner)
        data = self.form(confirmed="yes")
        for codenames in (["view_account"], ["add_entry"], ["change_account", "view_entry"]):
            client = staff_with(*codenames)
            assert client.get(address("account_adjust", account.pk)).status_code == 403
            assert client.post(address("account_adjust", account.pk), data).status_code == 403
        assert Client().post(address("account_adjust", account.pk), data).status_code == 302
        assert not Entry.objects.exists()
        viewer, poster = staff_with("view_account"), staff_with("view_account", "add_entry")
        assert address("account_adjust", account.pk) not in page(
            viewer, "account_change", account.pk
        )
        assert address("account_adjust", account.pk) in page(poster, "account_change", account.pk)
        site = ledger.site_account("adjustment", "EUR")
        assert poster.post(address("account_adjust", site.pk), data).status_code == 403
        assert poster.post(address("account_adjust", account.pk), data).status_code == 302
        assert total(partner) == 1250


@pytest.mark.django_db(transaction=True)
class TestClicksAtOnce:
    def clicks(self, partner, number=6):
        account, data = account_of(partner), TestAdjustments().form(confirmed="yes")
        clients = [staff_with("view_account", "add_entry") for _ in range(number)]

        def click():
            answer = clients.pop().post(address("account_adjust", account.pk), data)
            return answer.status_code

        assert at_once(number, click) == [302] * number
        return total(partner), LogEntry.objects.count()

    def test_clicks_at_once_post_once(self, partner):
        assert self.clicks(partner) == (1250, 1)

    def test_teeth_without_a_token_each_click_posts(self, partner, monkeypatch):
        def post(self, request, account, form):
            ledger.post(account, form.cleaned_data["amount"], kind="adjustment", key=str(uuid4()))
            return True

        monkeypatch.setattr(AdjustingMixin, "_post", post)
        assert self.clicks(partner, 3)[0] == 3 * 1250


class TestNobodyEdits:
    def test_accounts_and_commissions(self, admin_client, partner):
        convert(partner)
        for model, pk in (
            ("account", account_of(partner).pk),
            ("commission", Commission.objects.get().pk),
        ):
            assert admin_client.get(address(f"{model}_add")).status_code == 403
            assert admin_client.get(address(f"{model}_delete", pk)).status_code == 403
            assert admin_client.post(address(f"{model}_change", pk), {}).status_code == 403
            answer = admin_client.post(
                address(f"{model}_changelist"),
                {"action": "delete_selected", "_selected_action": pk, "post": "yes"},
            )
            assert answer.status_code in (200, 302)
        assert (total(partner), Commission.objects.count()) == (1000, 1)

    def test_who_may_look(self, partner):
        convert(partner)
        account, commission = account_of(partner), Commission.objects.get()
        other = staff_with("view_conversion")
        for path in (
            address("account_changelist"),
            address("account_change", account.pk),
            address("account_statement", account.pk),
            address("commission_changelist"),
            address("commission_export"),
            address("commission_change", commission.pk),
        ):
            assert other.get(path).status_code == 403
            assert Client().get(path).status_code == 302
            assert staff_with("view_account", "view_commission").get(path).status_code == 200


class TestCommissions:
    def test_the_list_says_what_became_of_each(self, partner, settings):
        settings.AFFILIATE_PAYOUT_MINIMUM = {"EUR": 1}
        own = make_user("annas")
        partner.users.add(own)
        with freeze() as clock:
            convert(partner, reference="paid")
            clock.tick(days=31)
            payout = payouts.make_payouts(currency="EUR").payouts.get()
            payouts.approve(payout)
            payouts.mark_sent(payout)
            payouts.mark_paid(payout)
            convert(partner, reference="due")
            clock.tick(days=31)
            payouts.make_payouts(currency="EUR")
            convert(partner, reference="free")
            clock.tick(days=31)
            reverse_conversion(convert(partner, reference="back"))
            reverse_conversion(convert(partner, reference="part"), Money(2500, "EUR"))
            convert(partner, reference="own", user=own)
            settings.AFFILIATE_APPROVAL = True
            convert(partner, reference="seen")
            convert(partner, reference="rejected")
            rejected = Review.objects.latest("pk")
            reviews.reject(rejected, by=own)
            text = page(boss(), "commission_changelist")
            until = timezone.localtime(timezone.now() + timedelta(days=30))
        rows = zip(
            *(cells(text, name) for name in ("conversion_name", "sums", "state")),
            strict=True,
        )
        found = {re.search(r"\((.*)\)", name)[1]: rest for name, *rest in rows}
        second = Payout.objects.latest("pk")
        assert found == {
            "paid": ["10.00 EUR", f"paid out in Payout {payout.reference}"],
            "due": ["10.00 EUR", f"draft in Payout {second.reference}"],
            "free": ["10.00 EUR", "available"],
            "back": ["10.00 EUR0.00 EUR left", "taken back"],
            "part": ["10.00 EUR7.50 EUR left", f"held until {until:%B} {until.day}, {until.year}"],
            "own": ["0.00 EUR", "nothing: it was one of the partner’s own people"],
            "seen": ["10.00 EUR", "held for review"],
            "rejected": ["10.00 EUR0.00 EUR left", "rejected"],
        }

    def test_it_is_filtered_and_searched(self, admin_client, partner):
        other = make_partner(name="Bert")
        special = make_rule(20, name="Special", partner=other)
        convert(partner, reference="A-1")
        convert(other, reference="A-2")
        convert(other, reference="A-3", trigger="User registered")

        def found(**query):
            text = page(admin_client, "commission_changelist", **query)
            return sorted(
                re.search(r"\((.*)\)", name)[1] for name in cells(text, "conversion_name")
            )

        assert found() == ["A-1", "A-2", "A-3"]
        assert found(rule=special.pk) == found(rule="speci") == ["A-2", "A-3"]
        assert found(rule=special.pk + 1) == found(rule="x") == found(rule="9" * 30) == []
        assert found(partner="Bert") == found(q=other.uid) == ["A-2", "A-3"]
        assert found(trigger="User registered") == ["A-3"]
        assert found(q="A-1") == ["A-1"]
        assert found(q="A-") == found(q="\0") == found(q=HOSTILE) == [] or found(q="\0")
        assert found(converted_on__year="2001") == []

    @pytest.mark.parametrize("count", [1, 30])
    def test_it_takes_the_same_queries_however_long(
        self, admin_client, django_assert_num_queries, count
    ):
        for _ in range(count):
            partner = make_partner()
            make_rule(10, partner=partner)
            convert(partner)
        # Session and user; triggers; how many; the rows; their conversions, partners and rules;
        # entries, payouts and reviews; from when to when.
        with django_assert_num_queries(13):
            page(admin_client, "commission_changelist")

    def test_the_page_explains_it(self, admin_client, partner):
        conversion = convert(partner, reference="A-17")
        reverse_conversion(conversion, Money(2500, "EUR"))
        text = page(admin_client, "commission_change", Commission.objects.get().pk)
        assert "It pays 10 % of the amount." in text
        assert "the most specific of those that held: 10.00 EUR." in text
        assert "Taken back on" in text
        assert "Reversal of the commission on Order placed (A-17)" in text

    def test_it_is_exported_as_it_is_filtered(self, admin_client, partner, monkeypatch):
        monkeypatch.setattr(commissions_admin, "EXPORTED_AT_ONCE", 2)
        other = make_partner(name="Bert")
        for number in range(5):
            convert(partner, reference=f"A-{number}")
        convert(other, reference="B-1")
        answer = admin_client.get(address("commission_export"), {"partner": "Anna"})
        text = b"".join(answer.streaming_content).decode("utf-8-sig")
        heading, *lines = csv.reader(StringIO(text))
        assert [line[2] for line in lines] == [f"A-{number}" for number in range(4, -1, -1)]
        assert [Decimal(line[7]) for line in lines] == [Decimal("10.00")] * 5
        assert heading[5] == "rule"
        assert {line[5] for line in lines} == {"Ten percent"}


class TestSections:
    def test_a_conversions_page_says_what_it_earned_and_why(self, admin_client, partner):
        conversion = convert(partner)
        url = reverse("admin:affiliations_conversion_change", args=[conversion.pk])
        text = admin_client.get(url).content.decode()
        assert "What was earned by this, and why?" in text
        assert address("commission_change", Commission.objects.get().pk) in text
        assert "It pays 10 % of the amount." in text
        text = staff_with("view_conversion").get(url).content.decode()
        assert "What was earned" not in text

    def test_a_partners_page_leads_to_its_accounts(self, admin_client, partner):
        url = reverse("admin:affiliations_partner_change", args=[partner.pk])
        assert "Nothing was ever owed to it." in admin_client.get(url).content.decode()
        convert(partner)
        text = admin_client.get(url).content.decode()
        assert address("account_change", account_of(partner).pk) in text
        assert "10.00\N{NO-BREAK SPACE}EUR owed, 0.00\N{NO-BREAK SPACE}EUR of it available" in text
        assert f'{address("commission_changelist")}?partner={partner.uid}"' in text
        viewer = staff_with("view_partner", "view_account").get(url).content.decode()
        assert "Rewards" in viewer
        assert address("commission_changelist") not in viewer
        assert "Account in EUR" not in staff_with("view_partner").get(url).content.decode()
        assert admin_client.get(reverse("admin:affiliations_partner_add")).status_code == 200

    def test_the_core_shows_what_others_add(self, admin_client, partner, monkeypatch):
        added = lambda request, site, row: sections.Section(HOSTILE, f"{row.pk} {HOSTILE}")  # noqa: E731
        monkeypatch.setattr(sections, "CONVERSION", [added, lambda *each: None])
        conversion = convert(partner)
        url = reverse("admin:affiliations_conversion_change", args=[conversion.pk])
        text = admin_client.get(url).content.decode()
        assert HOSTILE not in text
        assert text.count("aff-section") == 1
