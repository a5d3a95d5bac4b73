"""Whatever is said, done and erased, in whatever order, and by however many at once.

The same people come of it, each hit is at its person, and of whom is erased nothing is left.
"""

import random
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from affiliations.tracking import hits, identities, privacy
from affiliations.tracking.models import Customer, Hit, Identity, Property
from tests.core.promises.test_races import at_once
from tests.tracking.factories import hit, make_property, people, say
from tests.tracking.promises import crowd
from tests.tracking.promises.crowd import Step, erase, names, take
from tests.tracking.promises.test_erasure import scan

serial = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="lets no two transactions write at once"
)
PROCESSES = 16


# In the order in which it is told


class Model:
    """Who is who, and what they did, by arithmetic of its own, for names of one user at a time."""

    def __init__(self) -> None:
        self.people: list[set[str]] = []
        self.hits: dict[str, str] = {}
        self.orders: set[str] = set()

    def say(self, who: str) -> None:
        one = set(who.split())
        for other in [each for each in self.people if each & one]:
            self.people.remove(other)
            one |= other
        self.people.append(one)

    def hit(self, who: str, number: int, place: int, order: str) -> None:
        if not order or order not in self.orders:
            self.say(who)
            self.orders.add(order)
            self.hits[crowd.page(number, place)] = who.split()[0]

    def erase(self, number: int) -> None:
        gone = [each for each in self.people if each & set(names(number))]
        self.people = [each for each in self.people if each not in gone]
        self.hits = {
            page: name for page, name in self.hits.items() if not any(name in one for one in gone)
        }

    def take(self, step: Step) -> None:
        what, *told = step
        getattr(self, what)(*told)

    def found(self) -> tuple[list[str], dict[str, str]]:
        """Return the people, and whose each hit is."""
        one = {name: " ".join(sorted(each)) for each in self.people for name in each}
        return sorted(set(one.values())), {page: one[name] for page, name in self.hits.items()}


def found(prop: Property) -> tuple[list[str], dict[str, str]]:
    """Return the people that there are, and whose each hit is."""
    of: dict[int, set[str]] = {}
    for row in Identity.objects.filter(property=prop):
        of.setdefault(row.customer_id, set()).add(f"{row.kind}:{row.value}")
    # Nobody goes by no name.
    assert of.keys() == set(Customer.objects.filter(property=prop).values_list("pk", flat=True))
    whose = Hit.objects.filter(property=prop).values_list("url", "identity__customer")
    assert Hit.objects.filter(property=prop).count() == len(dict(whose))
    return people(prop), {page: " ".join(sorted(of[pk])) for page, pk in whose}


def of_one(number: int) -> st.SearchStrategy[Any]:
    """Return what somebody may say and do."""
    who = st.lists(st.sampled_from(names(number)), min_size=1, max_size=3).map(" ".join)
    order = st.sampled_from(["", "", f"R-{number}", f"Q-{number}"])
    return st.one_of(
        st.tuples(st.just("say"), who),
        st.tuples(st.just("hit"), who, st.just(number), st.integers(0, 10**6), order),
        st.tuples(st.just("erase"), st.just(number)),
    )


steps = st.lists(
    st.one_of(of_one(1), of_one(2), of_one(3)),
    max_size=15,
    unique_by=lambda step: step[3] if step[0] == "hit" else object(),
)


