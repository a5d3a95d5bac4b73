"""A callback that kills whoever delivers it is given up in the end, and all others arrive.

A library may do that to a process: no breakage of ours, but one that we must survive.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from affiliations import callbackurl, outbox, outcomes
from affiliations.models import Callback
from tests.core.factories import make_partner
from tests.core.promises import chaos

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by forking"),
]

LONG = [pytest.mark.long, pytest.mark.timeout(3600)]
#: Seconds that a lease lasts: poison waits for many of them.
LEASE = 0.3


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[chaos.Receiver]:
    with chaos.receiver(tmp_path) as receiver:
        yield receiver


def survive(crew, receiver, *, others, threads, tries, broken=()):
    """Have a worker, and another one whenever it has died; return what came of it."""
    host = callbackurl.host(receiver.urls[0])
    outbox.know([host], "default")
    partner = make_partner()
    rows = [
        Callback(partner=partner, url=f"{receiver.urls[0]}/{number}?answers=200", host=host)
        for number in range(others)
    ]
    # Behind it, some that are claimed together with it.
    rows.insert(1, Callback(partner=partner, url=f"{receiver.urls[0]}/poison", host=host))
    Callback.objects.bulk_create(rows)
    options = {"threads": threads, "tries": tries, "lease": LEASE, "broken": ["poisoned", *broken]}
    deaths = 0
    worker = crew.start("work", **options)
    deadline = time.monotonic() + chaos.PATIENCE + others / 10
    # One death more than there may be shows that it would go on.
    while deaths <= tries and Callback.objects.filter(state="pending").exists():
        assert time.monotonic() < deadline, "it does not come to an end"
        code = crew.code(worker)
        if code is not None:
            assert code == -signal.SIGKILL
            deaths += 1
            worker = crew.start("work", **options)
        time.sleep(0.01)
    crew.kill(worker)
    poison = Callback.objects.get(url__endswith="poison")
    return {
        "deaths": deaths,
        "poison": poison.state,
        "others": Callback.objects.exclude(pk=poison.pk).filter(state="delivered").count(),
        # Not a connection that its caller, who died of another call, had not yet used.
        "arrived": len({each.event for each in receiver.arrivals if each.processed}),
    }


@pytest.mark.parametrize(
    ("others", "threads", "tries"),
    [
        (30, 4, 5),
        pytest.param(1000, 1, outcomes.MAX_ATTEMPTS, marks=LONG),
        pytest.param(1000, 4, outcomes.MAX_ATTEMPTS, marks=LONG),
    ],
)
def test_poison_is_given_up_and_all_others_arrive(crew, receiver, others, threads, tries):
    result = survive(crew, receiver, others=others, threads=threads, tries=tries)
    chaos.report(result)
    assert result == {"deaths": tries, "poison": "dead", "others": others, "arrived": others}


def test_teeth_attempts_that_are_counted_when_they_end(crew, receiver):
    options = {"others": 3, "threads": 1, "tries": 5, "broken": ["counted late"]}
    result = survive(crew, receiver, **options)
    assert (result["deaths"], result["poison"]) == (6, "pending")


def test_teeth_poison_that_is_claimed_together_with_others(crew, receiver):
    """Each of its deaths would be theirs too, until they are given up with it."""
    options = {"others": 5, "threads": 4, "tries": 5, "broken": ["in company"]}
    result = survive(crew, receiver, **options)
    assert result["poison"] == "dead"
    assert result["others"] < 5
