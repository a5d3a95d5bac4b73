"""The admin of transactions: what is found, what each says of the network, and refunds."""

import csv
import re
from datetime import timedelta
from html import unescape
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from affiliations.admin import lists
from affiliations.links import services
from affiliations.links.admin.transactions import accepted, relayed
from affiliations.links.models import Link, Transaction
from affiliations.models import Callback, CallbackAttempt
from affiliations.outcomes import REFUSED
from tests.core.factories import make_partner, make_user, make_visitor
from tests.links.factories import NETWORK_ID, make_link, make_transaction
from tests.links.test_admin_links import HOSTILE, address, page, sold, staff_with, told

pytestmark = pytest.mark.django_db
CALLED = "http://127.0.0.1:1/aff_lsr?transaction_id={transaction_id}&amount={amount}"


def act(client, *rows, **more):
    data = {"action": "refund", "_selected_action": [row.pk for row in rows], "index": 0, **more}
    return client.post(address("transaction_changelist"), data, follow=True)


def listed(client, **query):
    """Return the numbers of the transactions that the list shows."""
    text = page(client, "transaction_changelist", **query)
    return sorted(int(pk) for pk in re.findall(r'field-number"><a[^>]*>(\d+)<', text))


def bought(link=None, **fields):
    """Return a transaction that was completed as the API does it."""
    link = link or make_link(callback_url=CALLED, currency="EUR")
    user = make_user()
    make_transaction(link, user=user, **fields)
    return services.complete(item_id=link.item_id, user=user, amount="44.90", order_id="A-1")


def called(transaction, **fields):
    """Return the transaction after something became of its call."""
    Callback.objects.filter(pk=transaction.relay.pk).update(**fields)
    return Transaction.objects.get(pk=transaction.pk)


class TestFacts:
    """Completed, relayed and accepted are three facts."""

    def words(self, transaction):
        return tuple(str(text) for _, text in (relayed(transaction), accepted(transaction)))

    def test_before_there_was_a_purchase(self):
        assert self.words(make_transaction()) == ("–", "–")
        assert self.words(make_transaction(state="fulfilled")) == ("–", "–")

    def test_without_anybody_to_tell(self):
        assert self.words(bought(make_link())) == ("nobody to tell", "–")

    @pytest.mark.parametrize(
        ("state", "expects", "words"),
        [
            ("pending", "success=true", ("waiting", "–")),
            ("parked", "success=true", ("parked", "–")),
            ("dead", "success=true", ("given up", "–")),
            ("canceled", "success=true", ("canceled", "–")),
            ("delivered", "success=true", ("relayed", "accepted")),
            ("delivered", "", ("relayed", "no answer is expected")),
            ("refused", "success=true", ("relayed", "refused: success=false; known")),
        ],
    )
    def test_what_the_call_says(self, admin_client, state, expects, words):
        reason = f"{REFUSED} It said: success=false; known" if state == "refused" else ""
        row = called(bought(), state=state, expects=expects, reason=reason)
        assert self.words(row) == words
        for text in (
            page(admin_client, "transaction_changelist"),
            page(admin_client, "transaction_change", row.pk),
        ):
            assert all(f"{each}<" in unescape(text) for each in words)

    def test_it_was_relayed_where_any_attempt_was_answered(self, admin_client):
        row = called(bought(), state="pending", attempts=2)
        log = {"callback": row.relay, "started_on": timezone.now(), "duration_ms": 1}
        CallbackAttempt.objects.create(number=1, status=500, **log)
        assert self.words(row) == ("waiting", "–")
        CallbackAttempt.objects.create(number=2, status=200, **log)
        assert self.words(row) == ("relayed", "–")
        assert ">relayed</span>" in page(admin_client, "transaction_changelist")

    def test_what_the_network_says_is_shortened(self):
        row = called(bought(), state="refused", reason=f"{REFUSED} It said: {'x' * 400}")
        assert len(self.words(row)[1]) < 80