def examples(number: int) -> hypothesis_settings:
    return hypothesis_settings(
        max_examples=number,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


FEW, MANY = examples(12), examples(400)


def check(told: Iterable[Step]) -> None:
    prop, model = make_property(), Model()
    for step in told:
        take(prop, step)
        model.take(step)
        if step[0] == "erase":
            assert found(prop) == model.found()
    assert found(prop) == model.found()


@pytest.mark.django_db
@FEW
@given(told=steps)
def test_what_is_erased_goes_and_all_else_is_somebodys(told):
    check(told)


@pytest.mark.long
@pytest.mark.django_db
@MANY
@given(told=steps)
def test_what_is_erased_goes_whatever_is_told(told):
    check(told)


def check_order(told: Iterable[Step], shuffle: random.Random) -> None:
    told = [[*each[:4], ""][: len(each)] for each in told if each[0] != "erase"]
    shuffled = list(told)
    shuffle.shuffle(shuffled)
    seen = []
    for order in (told, shuffled):
        prop = make_property()
        for step in order:
            take(prop, step)
        seen.append(found(prop))
    assert seen[0] == seen[1]


@pytest.mark.django_db
@FEW
@given(told=steps, shuffle=st.randoms(use_true_random=False))
def test_the_order_does_not_matter(told, shuffle):
    check_order(told, shuffle)


@pytest.mark.long
@pytest.mark.django_db
@MANY
@given(told=steps, shuffle=st.randoms(use_true_random=False))
def test_no_order_matters(told, shuffle):
    check_order(told, shuffle)


#: Of whom the names are told as one, in vain.
mixed = st.lists(
    st.lists(st.sampled_from(names(1)[2:] + names(2)[2:]), min_size=1, max_size=4, unique=True)
    .filter(lambda said: sum(each.startswith("user:") for each in said) < 2)
    .map(" ".join),
    max_size=12,
)


def check_mixed(told: list[str]) -> None:
    prop = make_property()
    for place, who in enumerate(told):
        take(prop, ["say", who] if place % 2 else ["hit", who, 1, place, ""])
    check_apart(prop, {crowd.page(1, place): told[place] for place in range(0, len(told), 2)})


def check_apart(prop: Property, told: dict[str, str]) -> None:
    """See that no two users are one, and that each hit is under the name that was told first."""
    there, _ = found(prop)
    assert not [each for each in there if each.count("user:") > 1]
    rows = Hit.objects.filter(property=prop).select_related("identity")
    assert {row.url: f"{row.identity.kind}:{row.identity.value}" for row in rows} == {
        page: who.split()[0] for page, who in told.items()
    }


@pytest.mark.django_db
@FEW
@given(told=mixed)
def test_two_users_are_never_one_and_no_hit_is_lost(told):
    check_mixed(told)


@pytest.mark.long
@pytest.mark.django_db
@MANY
@given(told=mixed)
def test_two_users_are_never_one_whatever_is_told(told):
    check_mixed(told)


# That it would be noticed


@pytest.mark.django_db
def test_teeth_an_erasure_of_one_name_alone(monkeypatch):
    def forget(*, user: Any, idents: Any, counts: Any) -> None:
        Identity.objects.filter(kind="user", value=str(user.pk)).delete()

    monkeypatch.setattr(privacy, "forget", forget)
    user, cookie = names(1)[-1], names(1)[0]
    with pytest.raises(AssertionError):
        check([["say", f"{user} {cookie}"], ["erase", 1]])


@pytest.mark.django_db
def test_teeth_an_erasure_of_whoever_has_shared_a_browser(monkeypatch):
    monkeypatch.setattr(
        privacy, "_held", lambda *told: [each.pk for each in Customer.objects.all()]
    )
    with pytest.raises(AssertionError):
        check([["hit", names(1)[0], 1, 1, ""], ["say", names(2)[0]], ["erase", 1]])


@pytest.mark.django_db
def test_teeth_a_hit_of_somebody_elses(monkeypatch):
    monkeypatch.setattr(
        hits,
        "_written",
        lambda *told, write=hits._written: write(told[0], told[1][::-1], *told[2:]),
    )
    with pytest.raises(AssertionError):
        check_mixed([f"{names(1)[5]} {names(2)[5]}"])


@pytest.mark.django_db
def test_teeth_two_users_made_one(monkeypatch):
    monkeypatch.setattr(identities, "_one_person", lambda names, owners, using: sorted(owners))
    ones, twos = (f"{names(number)[0]} {names(number)[-1]}" for number in (1, 2))
    with pytest.raises(AssertionError):
        check_mixed([ones, twos, f"{names(1)[0]} {names(2)[0]}"])


# An erasure amid merges


@serial
@pytest.mark.django_db(transaction=True)
def test_whoever_is_made_one_with_another_meanwhile_is_erased_all_the_same(monkeypatch):
    """Between the look at whose the names are and the lock of these customers."""
    prop, held = make_property(), privacy._held
    user, cookie = names(1)[-1], "cookie:older"
    say(prop, cookie)
    hit(prop, user)

    def and_then_they_are_one(*told: Any) -> Any:
        rows = held(*told)
        if len(people(prop)) == 2:
            at_once(1, lambda: say(prop, f"{cookie} {user}"))
        return rows

    monkeypatch.setattr(privacy, "_held", and_then_they_are_one)
    erase(1)
    assert not people(prop)
    assert not Hit.objects.exists()


# By many at once


def at_random(numbers: Iterable[int], *, erasing: Iterable[int] = (), seed: int = 0) -> list[Step]:
    """Return what makes all names of each person theirs, in parts, and what they do meanwhile."""
    choice = random.Random(seed)
    told: list[Step] = []
    for number in numbers:
        own = names(number)
        pairs = [f"{one} {other}" for one, other in pairwise(own)]
        told += [["say", each] for each in pairs * 2]
        for place in range(15):
            who = " ".join(choice.sample(own, choice.randint(1, 2)))
            told.append(["hit", who, number, place, ""])
    for number in erasing:
        told += [["erase", number]] * 5
    choice.shuffle(told)
    return told


def told_at_once(crew: Any, prop: Property, told: list[Step], **options: Any) -> list[int]:
    """Let as many processes take the steps, each a part; return how they ended."""
    pids = [
        crew.start("crowd", public_key=prop.public_key, steps=told[place::PROCESSES], **options)
        for place in range(PROCESSES)
    ]
    return [crew.wait(pid) for pid in pids]


def check_crowd(crew: Any, seed: int = 0, **options: Any) -> None:
    prop, told = make_property(), at_random(range(1, 7), seed=seed)
    model = Model()
    for step in told:
        model.take(step)
    assert told_at_once(crew, prop, told, **options) == [0] * PROCESSES
    assert found(prop) == model.found()


def check_erasures(crew: Any, seed: int = 0, **options: Any) -> None:
    """Erase half of them again and again, and once more when all else has been said."""
    leaving, staying = (1, 2, 3), (4, 5, 6)
    prop, model, told = make_property(), Model(), at_random(staying, seed=seed)
    for step in told:
        model.take(step)
    told += at_random(leaving, erasing=leaving, seed=seed)
    random.Random(seed).shuffle(told)
    assert told_at_once(crew, prop, told, **options) == [0] * PROCESSES
    for number in leaving:
        erase(number)
    assert not scan()[0].keys() & set(leaving)
    assert found(prop) == model.found()


@serial
@pytest.mark.django_db(transaction=True)
def test_nor_do_sixteen_processes_at_once(crew):
    check_crowd(crew)


@serial
@pytest.mark.django_db(transaction=True)
def test_nothing_is_left_of_whom_sixteen_processes_write_of_and_erase(crew):
    check_erasures(crew)


def check_users(crew: Any, seed: int = 0) -> None:
    choice, prop = random.Random(seed), make_property()
    pool = [each for number in (1, 2, 3, 4) for each in names(number)]
    told: list[Step] = []
    for place in range(240):
        one = choice.sample(pool, choice.randint(1, 3))
        if sum(each.startswith("user:") for each in one) < 2:
            who = " ".join(one)
            told.append(["hit", who, 1, place, ""] if place % 2 else ["say", who])
    assert told_at_once(crew, prop, told) == [0] * PROCESSES
    check_apart(prop, {crowd.page(1, step[3]): step[1] for step in told if step[0] == "hit"})


@serial
@pytest.mark.django_db(transaction=True)
def test_nor_do_sixteen_processes_make_one_of_two_users(crew):
    check_users(crew)


@serial
@pytest.mark.long
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("check", [check_crowd, check_erasures, check_users])
def test_nor_however_often_they_do(crew, check):
    for seed in range(1, 31):
        check(crew, seed=seed)
        Property.objects.all().delete()


def caught(check: Any, crew: Any, broken: str) -> bool:
    """Tell whether a broken variant is noticed, in ten times."""
    for _ in range(10):
        try:
            check(crew, broken=[broken])
        except AssertionError:
            return True
        finally:
            Property.objects.all().delete()
    return False


@serial
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("check", "broken"),
    [(check_crowd, "unlocked customers"), (check_erasures, "hits first")],
)
def test_teeth_processes_that_do_not_wait_for_each_other(crew, check, broken):
    assert caught(check, crew, broken)
