"""Files that tell a provider whom to pay, and what they say of it afterwards."""

import csv
from io import StringIO

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from affiliations.money import Money
from affiliations.rewards import ledger, payoutfiles, payouts
from affiliations.rewards.exceptions import InvalidResultFile
from affiliations.rewards.models import Entry, Payout, PayoutDestination

pytestmark = pytest.mark.django_db


def pay_to(number, method="paypal", currency="EUR", minor=6000, **fields):
    """Owe a holder something, and say where it is paid."""
    account = ledger.account_of(f"member:{number}", currency)
    ledger.post(account, Money(minor, currency), kind="credit", key=f"{number}:{currency}")
    fields = {"name": f"Member {number}", "email": f"m{number}@example.com", **fields}
    return PayoutDestination.objects.create(holder=account.holder, method=method, **fields)


def sent(method="paypal", currency="EUR"):
    """Draft, approve and send what goes by a method; return the batch."""
    batch = payouts.make_payouts(currency=currency)
    payouts.approve_batch(batch)
    payouts.send_batch(batch, method)
    return batch


def table(content):
    return list(csv.reader(StringIO(content.decode(), newline="")))


def answered(*lines):
    """Return a provider's file that says so of payouts."""
    heading = "Transaction ID,Customer ID,Status,Reason,Gross,Currency"
    return "\r\n".join([heading, *lines]).encode()


def of(payout, status, *, number="T1", reason="", amount="", currency=""):
    return ",".join([number, payout.reference, status, reason, amount, currency])


def states():
    return dict(Payout.objects.values_list("account__holder", "state"))


# For a provider


def test_paypal_is_told_without_a_heading():
    pay_to(1, minor=123_456)
    pay_to(2, method="wise")
    batch = sent()
    payout = batch.payouts.get(state="sent")
    [(name, content)] = payoutfiles.files(batch, "paypal")
    assert name == f"payouts-{batch.pk}-paypal-1.csv"
    note = f"Payout {payout.reference}"
    assert table(content) == [
        ["m1@example.com", "1234.56", "EUR", payout.reference, note, "PAYPAL"]
    ]
    assert len(payout.reference) <= 30
    assert payout.reference.isalnum()
    assert Payout.uid_of(payout.reference) == payout.uid
    assert list(payoutfiles.files(batch, "wise")) == []


def test_wise_is_told_what_arrives():
    pay_to(1, "wise", "JPY", name="=cmd|' /C calc'!A0, Anna", minor=7000)
    batch = sent("wise", "JPY")
    [(_, content)] = payoutfiles.files(batch, "wise")
    heading, line = table(content)
    assert dict(zip(heading, line, strict=True)) == {
        "name": "'=cmd|' /C calc'!A0, Anna",
        "recipientEmail": "m1@example.com",
        "paymentReference": batch.payouts.get().reference,
        "receiverType": "PERSON",
        "amountCurrency": "target",
        "amount": "7000",
        "sourceCurrency": "JPY",
        "targetCurrency": "JPY",
    }


def test_no_file_is_larger_than_the_provider_takes_and_each_is_the_same_again(monkeypatch):
    form = payoutfiles.FORMATS["paypal"]._replace(most=2)
    monkeypatch.setitem(payoutfiles.FORMATS, "paypal", form)
    for number in range(5):
        pay_to(number)
    batch = sent()
    first = list(payoutfiles.files(batch, "paypal"))
    assert [len(table(content)) for _, content in first] == [2, 2, 1]
    assert list(payoutfiles.files(batch, "paypal")) == first
    # What is settled stands in no file, and what stays, in the same one.
    payouts.mark_paid(batch.payouts.get(account__holder="member:1"))
    payouts.fail(batch.payouts.get(account__holder="member:4"), "closed")
    again = list(payoutfiles.files(batch, "paypal"))
    assert again == [(first[0][0], again[0][1]), first[1]]
    assert table(again[0][1]) == table(first[0][1])[:1]


def test_who_changes_where_he_is_paid_is_in_one_file_alone():
    destination = pay_to(1)
    batch = sent()
    destination.method, destination.email = "wise", "other@example.com"
    destination.save()
    assert payouts.send_batch(batch, "wise") == 0
    assert list(payoutfiles.files(batch, "wise")) == []
    [(_, content)] = payoutfiles.files(batch, "paypal")
    assert table(content)[0][0] == "m1@example.com"


def test_what_is_not_sent_is_in_no_file():
    pay_to(1)
    batch = payouts.make_payouts(currency="EUR")
    assert list(payoutfiles.files(batch, "paypal")) == []
    payouts.approve_batch(batch)
    assert list(payoutfiles.files(batch, "paypal")) == []


