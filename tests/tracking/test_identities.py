"""Whoever goes by two names is one customer, and no name is two customers'."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from affiliations.tracking import identities
from affiliations.tracking.exceptions import InvalidName, TooManyNames
from affiliations.tracking.identities import Name, find_customer, identify, name
from affiliations.tracking.models import Customer, Hit, Identity
from tests.tracking.factories import hit, make_property, names, people, say

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop():
    return make_property()


# Names


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("client", 42, "42"),
        ("client", " a+b@Example.com ", "a+b@Example.com"),
        ("email", " A+b@Example.com", "a+b@example.com"),
        ("client", "Zoe\u0308", "Zoë"),
        ("user", -7, "-7"),
        ("cookie", "x" * 500, "x" * 500),
        ("client", "a/b?c é", "a/b?c é"),
        ("client", "🦊", "🦊"),
    ],
)
def test_a_name_has_one_form(kind, value, expected):
    assert name(kind, value) == (kind, expected)


@pytest.mark.parametrize(
    ("kind", "value", "field"),
    [
        ("client", "", "value"),
        ("client", " \t ", "value"),
        ("client", "a\0b", "value"),
        ("client", "a\nb", "value"),
        ("client", "\ud800", "value"),
        ("client", "x" * 501, "value"),
        ("client", "x" * 10**6, "value"),
        ("client", None, "value"),
        ("client", True, "value"),
        ("client", 4.2, "value"),
        ("client", 2**63, "value"),
        ("client", ["a"], "value"),
        ("phone", "1", "kind"),
        ("", "1", "kind"),
    ],
)
def test_what_is_no_name(kind, value, field):
    with pytest.raises(InvalidName, match=f"^{field}: "):
        name(kind, value)


# People


def test_somebody_new_is_a_customer(shop):
    customer = say(shop, "cookie:a client:42")
    assert people(shop) == ["client:42 cookie:a"]
    assert Customer.objects.get() == customer


def test_whoever_is_known_costs_one_query(shop, django_assert_num_queries):
    customer = say(shop, "cookie:a client:42")
    with django_assert_num_queries(1):
        assert say(shop, "client:42 cookie:a") == customer


def test_a_new_name_of_somebody_known_is_theirs(shop):
    customer = say(shop, "cookie:a")
    assert say(shop, "client:42 cookie:a") == customer
    assert people(shop) == ["client:42 cookie:a"]


def test_a_cookie_that_meets_two_client_ids_is_one_person(shop):
    say(shop, "cookie:a client:1")
    say(shop, "cookie:a client:2")
    assert people(shop) == ["client:1 client:2 cookie:a"]


def test_two_who_turn_out_to_be_one_are_the_older_one(shop):
    long_ago = timezone.now() - timedelta(days=90)
    first, second = say(shop, "cookie:a"), say(shop, "cookie:b client:42")
    Customer.objects.filter(pk=second.pk).update(created_on=long_ago)
    kept = say(shop, "cookie:b cookie:a")
    assert kept == first == Customer.objects.get()
    assert kept.created_on == Customer.objects.get().created_on == long_ago
    assert people(shop) == ["client:42 cookie:a cookie:b"]


def test_those_who_were_one_of_several_before_are_one_as_well(shop):
    for said in ("cookie:a cookie:b", "cookie:c cookie:d", "cookie:e", "cookie:f"):
        say(shop, said)
    for said in ("cookie:a cookie:e", "cookie:d cookie:f", "cookie:b cookie:f"):
        say(shop, said)
    assert people(shop) == [" ".join(f"cookie:{letter}" for letter in "abcdef")]
    assert Customer.objects.count() == 1


@pytest.mark.parametrize("others", [1, 30])
def test_to_make_one_of_several_takes_as_many_queries(shop, django_assert_num_queries, others):
    each = [f"cookie:c{number}" for number in range(others + 1)]
    for said in each:
        say(shop, said)
    # Looked up three times and locked, and their users; names counted and moved, customers changed
    # and deleted.
    with django_assert_num_queries(13):
        say(shop, " ".join(each))
    assert Customer.objects.count() == 1


def test_a_value_of_another_kind_is_another_name(shop):
    say(shop, "client:42")
    say(shop, "user:42")
    assert people(shop) == ["client:42", "user:42"]


@pytest.mark.parametrize(("one", "other"), [("client:Zoë", "client:Zoe"), ("client:a", "client:A")])
def test_names_are_compared_exactly(shop, one, other):
    say(shop, one)
    say(shop, other)
    assert len(people(shop)) == 2


def test_a_property_knows_its_own_people_only(shop):
    other = make_property()
    say(shop, "cookie:a client:1")
    say(other, "cookie:a client:2")
    assert (people(shop), people(other)) == (["client:1 cookie:a"], ["client:2 cookie:a"])


def test_nobody_has_names_without_end(shop, monkeypatch):
    monkeypatch.setattr(identities, "MOST", 3)
    say(shop, "client:shared cookie:a cookie:b")
    say(shop, "cookie:c cookie:d")
    for said in ("client:shared cookie:e", "client:shared cookie:c"):
        with pytest.raises(TooManyNames, match=r"^names: "):
            say(shop, said)
    assert people(shop) == ["client:shared cookie:a cookie:b", "cookie:c cookie:d"]
    assert Customer.objects.count() == 2


@pytest.mark.parametrize("number", [0, 101])
def test_not_too_many_are_said_to_be_one_at_once(shop, number):
    some = [Name("cookie", str(each)) for each in range(number)]
    with pytest.raises(ValueError, match=r"^names: "):
        identify(shop, some)
    assert not Identity.objects.exists()


def test_what_the_caller_takes_back_was_never_said(shop):
    say(shop, "cookie:a")
    say(shop, "cookie:b")
    with transaction.atomic():
        say(shop, "cookie:a cookie:b cookie:c")
        transaction.set_rollback(True)
    assert people(shop) == ["cookie:a", "cookie:b"]


# Asked for by a value


def test_somebody_is_found_by_any_name(shop, django_assert_num_queries):
    customer = say(shop, "cookie:a client:42 email:anna@example.com")
    for value in (42, "42", " 42 ", "a", "Anna@example.com"):
        with django_assert_num_queries(1):
            assert find_customer(shop, value) == customer
    for value in ("43", "", "\0", "x" * 501, None, "A"):
        assert find_customer(shop, value) is None
    assert find_customer(make_property(), "42") is None


def test_by_a_client_id_before_anything_else(shop):
    say(shop, "cookie:42")
    user = say(shop, "user:42")
    assert find_customer(shop, 42) == user
    client = say(shop, "client:42")
    assert find_customer(shop, 42) == client


def test_the_same_again_in_other_words(shop):
    assert names("client:42 client:42") == [("client", "42")] * 2
    assert say(shop, "client:42 client:42") == say(shop, "client:42")


# Users, who are two people


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # A browser that two share stays with whoever was known by it first, or logs in.
        ("user:1 cookie:a|user:2 cookie:a", "cookie:a user:1|user:2"),
        ("cookie:a|user:2 cookie:a|user:1 cookie:a", "cookie:a user:2|user:1"),
        # As do their browsers, and the names that a program has for them, if it mixes them up.
        ("user:1 cookie:a|user:2 cookie:b|cookie:a cookie:b", "cookie:a user:1|cookie:b user:2"),
        (
            "user:1 cookie:a|user:2 cookie:b|cookie:a client:x cookie:b",
            "client:x cookie:a user:1|cookie:b user:2",
        ),
        # Whoever has no user is the older one's, unless a user is named.
        (
            "user:1 cookie:a|user:2 cookie:b|cookie:c|cookie:b cookie:c cookie:a",
            "cookie:a cookie:c user:1|cookie:b user:2",
        ),
        (
            "user:1 cookie:a|user:2|cookie:c|cookie:a cookie:c user:2",
            "cookie:a user:1|cookie:c user:2",
        ),
        ("cookie:c|user:1|user:2 cookie:c", "cookie:c user:2|user:1"),
    ],
)
def test_two_users_are_never_one(shop, said, expected):
    for each in said.split("|"):
        say(shop, each)
    assert people(shop) == expected.split("|")
    assert Customer.objects.count() == len(expected.split("|"))


def test_two_users_at_once_are_refused(shop):
    with pytest.raises(ValueError, match=r"^names: "):
        say(shop, "user:1 user:2")
    assert not people(shop)


def test_a_hit_of_names_that_stay_two_peoples_is_the_first_ones(shop):
    say(shop, "user:1 cookie:a")
    say(shop, "user:2 client:x")
    assert hit(shop, "cookie:a client:x")
    assert Hit.objects.get().identity.value == "a"
    assert people(shop) == ["client:x user:2", "cookie:a user:1"]
