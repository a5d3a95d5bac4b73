"""Statements: what a payout is the sum of, told to whom it is paid, and nothing of others."""

import csv
import re
import tracemalloc
from datetime import timedelta
from html import unescape
from io import StringIO

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import AsyncRequestFactory, RequestFactory
from django.test.utils import CaptureQueriesContext

from affiliations.money import Money
from affiliations.rewards import ledger, payouts, payoutstatements
from affiliations.rewards.models import Entry, Payout, PayoutBatch, PayoutEntry
from affiliations.services import reverse_conversion
from tests.core.factories import make_partner, make_user
from tests.rewards.factories import account_of, convert, make_rule

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def payout(settings):
    """Two commissions, of which one was taken back in part, a credit and a debt."""
    settings.AFFILIATE_HOLD = timedelta(0)
    make_rule(10)
    partner = make_partner(name=f"Anna {HOSTILE}")
    convert(partner, minor=60_000, reference="A-17", user=make_user("mia@example.com"))
    reverse_conversion(
        convert(partner, minor=20_000, reference="=A-18"), Money(5000, "EUR"), reference="R-1"
    )
    account = account_of(partner)
    ledger.post(account, Money(1050, "EUR"), kind="credit", key="c", memo=f"Gift {HOSTILE}")
    ledger.post(account, Money(-99, "EUR"), kind="adjustment", key="d")
    return payouts.make_payouts(currency="EUR").payouts.get()


def page_of(payout, factory=RequestFactory):
    return payoutstatements.as_page(factory().get("/"), payout)


def table_of(payout):
    answer = payoutstatements.as_csv(RequestFactory().get("/"), payout)
    text = answer.getvalue().decode("utf-8-sig")
    return answer, list(csv.reader(StringIO(text, newline="")))


def cells(text):
    rows = re.findall(r"<tr>(<td.*?)</tr>", text)
    return [[unescape(each) for each in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows]


def test_it_lists_each_entry_and_what_they_come_to(payout):
    found = list(payoutstatements.rows(payout))
    assert [(row.text, row.reference, row.money.minor, row.total.minor) for row in found] == [
        ("Order placed", "A-17", 6000, 6000),
        ("Order placed", "=A-18", 2000, 8000),
        ("Taken back: Order placed", "=A-18", -500, 7500),
        (f"Credit: Gift {HOSTILE}", "", 1050, 8550),
        ("Adjustment", "", -99, 8451),
    ]
    assert found[-1].total == payout.money
    assert payoutstatements.off_by(payout) is None


def test_the_page_says_the_same(payout):
    text = page_of(payout).getvalue().decode()
    assert [row[1:] for row in cells(text)][2] == [
        "Taken back: Order placed",
        "=A-18",
        "\N{MINUS SIGN}5.00",
        "75.00",
    ]
    assert '<td colspan="2">84.51 EUR</td>' in text
    assert payout.reference in text
    assert "Not paid yet: a draft" in text
    assert HOSTILE not in text
    assert unescape(text).count(HOSTILE) == 2
    assert 'role="alert"' not in text
    assert payoutstatements.HERE not in text
    assert text.rstrip().endswith("</html>")
    assert not re.search(r"<script|style=", text)


def test_the_table_says_the_same_and_runs_nothing(payout):
    answer, rows = table_of(payout)
    assert f'filename="payout-{payout.reference}.csv"' in answer["Content-Disposition"]
    assert rows[0] == ["Payout", payout.reference]
    assert ["Amount", "84.51 EUR"] in rows
    at = rows.index([])
    assert rows[at + 1][1:] == ["what for", "reference", "amount", "sum", "currency"]
    assert [row[1:] for row in rows[at + 2 : at + 5]] == [
        ["Order placed", "A-17", "60.00", "60.00", "EUR"],
        ["Order placed", "'=A-18", "20.00", "80.00", "EUR"],
        ["Taken back: Order placed", "'=A-18", "-5.00", "75.00", "EUR"],
    ]
    assert rows[-1] == ["total", "", "", "84.51", "", "EUR"]


def test_nobody_who_bought_or_visited_is_named(payout):
    named = [each.commission for each in Entry.objects.exclude(commission=None)]
    secrets = {"mia@example.com", *(each.visitor.ident for each in named)}
    for answer in (page_of(payout), table_of(payout)[0]):
        text = answer.getvalue().decode()
        assert not [each for each in secrets if each and each in text]


def test_of_a_user_who_registered_there_is_no_number(settings, payout):
    user = make_user()
    partner = make_partner()
    reference = f"auth.user:{user.pk}"
    convert(partner, trigger="User registered", minor=60_000, reference=reference, user=user)
    payout = payouts.make_payouts(currency="EUR").payouts.get()
    [row] = payoutstatements.rows(payout)
    assert (row.text, row.reference) == ("User registered", "")


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (["approve"], "Not paid yet: approved on"),
        (["approve", "send"], "On its way since"),
        (["approve", "send", "pay"], "Paid on"),
        (["fail"], "nothing was paid"),
        (["approve", "send", "pay", "back"], "Paid, and came back on"),
    ],
)
def test_it_says_what_became_of_it(payout, steps, said):
    do = {
        "approve": payouts.approve,
        "send": lambda payout: payouts.mark_sent(payout, "T-9"),
        "pay": payouts.mark_paid,
        "fail": lambda payout: payouts.fail(payout, f"left {HOSTILE}"),
        "back": lambda payout: payouts.mark_returned(payout, f"closed {HOSTILE}"),
    }
    for step in steps:
        do[step](payout)
    text = page_of(Payout.objects.get(pk=payout.pk)).getvalue().decode()
    assert said in text
    assert ("it is owed again, and will" in text) == (payout.state in ("failed", "returned"))
    assert ("T-9" in text) == ("send" in steps)
    assert ("by hand" in text) == ("send" in steps)
    assert HOSTILE not in text
    # The entries it was of are listed whatever became of it.
    assert len(cells(text)) == 5