def test_a_holder_has_one_destination_and_it_is_no_formula():
    destination = pay_to(1)
    with pytest.raises(IntegrityError), transaction.atomic():
        PayoutDestination.objects.create(
            holder="member:1", method="wise", name="A", email="a@b.com"
        )
    destination.email = "+m1@example.com"
    with pytest.raises(ValidationError) as caught:
        destination.full_clean()
    assert list(caught.value.message_dict) == ["email"]


# From a provider


def test_what_the_provider_says_is_noted_once():
    for number in range(4):
        pay_to(number)
    batch = sent()
    one, two, three, four = batch.payouts.order_by("account")
    data = answered(
        of(one, "Completed", number="T1", amount="-60.00", currency="EUR"),
        of(two, "Returned", reason="no such account"),
        "",
        of(three, "Unclaimed"),
    )
    lines = payoutfiles.read(data)
    assert payoutfiles.check(lines)
    assert [line.outcome for line in lines] == ["paid", "failed", "open"]
    assert set(states().values()) == {"sent"}
    assert payoutfiles.apply(lines) == (1, 1, 0, 1)
    after = states()
    assert list(after.values()) == ["paid", "failed", "sent", "sent"]
    one.refresh_from_db()
    two.refresh_from_db()
    assert (one.provider_reference, two.reason) == ("T1", "no such account")
    entries = Entry.objects.count()
    assert payoutfiles.apply(payoutfiles.read(data)) == (0, 0, 0, 3)
    assert (states(), Entry.objects.count()) == (after, entries)
    # Later the third one is claimed.
    later = answered(of(one, "Completed"), of(three, "SUCCESS"))
    assert payoutfiles.apply(payoutfiles.read(later)) == (1, 0, 0, 1)
    assert four.pk == Payout.objects.get(state="sent").pk


def test_one_bad_line_and_nothing_is_changed():
    for number in range(7):
        pay_to(number)
    batch = sent()
    good, odd, other, paid, failed, twice, long = batch.payouts.order_by("account")
    payouts.mark_paid(paid)
    payouts.fail(failed, "closed")
    pay_to(8)
    draft = payouts.make_payouts(currency="EUR").payouts.get(account__holder="member:8")
    lines = payoutfiles.read(
        answered(
            of(good, "Completed"),
            of(odd, "Perhaps"),
            of(other, "Completed", amount="60.01", currency="EUR"),
            of(other, "Completed", amount="60.00", currency="USD"),
            of(paid, "Returned"),
            of(failed, "Completed"),
            of(draft, "Completed"),
            of(twice, "Completed"),
            of(twice, "Failed"),
            of(long, "Completed", number="T" * 201),
            "T9,AAAA,Completed",
            f"T9,{'A' * 26},Completed",
            "T9",
        )
    )
    before = states()
    assert not payoutfiles.check(lines)
    said = [(line.number, [text.partition(":")[0] for text in line.problems]) for line in lines]
    assert said == [
        (2, []),
        (3, ["status"]),
        (4, ["amount"]),
        (5, ["amount", "Line 4 is of the same payout."]),
        (6, []),
        (7, ["status"]),
        (8, ["status"]),
        (9, []),
        (10, ["Line 9 is of the same payout."]),
        (11, ["provider_reference"]),
        (12, ["reference"]),
        (13, ["reference"]),
        (14, ["status", "reference"]),
    ]
    with pytest.raises(InvalidResultFile, match="10 of 13"):
        payoutfiles.apply(lines)
    assert states() == before


@pytest.mark.parametrize("amount", ["5,450", "5.450", "5,4,50.00", "NaN", "1e3", "9" * 40])
def test_an_amount_that_is_read_in_two_ways_is_not_guessed(amount):
    pay_to(1, minor=545_000)
    payout = sent().payouts.get()
    [line] = payoutfiles.read(answered(of(payout, "Completed", amount=f'"{amount}"')))
    assert not payoutfiles.check([line])
    for plain in ("5,450.00", "5450.00", "-5450", "5450,00", "5.450,00", "-5.450,0"):
        [line] = payoutfiles.read(answered(of(payout, "Completed", amount=f'"{plain}"')))
        assert payoutfiles.check([line]), line.problems


@pytest.mark.parametrize(
    ("currency", "minor", "amount"),
    [
        ("JPY", 1000, "1,000"),
        ("JPY", 1000, "-1,000"),
        ("JPY", 1_234_500, "1,234,500"),
        ("JPY", 1_234_500, "1.234.500"),
        ("KWD", 1_234_500, "1,234.500"),
        ("KWD", 1_234_500, "1.234,500"),
        ("KWD", 1_234_500, "1234,500"),
        ("KWD", 500, "0,500"),
        ("KWD", 1_234_500_000, "1,234,500"),
        ("EUR", 123_450_000, "1,234,500"),
    ],
)
def test_an_amount_with_marks_between_is_read_where_it_is_clear(settings, currency, minor, amount):
    settings.AFFILIATE_PAYOUT_MINIMUM = {currency: 0}
    pay_to(1, currency=currency, minor=minor)
    payout = sent(currency=currency).payouts.get()
    for said in (currency, currency.lower(), ""):
        line = of(payout, "Completed", amount=f'"{amount}"', currency=said)
        lines = payoutfiles.read(answered(line))
        assert payoutfiles.check(lines), lines[0].problems