class TestList:
    @pytest.mark.parametrize("count", [1, 30])
    def test_it_takes_the_same_queries_however_long(
        self, admin_client, django_assert_num_queries, count
    ):
        for n in range(count):
            link = make_link(callback_url=CALLED, partner=make_partner(), item_id=f"x-{n}")
            user = make_user()
            make_transaction(link, user=user)
            services.complete(item_id=f"x-{n}", user=user, amount=5)
        # Session and user; how many; from when to when, twice each; the rows; their links and
        # partners, users, calls, and attempts that were answered.
        with django_assert_num_queries(11):
            page(admin_client, "transaction_changelist")

    def test_it_shows_who_clicked_and_what_came_of_it(self, admin_client):
        row = bought()
        make_transaction(ident="a-browser-with-a-long-id")
        text = page(admin_client, "transaction_changelist")
        assert "44.90\N{NO-BREAK SPACE}EUR" in text
        assert row.user.get_username() in text
        assert 'title="a-browser-with-a-long-id">a-browser-w…</span>' in text

    def test_it_is_filtered(self, admin_client):
        anna = make_partner(name="Anna")
        link = make_link(partner=anna, path="One")
        first = make_transaction(link)
        second = sold(make_link(), 500)
        old = sold(link, 500, when=timezone.now() - timedelta(days=40))
        pks = [first.pk, second.pk, old.pk]
        assert listed(admin_client) == pks
        assert listed(admin_client, state="open") == [first.pk]
        assert listed(admin_client, state="completed") == [second.pk]
        assert listed(admin_client, state="nonsense") == pks
        assert listed(admin_client, partner="ann") == [first.pk, old.pk]
        assert listed(admin_client, partner=anna.uid) == [first.pk, old.pk]
        assert listed(admin_client, link="One") == [first.pk, old.pk]
        assert listed(admin_client, link="one\0") == []
        period = {
            "created_on__year": old.created_on.year,
            "created_on__month": old.created_on.month,
        }
        assert old.pk in listed(admin_client, **period, state="completed")
        assert old.pk in listed(admin_client, **period)

    def test_many_partners_of_a_name(self, admin_client, monkeypatch):
        monkeypatch.setattr(lists, "FEW", 1)
        rows = [
            make_transaction(make_link(partner=make_partner(name=f"Blog {n}"))) for n in range(3)
        ]
        make_transaction()
        assert listed(admin_client, partner="blog") == [row.pk for row in rows]

    def test_it_is_searched_by_what_staff_have_at_hand(self, admin_client):
        user = make_user("mia@example.com")
        first = make_transaction(make_link(item_id="course-1"), user=user, network_id="n" * 20)
        second = make_transaction(make_link(item_id="course-2"), network_id="")
        third = sold(make_link(item_id="course-3"), 500, order_id="A-17", network_id="")
        pks = [first.pk, second.pk, third.pk]
        assert listed(admin_client, q="mia@example.com") == [first.pk]
        assert listed(admin_client, q="n" * 20) == [first.pk]
        assert listed(admin_client, q="course-2") == [second.pk]
        assert listed(admin_client, q="A-17") == [third.pk]
        assert listed(admin_client, q=str(second.pk)) == [second.pk]
        assert listed(admin_client, q="mia") == []
        assert listed(admin_client, q="9" * 30) == []
        assert listed(admin_client, q=" ") == pks
        assert len(listed(admin_client, q="a\0b")) in (0, 3)

    def test_what_no_index_leads_to_is_looked_for_in_a_period(self, admin_client):
        old = sold(make_link(), 500, when=timezone.now() - timedelta(days=40), order_id="A-17")
        assert listed(admin_client, q="A-17") == []
        assert listed(admin_client, q="A-17", created_on__year=old.created_on.year) == [old.pk]

    def test_no_query_looks_at_all_of_many(self, admin_client, monkeypatch):
        monkeypatch.setattr(lists, "BOUND", 120)
        link = make_link()
        for n in range(200):
            make_transaction(link, created_on=timezone.now() - timedelta(days=n))
        for query in ({}, {"p": 2}, {"state": "refunded"}, {"q": "nothing"}, {"link": link.path}):
            with CaptureQueriesContext(connection) as captured:
                page(admin_client, "transaction_changelist", **query)
            asked = [each["sql"] for each in captured if "links_transaction" in each["sql"]]
            assert not [sql for sql in asked if "DISTINCT" in sql]
            [counted] = [sql for sql in asked if "COUNT" in sql]
            assert "LIMIT 121" in counted
            if "state" in query or "q" in query:
                assert "created_on" in counted.partition("WHERE")[2]
        assert "More than 120 transactions" in page(admin_client, "transaction_changelist")

    def test_it_is_exported_as_it_is_filtered(self, admin_client):
        partner = make_partner(name="=Anna")
        row = bought(make_link(callback_url=CALLED, currency="EUR", partner=partner, path="One"))
        make_transaction()
        called(row, state="delivered")
        response = admin_client.get(address("transaction_export"), {"state": "completed"})
        assert response.streaming
        [line] = csv.DictReader(StringIO(response.getvalue().decode("utf-8-sig")))
        assert line["number"] == str(row.pk)
        assert (line["link"], line["partner"], line["order"]) == ("One", "'=Anna", "A-1")
        assert (line["amount"], line["currency"]) == ("44.90", "EUR")
        assert (line["relayed"], line["accepted by the network"]) == ("relayed", "accepted")
        assert line["network’s transaction"] == NETWORK_ID

    @pytest.mark.parametrize("count", [1, 30])
    def test_the_export_takes_the_same_queries_however_long(
        self, admin_client, django_assert_num_queries, count
    ):
        for n in range(count):
            bought(make_link(callback_url=CALLED, item_id=f"x-{n}"))
        # As the list, but for the periods; here the rows are read once.
        with django_assert_num_queries(8):
            admin_client.get(address("transaction_export")).getvalue()


