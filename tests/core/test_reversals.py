"""Conversions that are taken back in parts, and by several at once."""

import threading

import pytest
from django.db import connection, connections
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from affiliations.exceptions import InvalidMoney, InvalidTransition
from affiliations.models import Conversion, Reversal
from affiliations.money import Money
from affiliations.privacy import export_user, forget_user
from affiliations.querysets import ConversionQuerySet
from affiliations.services import record_conversion, reverse_conversion
from affiliations.signals import conversion_reversed
from tests.core.factories import make_partner, make_user, make_visitor

EUR = "EUR"


def converted(minor=1000, username="buyer"):
    user = make_user(username)
    make_visitor(make_partner({"Order placed": ""}), user=user)
    money = None if minor is None else Money(minor, EUR)
    return record_conversion(trigger="Order placed", reference="A-1", user=user, money=money)


def stored():
    return Conversion.objects.get()


@pytest.fixture
def told():
    seen = []

    def tell(conversion, reversal, **kwargs):
        seen.append((reversal.money, conversion.reversed_on is not None))

    conversion_reversed.connect(tell)
    yield seen
    conversion_reversed.disconnect(tell)


@pytest.mark.django_db
def test_what_is_left_after_each_part(told):
    conversion = converted()
    assert reverse_conversion(conversion, Money(300, EUR)) is True
    assert stored().standing == conversion.standing == Money(700, EUR)
    assert stored().reversed_on is None
    assert reverse_conversion(stored(), Money(300, EUR)) is True
    assert stored().standing == Money(400, EUR)
    assert reverse_conversion(stored()) is True
    assert stored().standing == Money(0, EUR)
    assert stored().reversed_on is not None
    assert told == [
        *((Money(300, EUR), False), (Money(300, EUR), False), (Money(400, EUR), True)),
    ]
    assert reverse_conversion(stored()) is False
    assert [each.money.minor for each in Reversal.objects.order_by("pk")] == [300, 300, 400]


@pytest.mark.django_db
def test_the_last_part_ends_it_without_being_told_so(told):
    conversion = converted()
    assert reverse_conversion(conversion, Money(999, EUR))
    assert reverse_conversion(conversion, Money(1, EUR))
    assert stored().reversed_on == conversion.reversed_on is not None
    assert told == [(Money(999, EUR), False), (Money(1, EUR), True)]


@pytest.mark.django_db
def test_one_refund_counts_once(told):
    conversion = converted()
    assert reverse_conversion(conversion, Money(300, EUR), reference="R-1") is True
    assert reverse_conversion(stored(), Money(300, EUR), reference="R-1") is False
    assert reverse_conversion(stored(), reference="R-1") is False
    with pytest.raises(InvalidTransition, match=r"^reference: 'R-1' took 3\.00 EUR back before"):
        reverse_conversion(stored(), Money(301, EUR), reference="R-1")
    assert reverse_conversion(stored(), Money(300, EUR), reference="R-2") is True
    assert stored().standing == Money(400, EUR)
    assert len(told) == 2


@pytest.mark.django_db
def test_a_reference_that_looks_like_a_number_is_no_other_ones_key():
    conversion = converted()
    assert reverse_conversion(conversion, Money(300, EUR), reference="300")
    assert reverse_conversion(conversion, Money(300, EUR))
    assert reverse_conversion(conversion, Money(300, EUR), reference="x" * 500)
    assert reverse_conversion(conversion, Money(100, EUR), reference="x" * 501)
    assert stored().reversed_on is not None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("money", "problem"),
    [
        (Money(1001, EUR), "at most 10.00 EUR"),
        (Money(0, EUR), "above zero"),
        (Money(-1, EUR), "above zero"),
        (Money(2**63 - 1, EUR), "at most 10.00 EUR"),
        (Money(1000, "USD"), "has EUR"),
    ],
)
def test_what_cannot_be_taken_back_is_refused(money, problem, told):
    conversion = converted()
    with pytest.raises(InvalidMoney, match=f"^money: .*{problem}"):
        reverse_conversion(conversion, money)
    assert (told, Reversal.objects.count()) == ([], 0)
    assert stored().standing == Money(1000, EUR)


