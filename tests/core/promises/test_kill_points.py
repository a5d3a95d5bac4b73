"""A process may die at any point of a delivery: what is recovered then, and how soon.

Points 1 to 12 are those that the design names; most are reached as `AFFILIATE_FAULT` says.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.utils import timezone

from affiliations import callbackurl, outbox, outcomes
from affiliations.models import Callback, Destination
from tests.core.factories import make_partner
from tests.core.promises import chaos
from tests.core.promises.chaos import LONG_LEASE
from tests.shop.models import Order

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by forking"),
]

KILLED = -signal.SIGKILL
#: Seconds after the last lease within which all is recovered, by a machine that is idle otherwise.
GRACE = 5.0
#: How often each point is died at in a round.
COPIES = 5
SOME_DAY = datetime(2999, 1, 1, tzinfo=UTC)
LONG = [pytest.mark.long, pytest.mark.timeout(3600)]


class Case(NamedTuple):
    """A point to die at, and what must hold after it."""

    number: int
    point: str
    #: What becomes of the calls, as the receiver notes it.
    fates: tuple[str, ...]
    #: How many attempts the row counts in the end.
    attempts: int
    #: How the receiver is told to answer.
    answers: str = "200"
    state: str = "delivered"
    #: What the row, and its host, are like at the beginning.
    row: dict[str, Any] = {}
    failures: int = 0


DELIVERIES = [
    Case(3, "claimed", ("200",), 2),
    Case(4, "connected", ("empty", "200"), 2),
    Case(5, "half-sent", ("short", "200"), 2),
    Case(6, "sent", ("200", "200"), 2),
    Case(7, "answered", ("200", "200"), 2),
    Case(8, "recorded", ("200", "200"), 2),
    Case(8, "committed", ("200",), 1),
    Case(9, "failed", ("500", "200"), 2, answers="500,200"),
    # Its last attempt: the next claim finds that it has had all.
    Case(10, "dying", ("500",), 11, answers="500", state="dead", row={"attempts": 9}),
    # Behind the record of the attempt, and before its host is known to do well again.
    Case(12, "committed", ("200",), 1, failures=outcomes.TROUBLE),
    # Its host fails once too often.
    Case(12, "paused", ("500", "200"), 2, answers="500,200", failures=outcomes.TROUBLE - 1),
]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[chaos.Receiver]:
    # Of each callback its own, so that the failures of one are not those of another.
    with chaos.receiver(tmp_path, ports=COPIES * len(DELIVERIES)) as receiver:
        yield receiver


def make_rows(
    receiver: chaos.Receiver, cases: list[Case], copies: int, prefix: str
) -> dict[str, tuple[Case, Callback, Callback]]:
    """Return by name the case, a callback to die of, and one to the same host that is not due yet.

    The second shows whether its host is still called when all is over.
    """
    partner = make_partner()
    rows = {}
    for case in cases:
        for _ in range(copies):
            name = f"{prefix}{case.number}-{case.point}-{len(rows)}"
            host = callbackurl.host(receiver.urls[len(rows)])
            Destination.objects.update_or_create(
                host=host, defaults={"failures": case.failures, "paused_until": None}
            )
            url = f"http://{host}/{name}"
            # Longer than its headers, so that half of what is sent ends in it.
            common = {"partner": partner, "host": host, "method": "POST", "body": "x" * 2000}
            rows[name] = (
                case,
                Callback.objects.create(url=f"{url}?answers={case.answers}", **common, **case.row),
                Callback.objects.create(url=f"{url}-next?answers=200", **common, due=SOME_DAY),
            )
    return rows


def is_overloaded() -> bool:
    """Tell whether others have so much to do here that it says nothing how long something took."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)


def wrongs_after(
    crew: chaos.Crew,
    receiver: chaos.Receiver,
    cases: list[Case],
    *,
    copies: int = 1,
    prefix: str = "",
    broken: tuple[str, ...] = (),
) -> list[str]:
    """Let processes die at each case's point, recover, and return what does not hold then."""
    before = {event: len(fates) for event, fates in receiver.fates().items()}
    rows = make_rows(receiver, cases, copies, prefix)
    wrong = []
    for name, (case, callback, _) in rows.items():
        code = crew.run("attempt one", pk=callback.pk, point=case.point, broken=broken)
        assert code == KILLED, f"{name} was not reached"
        callback.refresh_from_db()
        if callback.state != ("delivered" if case.point == "committed" else "pending"):
            wrong.append(f"{name} was {callback.state} in between")
        elif callback.due and callback.due > timezone.now() + timedelta(seconds=chaos.LEASE):
            wrong.append(f"{name} was put off until after its lease")
    Callback.objects.filter(due=SOME_DAY).update(due=timezone.now())
    worker = crew.start("work", threads=4, lease=LONG_LEASE, broken=broken)
    took = chaos.wait_for(lambda: not Callback.objects.filter(state="pending").exists())
    if took > chaos.LEASE + GRACE and not is_overloaded():
        wrong.append(f"it took {took:.1f} seconds")
    assert crew.dismiss(worker) == 0
    fates = receiver.fates()
    for name, (case, callback, following) in rows.items():
        callback.refresh_from_db()
        # What was cut off before its target was known is noted under its port.
        port = callback.host.rpartition(":")[2]
        came = (*fates[port][before.get(port, 0) :], *fates[name])
        if (came, callback.state) != (case.fates, case.state):
            wrong.append(f"{name} came as {came} and is {callback.state}")
        if callback.attempts != case.attempts:
            wrong.append(f"{name} counts {callback.attempts} attempts")
        if fates[following.url.rpartition("/")[2].partition("?")[0]] != ["200"]:
            wrong.append(f"{name} stops what follows it")
    if Destination.objects.exclude(failures=0, paused_until=None).exists():
        wrong.append("a host is held back for good")
    arrivals = [each for each in receiver.arrivals if each.event in rows]
    if len({each[1:] for each in arrivals}) > len({each.event for each in arrivals}):
        wrong.append("what came again was changed")
    if Callback.objects.count() != 2 * len(rows):
        wrong.append("there are other rows than before")
    return wrong


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=LONG)])
def test_every_point_of_a_delivery_recovers(crew, receiver, rounds):
    for number in range(rounds):
        options = {"copies": COPIES, "prefix": f"{number}-"}
        assert wrongs_after(crew, receiver, DELIVERIES, **options) == []
        Callback.objects.all().delete()
    chaos.report({"deaths": rounds * COPIES * len(DELIVERIES), "recovered": "all"})


