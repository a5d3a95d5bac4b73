"""Callbacks that were given up are sent again, all of them, though whoever orders it dies twice."""

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from affiliations import callbackurl, outbox
from affiliations.models import Callback
from tests.core.factories import make_partner
from tests.core.promises import chaos

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by forking"),
]

LONG = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[chaos.Receiver]:
    with chaos.receiver(tmp_path) as receiver:
        yield receiver


def replay(crew, receiver, number, *, broken=()):
    """Give up `number` callbacks, send them again with two deaths in between, and deliver.

    Another partner's, and one from before, are none of those that are meant.
    """
    partner, other = make_partner(), make_partner()
    url = f"{receiver.urls[0]}/{{}}?answers=200"
    host = callbackurl.host(url)
    outbox.know([host], "default")
    now = timezone.now()
    common = {"host": host, "state": "dead", "due": None, "attempts": 10, "settled_on": now}
    Callback.objects.bulk_create(
        Callback(partner=partner, url=url.format(each), **common) for each in range(number)
    )
    Callback.objects.bulk_create(
        [
            Callback(partner=other, url=url.format("other"), **common),
            Callback(
                partner=partner,
                url=url.format("old"),
                created_on=now - timedelta(days=2),
                **common,
            ),
        ]
    )
    before = set(Callback.objects.values_list("webhook_id", flat=True))
    since = (now - timedelta(days=1)).isoformat()
    options = {
        "arguments": ["--partner", partner.uid, "--since", since],
        "batch": number // 5,
        "broken": broken,
    }
    # They are delivered meanwhile, by one that goes on.
    worker = crew.start("work", threads=4, lease=chaos.LONG_LEASE)
    for _ in range(2):
        assert crew.run("resend", point="replayed", **options) == -signal.SIGKILL
    assert crew.run("resend", **options) == 0
    chaos.wait_for(lambda: not Callback.objects.filter(state="pending").exists(), 10 + number / 10)
    assert crew.dismiss(worker) == 0
    fates = receiver.fates()
    after = set(Callback.objects.values_list("webhook_id", flat=True))
    return {
        "delivered": sum("200" in fates[str(each)] for each in range(number)),
        "arrived": len(receiver.arrivals),
        "rows": Callback.objects.count(),
        "rows that are new": len(after - before),
        "still dead": Callback.objects.filter(state="dead").count(),
    }


@pytest.mark.parametrize("number", [300, pytest.param(10_000, marks=LONG)])
def test_a_replay_that_dies_twice_sends_all_and_adds_none(crew, receiver, number):
    result = replay(crew, receiver, number)
    chaos.report(result)
    assert result == {
        "delivered": number,
        # Nobody died who delivers, so that none of them came twice.
        "arrived": number,
        "rows": number + 2,
        "rows that are new": 0,
        "still dead": 2,
    }


def test_teeth_a_replay_that_copies(crew, receiver):
    """Each time that it is given, what it sent the last time is sent once more."""
    result = replay(crew, receiver, 20, broken=["copying"])
    assert result["delivered"] == 20
    assert result["rows that are new"] > 20
    assert result["arrived"] > 20