@pytest.mark.parametrize("minor", [8450, 8452, 2**62])
def test_where_the_sum_is_wrong_it_says_so_loudly(payout, minor):
    Payout.objects.filter(pk=payout.pk).update(minor=minor)
    payout.refresh_from_db()
    off = Money(8451 - minor, "EUR")
    assert payoutstatements.off_by(payout) == off
    text = page_of(payout).getvalue().decode()
    sign = "\N{MINUS SIGN}" if off.minor < 0 else ""
    shown = f"{sign}{abs(off.amount):,} EUR"
    assert f'role="alert">The entries do not sum to this payout: they are off by {shown}' in text
    assert f"off by {off}" in table_of(payout)[1][-1][0]


def make_long(number):
    """Return a payout of so many entries."""
    account = ledger.account_of("member:1", "EUR")
    ledger.post(account, Money(100, "EUR"), kind="credit", key="first")
    first = Entry.objects.get()
    fields = {"account": account, "contra": first.contra, "kind": "credit", "minor": 1}
    when = {"available_on": first.available_on, "created_on": first.created_on}
    Entry.objects.bulk_create(
        [Entry(**fields, **when, key=f"k{n}", memo="x" * 100) for n in range(number - 1)],
        batch_size=500,
    )
    batch = PayoutBatch.objects.create(currency="EUR", until=first.created_on)
    payout = Payout.objects.create(batch=batch, account=account, minor=99 + number)
    PayoutEntry.objects.bulk_create(
        [PayoutEntry(payout=payout, entry=each, claimed=each.pk) for each in Entry.objects.all()],
        batch_size=500,
    )
    return payout


def test_a_long_one_is_read_piece_by_piece(monkeypatch):
    monkeypatch.setattr(payoutstatements, "AT_ONCE", 50)
    payout = make_long(500)
    with CaptureQueriesContext(connection) as queries:
        pieces = iter(page_of(payout))
        next(pieces)
        first = len(queries)
        assert sum(1 for _ in pieces) > 1
    # The account and its partner; the sum; the numbers; and then some of them at a time.
    assert first <= 8
    assert len(queries) <= 5 + 500 // 50
    assert table_of(payout)[1][-1] == ["total", "", "", "5.99", "", "EUR"]


def test_memory_does_not_grow_with_its_length(monkeypatch):
    monkeypatch.setattr(payoutstatements, "AT_ONCE", 50)
    payout = make_long(4000)

    def peak(number):
        tracemalloc.start()
        for _, _row in zip(range(number), payoutstatements.rows(payout), strict=False):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    assert peak(4000) < 2 * peak(400)


def test_it_is_streamed_under_asgi_too(payout):
    answer = page_of(payout, AsyncRequestFactory)

    async def read():
        return [piece async for piece in answer]

    text = b"".join(async_to_sync(read)()).decode()
    assert len(cells(text)) == 5