@pytest.mark.parametrize(
    ("currency", "minor", "amount"),
    [
        ("KWD", 1234, "1,234"),
        ("KWD", 1_234_000, "1,234"),
        ("EUR", 100_000, "1,000"),
        ("JPY", 1000, "1,00,0"),
        ("JPY", 1000, "1.000"),
    ],
)
def test_one_that_may_be_two_amounts_is_refused_with_its_line(settings, currency, minor, amount):
    settings.AFFILIATE_PAYOUT_MINIMUM = {currency: 0}
    pay_to(1, currency=currency, minor=minor)
    payout = sent(currency=currency).payouts.get()
    [line] = payoutfiles.read(answered(of(payout, "Completed", amount=f'"{amount}"')))
    assert not payoutfiles.check([line])
    assert line.number == 2
    assert [text.partition(":")[0] for text in line.problems] == ["amount"]


@pytest.mark.parametrize("status", ["Returned", "Reversed", "REFUNDED", "funds_refunded"])
def test_what_comes_back_after_it_was_paid_is_owed_again_and_once(status):
    pay_to(1)
    pay_to(2)
    one, two = sent().payouts.order_by("account")
    paid = answered(of(one, "Completed"), of(two, "Pending"))
    assert payoutfiles.apply(payoutfiles.read(paid)) == (1, 0, 0, 1)
    back = answered(of(one, status, reason="closed"), of(two, status))
    lines = payoutfiles.read(back)
    assert payoutfiles.check(lines)
    assert [(line.outcome, line.changes) for line in lines] == [
        ("returned", True),
        ("failed", True),
    ]
    assert payoutfiles.apply(lines) == (0, 1, 1, 0)
    one.refresh_from_db()
    assert (one.state, one.reason) == ("returned", "closed")
    for number in (1, 2):
        assert ledger.balance(ledger.account_of(f"member:{number}", "EUR")).available == 6000
    entries = Entry.objects.count()
    # The same once more, and the file before it: it was paid then, which nobody denies.
    assert payoutfiles.apply(payoutfiles.read(back)) == (0, 0, 0, 2)
    assert payoutfiles.apply(payoutfiles.read(answered(of(one, "Completed")))) == (0, 0, 0, 1)
    assert Entry.objects.count() == entries
    # That it has failed is another matter.
    lines = payoutfiles.read(answered(of(one, "Failed")))
    assert not payoutfiles.check(lines)
    assert lines[0].problems == ["status: it says “Failed”, but of the payout is known: came back."]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_cells_may_be_parted_as_other_countries_do_it(separator):
    pay_to(1)
    data = answered(of(sent().payouts.get(), "Completed", amount="60.00"))
    lines = payoutfiles.read(data.replace(b",", separator.encode()))
    assert payoutfiles.check(lines)
    assert lines[0].outcome == "paid"


def test_decimal_commas_are_written_where_they_are_wanted():
    pay_to(1, minor=123_456)
    batch = sent()
    [(_, content)] = payoutfiles.files(batch, "paypal", commas=True)
    assert b',"1234,56",EUR,' in content


def test_what_changes_between_the_look_and_the_change_undoes_all_of_it(monkeypatch):
    for number in range(2):
        pay_to(number)
    first, second = sent().payouts.order_by("account")
    lines = payoutfiles.read(answered(of(first, "Completed"), of(second, "Completed")))
    check = payoutfiles.check

    def check_and_be_late(lines):
        found = check(lines)
        payouts.fail(Payout.objects.get(pk=second.pk), "closed")
        return found

    monkeypatch.setattr(payoutfiles, "check", check_and_be_late)
    with pytest.raises(InvalidResultFile):
        payoutfiles.apply(lines)
    assert list(states().values()) == ["sent", "failed"]


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "no line"),
        (b"Customer ID,Status\r\n", "no line"),
        (b"Customer ID\r\nX\r\n", "status"),
        (b"Status\r\nCompleted\r\n", "reference"),
        (b"Customer ID,Reference,Status\r\nA,B,C\r\n", "several"),
        ("Customer ID,Status\r\nÄ,C".encode("latin-1"), "UTF-8"),
        (b'Customer ID,Status\r\n"A"B,C\r\n', "Line 2"),
        (b"Customer ID,Status\r\nA\x00,C\r\n", None),
    ],
)
def test_a_file_that_cannot_be_read(data, named):
    if named is None:
        assert not payoutfiles.check(payoutfiles.read(data))
    else:
        with pytest.raises(InvalidResultFile, match=named):
            payoutfiles.read(data)
