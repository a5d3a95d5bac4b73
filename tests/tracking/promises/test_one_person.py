"""In whatever order it is said, and by however many at once, the same names are one person's."""

import random
from contextlib import suppress
from itertools import count
from threading import Lock

import pytest
from django.db import DatabaseError, connection, models
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from affiliations.tracking import identities
from affiliations.tracking.models import Customer, Identity
from tests.core.promises.test_races import at_once
from tests.tracking.factories import make_property, people, say

serial = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="lets no two transactions write at once"
)
THREADS = 4 if connection.vendor == "sqlite" else 16

letters = st.sampled_from([f"{kind}:{each}" for kind in ("cookie", "client") for each in "abcde"])
sayings = st.lists(st.lists(letters, min_size=1, max_size=3).map(" ".join), max_size=12)


def expected(said):
    """Return whose names are whose, by arithmetic of its own."""
    found = []
    for each in said:
        together = set(each.split())
        for other in [one for one in found if one & together]:
            found.remove(other)
            together |= other
        found.append(together)
    return sorted(" ".join(sorted(each)) for each in found)


def customers(prop):
    """Return how many there are, also of those who go by no name."""
    return Customer.objects.filter(property=prop).count()


def check(said, order):
    prop = make_property()
    for each in order:
        say(prop, each)
    assert people(prop) == expected(said)
    assert customers(prop) == len(expected(said))


@pytest.mark.django_db
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(said=sayings, seed=st.randoms(use_true_random=False))
def test_the_order_does_not_matter(said, seed):
    shuffled = list(said)
    seed.shuffle(shuffled)
    check(said, said)
    check(said, shuffled)


def forgetful(customers, using):
    """Forget whoever was one of several before."""
    kept, *others = customers
    for each in others:
        each.identities.filter(pk=each.identities.first().pk).update(customer=kept)
    return kept


@pytest.mark.django_db
def test_teeth_one_name_is_taken_along(monkeypatch):
    monkeypatch.setattr(identities, "_one_of", forgetful)
    said = ["cookie:a cookie:b", "cookie:c", "cookie:a cookie:c"]
    with pytest.raises(AssertionError):
        check(said, said)


def told_at_once(said, threads=THREADS):
    """Let so many threads say all of it, each a part."""
    prop = make_property()
    left, lock, number = list(said), Lock(), count()

    def work():
        shuffle = random.Random(next(number))
        while True:
            with lock:
                if not left:
                    return
                each = left.pop(shuffle.randrange(len(left)))
            say(prop, each)

    at_once(threads, work)
    return prop


def lines(length, shared):
    """Return what makes lines of names one person each, and several of these one."""
    found = []
    for each in "abcd":
        found += [f"cookie:{each}{n} cookie:{each}{n + 1}" for n in range(length)]
    return found + [f"cookie:{one}0 cookie:{other}{length}" for one, other in shared]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("shared", [["ab", "cd"], ["ab", "bc", "cd"], []])
def test_nor_how_many_say_it_at_once(shared):
    said = lines(10, shared) * 3
    prop = told_at_once(said)
    assert people(prop) == expected(said)
    assert customers(prop) == len(expected(said))


@pytest.mark.django_db(transaction=True)
def test_of_many_who_meet_somebody_new_at_once_one_makes_a_customer():
    said = ["cookie:a client:42"] * 40
    prop = told_at_once(said)
    assert people(prop) == ["client:42 cookie:a"]
    assert customers(prop) == 1


@serial
@pytest.mark.django_db(transaction=True)
def test_teeth_without_the_lock(monkeypatch):
    monkeypatch.setattr(
        models.QuerySet, "select_for_update", lambda rows, *args, **options: rows.all()
    )
    said = lines(10, ["ab", "bc", "cd"])
    wrong = 0
    for _ in range(10):
        # A foreign key may be what keeps a name from a customer who is gone.
        with suppress(DatabaseError, Customer.DoesNotExist):
            prop = None
            prop = told_at_once(said)
        wrong += prop is None or people(prop) != expected(said)
        Identity.objects.all().delete()
        if wrong:
            break
    assert wrong
