"""What is remembered for a while, and what of it many threads are told."""

import threading
import time

import pytest
from django.db import DatabaseError
from django.utils import timezone

from affiliations.experiments import segments
from affiliations.experiments.deciding import Visitor, names_of
from affiliations.experiments.recently import Recently
from affiliations.tracking.models import Hit
from tests.tracking.factories import known, make_property


def test_it_is_known_for_so_long(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    recently = Recently(10, 5)
    assert recently.add("a")
    assert not recently.add("a")
    now[0] += 9.9
    assert "a" in recently
    now[0] += 10
    assert "a" not in recently
    assert recently.add("a")


def test_what_was_longest_ago_goes_first():
    recently = Recently(10, 2)
    for each in ("a", "b", "a", "c"):
        recently.add(each)
    assert [each in recently for each in "abc"] == [True, False, True]
    recently.discard("a")
    assert "a" not in recently
    recently.clear()
    assert "c" not in recently


def claims(recently):
    """Return how many of many threads are told that something is new."""
    told, start = [], threading.Barrier(20)

    def work():
        start.wait()
        told.extend(recently.add(number) for number in range(200))

    threads = [threading.Thread(target=work) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return sum(told)


def test_of_many_threads_one_is_told_that_it_is_new():
    assert claims(Recently(60, 1000)) == 200


@pytest.mark.django_db
def test_what_could_not_be_written_is_written_the_next_time(monkeypatch):
    prop = known(make_property())
    visitor = Visitor("v", names_of("v"))
    record = segments.hits.record

    def fail(*args, **named):
        raise DatabaseError("gone")

    monkeypatch.setattr(segments.hits, "record", fail)
    with pytest.raises(DatabaseError):
        segments.tell(prop, visitor, {"plan": "gold"}, timezone.now())
    monkeypatch.setattr(segments.hits, "record", record)
    for _ in range(2):
        segments.tell(prop, visitor, {"plan": "gold"}, timezone.now())
    assert Hit.objects.count() == 1


class Careless(Recently):
    """Looks first, and remembers then."""

    def add(self, key):
        is_new = key not in self
        time.sleep(0)
        self._until[key] = time.monotonic() + 60
        return is_new


def test_that_would_notice_one_who_looks_first():
    assert claims(Careless(60, 1000)) > 200