class TestPage:
    def test_it_tells_everything(self, admin_client):
        partner = make_partner()
        link = make_link(callback_url=CALLED, currency="EUR", partner=partner)
        row = bought(link, visitor=make_visitor(partner), query={"a": ["1", "2"], "b": "x"})
        row.refresh_from_db()
        text = page(admin_client, "transaction_change", row.pk)
        assert "a: 1\na: 2\nb: x<" in text
        for model, each in (
            ("visitor", row.visitor),
            ("conversion", row.conversion),
            ("callback", row.relay),
        ):
            assert reverse(f"admin:affiliations_{model}_change", args=[each.pk]) in text
        assert address("link_change", link.pk) in text
        called(row, state="delivered", attempts=1)
        services.refund_transaction(Transaction.objects.get())
        adjustment = Transaction.objects.get().adjustment
        text = page(admin_client, "transaction_change", row.pk)
        assert reverse("admin:affiliations_callback_change", args=[adjustment.pk]) in text

    @pytest.mark.parametrize("query", [{}, [], "text", {"a": {"b": [1]}}, {"a": None}])
    def test_whatever_is_stored_as_its_query(self, admin_client, query):
        row = make_transaction(query=query)
        assert page(admin_client, "transaction_change", row.pk)


class TestRefund:
    def test_it_is_asked_first_and_said_what_will_happen(self, admin_client, settings):
        settings.AFFILIATE_REFUND_ALERTS = ["thomas@example.com"]
        row = bought()
        text = unescape(act(admin_client, row).content.decode())
        assert "44.90\N{NO-BREAK SPACE}EUR was paid." in text
        assert "The network was not told of it yet, and will not be." in text
        assert "A mail goes to thomas@example.com." in text
        assert Transaction.objects.get().state == "completed"
        response = act(admin_client, row, confirmed="yes")
        assert told(response) == ["1 purchase was refunded."]
        row.refresh_from_db()
        assert (row.state, row.relay.state) == ("refunded", "canceled")
        assert LogEntry.objects.get().change_message == "Refunded."

    @pytest.mark.parametrize(
        ("fields", "words", "adjusted"),
        [
            ({"state": "pending"}, "was not told of it yet", False),
            ({"state": "delivered", "attempts": 1}, "is told now that it does not count", True),
            ({"state": "pending", "attempts": 1}, "is told now that it does not count", True),
            ({"state": "refused", "attempts": 1}, "The network had refused it", False),
        ],
    )
    def test_what_is_said_is_what_happens(self, admin_client, fields, words, adjusted):
        row = called(bought(), **fields)
        assert words in unescape(act(admin_client, row).content.decode())
        act(admin_client, row, confirmed="yes")
        assert (Transaction.objects.get().adjustment is not None) is adjusted

    def test_nobody_was_to_be_told(self, admin_client):
        text = act(admin_client, bought(make_link())).content.decode()
        assert "No network was to be told of it" in text

    def test_several_at_once(self, admin_client):
        rows = [bought(make_link(item_id=f"x-{n}", currency="EUR")) for n in range(2)]
        text = unescape(act(admin_client, *rows).content.decode())
        assert "89.80\N{NO-BREAK SPACE}EUR was paid." in text
        assert "Each network that was told" in text
        response = act(admin_client, *rows, confirmed="yes")
        assert told(response) == ["2 purchases were refunded."]

    def test_only_what_was_completed(self, admin_client):
        row = make_transaction()
        assert 'value="refund"' not in page(admin_client, "transaction_change", row.pk)
        assert told(act(admin_client, row, confirmed="yes")) == [
            "Only what was completed can be refunded."
        ]
        done = bought()
        assert 'value="refund"' in page(admin_client, "transaction_change", done.pk)
        act(admin_client, done, confirmed="yes")
        assert 'value="refund"' not in page(admin_client, "transaction_change", done.pk)
        assert LogEntry.objects.count() == 1


