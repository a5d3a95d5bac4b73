"""Row I8 of the promises for the tracking: as many are let in as the limit says, and not one more.

However many ask at once, in however many processes, and wherever they say that they come from. No
period ends while a test runs: each is a day long, and begins with the first request.
"""

import json
import os
from collections import Counter

import pytest
from django.db import connection

from affiliations.tracking import limits
from affiliations.tracking.models import Allowance, Hit
from tests.core.promises.conftest import company, crew
from tests.tracking.factories import hit, make_property
from tests.tracking.promises.poster import post_all

__all__ = ["company", "crew"]

pytestmark = pytest.mark.django_db(transaction=True)
serial = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="has one writer at a time by itself"
)
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by forking")

EACH = int(os.environ.get("AFFILIATIONS_CALLS", "1000"))
LONG = [pytest.mark.long, pytest.mark.timeout(7200)]


@pytest.fixture(autouse=True)
def shop():
    limits.forget()
    # Whoever writes is known, so that what is let in costs one INSERT.
    made = make_property(public_key="SHOP")
    hit(made, "cookie:c")
    Hit.objects.all().delete()
    yield made
    limits.forget()


def rates(by, limit):
    return {"address": None, by: f"{limit}/d"}


def exactly(seen, limit, asked):
    """Tell whether so many were let in, and are written, and all others were refused."""
    assert seen == {201: limit, 429: asked - limit}
    assert Hit.objects.count() == limit
    assert Allowance.objects.get().used == limit


@pytest.mark.parametrize(
    ("by", "limit", "threads", "calls"),
    [
        ("address", 100, 16, 50),
        ("key", 7, 8, 5),
        pytest.param("address", 100, 64, EACH, marks=LONG),
        pytest.param("key", 20_000, 64, EACH, marks=LONG),
    ],
)
def test_exactly_as_many_are_let_in(settings, by, limit, threads, calls):
    settings.AFFILIATE_TRACKING_LIMITS = rates(by, limit)
    exactly(post_all(threads, calls), limit, threads * calls)


def posted(crew, tmp_path, processes, by, limit, threads, calls, **options):
    """Post in several processes at once; return how often each status was answered."""
    journal = tmp_path / "journal"
    told = {"rates": rates(by, limit), "threads": threads, "calls": calls, "journal": str(journal)}
    pids = [crew.start("post", **told, **options) for _ in range(processes)]
    assert [crew.wait(each) for each in pids] == [0] * processes
    seen: Counter = Counter()
    for line in journal.read_text().splitlines():
        seen.update({int(status): times for status, times in json.loads(line).items()})
    assert seen.total() == processes * threads * calls
    return seen


@forking
# Each process alone asks as often as the limit allows: one that ended before, with some of what it
# has taken unspent, would keep that from the others.
@pytest.mark.parametrize(
    ("by", "processes", "limit", "threads", "calls"),
    [
        ("address", 6, 100, 2, 50),
        ("key", 4, 300, 2, 150),
        pytest.param("address", 8, 100, 8, EACH, marks=LONG),
        pytest.param("key", 8, 8 * EACH, 8, EACH, marks=LONG),
    ],
)
def test_in_however_many_processes(crew, tmp_path, by, processes, limit, threads, calls):
    seen = posted(crew, tmp_path, processes, by, limit, threads, calls)
    exactly(seen, limit, processes * threads * calls)


# What would not hold


def overrun(settings):
    """Tell whether more are let in, of many who ask at once."""
    settings.AFFILIATE_TRACKING_LIMITS = rates("address", 10)
    for _ in range(20):
        limits.forget()
        Allowance.objects.all().delete()
        if post_all(8, 5)[201] > 10:
            return True
    return False


@serial
def test_teeth_a_limiter_that_looks_and_then_acts(settings, monkeypatch):
    def get_and_set(rows, using, *, used, ends=None):
        row = rows.first()
        if row is None:
            return False
        taken = used if isinstance(used, int) else used.rhs.value
        row.used = row.used + taken if ends is None else taken
        row.ends = ends or row.ends
        row.save()
        return True

    monkeypatch.setattr(limits, "_changed", get_and_set)
    assert overrun(settings)


def test_teeth_a_limiter_that_asks_where_a_request_says_it_comes_from(settings, monkeypatch):
    monkeypatch.setattr(limits, "address_of", lambda request: request.headers["X-Real-IP"])
    assert overrun(settings)


@forking
def test_teeth_a_limiter_in_each_process(crew, tmp_path):
    seen = posted(crew, tmp_path, 4, "address", 10, 2, 10, broken=["uncounted"])
    assert seen == {201: 40, 429: 40}