@pytest.mark.django_db
def test_nothing_is_taken_back_of_what_is_gone():
    conversion = converted()
    assert reverse_conversion(conversion)
    with pytest.raises(InvalidMoney, match=r"at most 0\.00 EUR"):
        reverse_conversion(conversion, Money(1, EUR))


@pytest.mark.django_db
def test_a_sign_up_is_taken_back_whole(told):
    conversion = converted(None)
    with pytest.raises(InvalidMoney, match="no amount"):
        reverse_conversion(conversion, Money(1, EUR))
    assert reverse_conversion(conversion)
    assert told == [(None, True)]
    assert stored().standing is None


@pytest.mark.django_db
def test_one_that_was_taken_back_before_there_were_parts_has_nothing_left():
    conversion = converted()
    reverse_conversion(conversion)
    Reversal.objects.all().delete()
    Conversion.objects.update(reversed_minor=0)
    assert stored().standing == Money(0, EUR)
    assert reverse_conversion(stored()) is False


class PartsTests(TestCase):
    """Any parts of any amount."""

    @settings(max_examples=50, deadline=None)
    @given(st.integers(1, 2**62), st.lists(st.fractions(0, 1), max_size=6))
    def test_parts_sum_to_the_whole(self, minor, fractions):
        conversion = converted(minor)
        for fraction in fractions:
            part = int(stored().standing.minor * fraction)
            if part:
                reverse_conversion(stored(), Money(part, EUR))
        reverse_conversion(stored())
        assert sum(each.amount_minor for each in conversion.reversals.all()) == minor
        assert stored().reversed_minor == minor


def refund_at_once(conversion):
    """Take six parts back, each told twice, all at the same moment; return the answers."""
    start = threading.Barrier(12)
    answers = []

    def refund(number):
        try:
            start.wait()
            reference = f"R-{number // 2}"
            answers.append(reverse_conversion(conversion, Money(150, EUR), reference=reference))
        except Exception as error:  # noqa: BLE001 - a deadlock is as good an answer
            answers.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=refund, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def is_right(answers):
    parts = sum(Reversal.objects.values_list("amount_minor", flat=True))
    taken = stored().reversed_minor == parts == 900
    return taken and sorted(map(str, answers)) == ["False"] * 6 + ["True"] * 6


@pytest.mark.django_db(transaction=True)
def test_of_many_refunds_at_once_each_is_taken_back_once():
    assert is_right(refund_at_once(converted(1000)))


@pytest.mark.skipif(connection.vendor == "sqlite", reason="lets no two transactions write at once")
@pytest.mark.django_db(transaction=True)
def test_without_the_lock_they_are_not(monkeypatch):
    monkeypatch.setattr(ConversionQuerySet, "select_for_update", lambda rows, **options: rows)
    conversion = converted(1000)
    for _ in range(20):
        Reversal.objects.all().delete()
        Conversion.objects.update(reversed_minor=0, reversed_on=None)
        if not is_right(refund_at_once(conversion)):
            return
    pytest.fail("twenty times nobody was in anybody's way")


@pytest.mark.django_db
def test_a_person_sees_what_was_taken_back_and_is_erased_from_it():
    conversion = converted()
    reverse_conversion(conversion, Money(150, EUR), reference="Ms. Miller's")
    [found] = export_user(conversion.user)["conversions"]
    [part] = found["reversals"]
    assert (part["reference"], part["amount"]) == ("Ms. Miller's", "1.50")
    assert forget_user(conversion.user)["reversals"] == 1
    reversal = Reversal.objects.get()
    assert (reversal.reference, reversal.money) == ("erased", Money(150, EUR))
    assert reversal.key == f"erased:{reversal.pk}"