def test_teeth_attempts_that_are_counted_when_they_end(crew, receiver):
    """A callback that kills its worker would never have had all its attempts."""
    cases = [each for each in DELIVERIES if each.point in ("claimed", "dying")]
    wrong = wrongs_after(crew, receiver, cases, broken=("counted late",))
    assert {"3-claimed-0 counts 1 attempts", "10-dying-1 counts 10 attempts"} <= set(wrong)


# The points that are not a delivery's


@pytest.mark.parametrize("copies", [COPIES, pytest.param(50, marks=LONG)])
def test_a_seller_that_dies_sells_whole_or_not_at_all(crew, receiver, tmp_path, copies):
    """Points 1 and 2: inside the transaction of the business, and behind it with nobody told."""
    options = {
        "journal": str(tmp_path / "sold"),
        "partner": make_partner().pk,
        "urls": [f"{receiver.urls[0]}/{{}}?answers=200"],
        "count": 1,
        "undone": 0,
        "dies_at": [0],
    }
    for copy in range(copies):
        for name in ("transaction", "commit"):
            assert crew.run("sell", name=f"{name}-{copy}", dies_in=name, **options) == KILLED
    committed = {f"commit-{copy}-0" for copy in range(copies)}
    assert set(Order.objects.values_list("number", flat=True)) == committed
    assert Callback.objects.filter(state="pending", attempts=0).count() == copies
    assert receiver.arrivals == []
    worker = crew.start("work", threads=4, lease=LONG_LEASE)
    chaos.wait_for(lambda: not Callback.objects.exclude(state="delivered").exists())
    assert crew.dismiss(worker) == 0
    assert {each.event for each in receiver.arrivals if each.fate == "200"} == committed
    result = chaos.audit(receiver, [])
    assert (result["lost"], result["phantom"], result["extra"]) == (0, 0, 0)


@pytest.mark.parametrize("copies", [COPIES, pytest.param(50, marks=LONG)])
def test_a_replay_that_dies_can_be_given_again(crew, receiver, copies):
    """Point 11: between two of its batches; nothing is there twice, or called twice, after it."""
    url = f"{receiver.urls[0]}/{{}}-{{}}?answers=200"
    host = callbackurl.host(url)
    outbox.know([host], "default")
    for copy in range(copies):
        partner = make_partner()
        fields = {"partner": partner, "host": host, "state": "dead", "due": None, "attempts": 10}
        Callback.objects.bulk_create(
            Callback(url=url.format(copy, number), **fields) for number in range(5)
        )
        options = {"arguments": ["--partner", partner.uid], "batch": 2}
        assert crew.run("resend", point="replayed", **options) == KILLED
        assert partner.callbacks.filter(state="dead").count() == 3
        assert crew.run("resend", **options) == 0
        assert partner.callbacks.filter(state="pending").count() == 5
    arguments = ["deliver_callbacks", "--threads", "4"]
    assert crew.run("admin", arguments=arguments, lease=LONG_LEASE) == 0
    assert Callback.objects.filter(state="delivered", attempts=11).count() == 5 * copies
    assert Callback.objects.count() == 5 * copies
    assert sorted(receiver.fates().values()) == [["200"]] * 5 * copies


def test_the_environment_names_the_point(crew, receiver):
    """As somebody drives it by hand, with a process that is no fork."""
    [(_, callback, _)] = make_rows(receiver, DELIVERIES[:1], 1, "").values()
    environment = {
        "AFFILIATE_FAULT": "claimed",
        "DATABASE_URL": chaos.database_url(),
        "DJANGO_SETTINGS_MODULE": "tests.projects.chaos",
    }
    command = [sys.executable, "-m", "django", "deliver_callbacks", "--loop"]
    code = subprocess.call(
        command, cwd=chaos.ROOT, env={**os.environ, **environment}, timeout=chaos.PATIENCE
    )
    assert code == KILLED
    callback.refresh_from_db()
    assert (callback.state, callback.attempts, receiver.arrivals) == ("pending", 1, [])