class TestPermissions:
    def test_nobody_edits_adds_or_deletes_one(self, admin_client):
        row = bought()
        assert admin_client.post(address("transaction_add"), {}).status_code == 403
        for name in ("change", "delete"):
            url = address(f"transaction_{name}", row.pk)
            assert admin_client.post(url, {"post": "yes"}).status_code == 403
        assert Transaction.objects.get().state == "completed"

    def test_who_may_only_look_refunds_nothing(self, client):
        row = bought()
        client = staff_with(client, "view_transaction")
        assert 'name="action"' not in page(client, "transaction_changelist")
        assert "aff-tool" not in page(client, "transaction_change", row.pk)
        act(client, row, confirmed="yes")
        assert Transaction.objects.get().state == "completed"
        assert not LogEntry.objects.exists()
        assert client.get(address("transaction_export")).status_code == 200

    def test_who_may_change_links_may_not_see_transactions(self, client):
        row = bought()
        client = staff_with(client, "view_link", "change_link")
        for name, *args in (
            ("transaction_changelist",),
            ("transaction_export",),
            ("transaction_change", row.pk),
        ):
            assert client.get(address(name, *args)).status_code == 403


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "javascript:alert(1)",
        "\"'><img src=x onerror=alert(1)>",
        "{{ 7|add:7 }}{% now %}",
        "x" * 2000,
        "\u202eabc",
    ],
)
def test_every_page_bears_hostile_data(admin_client, text):
    link = make_link(partner=make_partner(name=text[:250]))
    Link.objects.update(path=text[:64], item_id=text[:200])
    link.refresh_from_db()
    row = sold(
        link,
        500,
        "???",
        ident=text[:64],
        user=make_user(text[:150]),
        network_id=text[:255],
        query={text: text, "many": [text, text]},
        given={"promo_code": text},
        landing_page=text,
        order_id=text[:200],
        relay=Callback.objects.create(
            url=text, state="refused", reason=f"{REFUSED} It said: {text}"[:500]
        ),
    )
    pages = [
        page(admin_client, "transaction_changelist"),
        page(admin_client, "transaction_changelist", q=text, partner=text, link=text, state=text),
        page(admin_client, "transaction_change", row.pk),
        page(admin_client, "transaction_history", row.pk),
        act(admin_client, row).content.decode(),
    ]
    for each in pages:
        assert HOSTILE not in each
        assert "<img src=x" not in each
        assert not re.search(r'(href|src|action)="\s*javascript:', each)
