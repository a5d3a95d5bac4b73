"""At least once, with the same id and bytes, never what was not committed, and hardly ever twice.

Workers are killed and stopped, sellers too, the database is restarted, and of the calls 30 % fail.

The long form restarts PostgreSQL only where AFFILIATIONS_PG_RESTART says how, such as
"pg_ctlcluster 15 main restart -m immediate": it hurts whoever else uses that server. Elsewhere the
connections to the test's database are cut. AFFILIATIONS_CHAOS_EVENTS is how many events it has.
"""

import os
import signal
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from affiliations import callbackurl, delivery, outbox, wakeup
from affiliations.models import Callback
from affiliations.tasks import deliver_callbacks
from tests.core.factories import make_partner
from tests.core.promises import chaos

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by forking"),
]

LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
RESTART = os.environ.get("AFFILIATIONS_PG_RESTART", "")
#: Of the events, how many may arrive twice for another reason than a lost answer.
TWICE = 0.005


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[chaos.Receiver]:
    with chaos.receiver(tmp_path, ports=8) as receiver:
        yield receiver


SHORT = {
    "events": 300,
    "kills": 10,
    "stops": 2,
    "seller_kills": 2,
    "cuts": 0 if connection.vendor == "sqlite" else 1,
    "lease": 2.0,
    "pace": 0.02,
}
#: Of the long form; where they are fewer, fewer are hurt.
EVENTS = int(os.environ.get("AFFILIATIONS_CHAOS_EVENTS", "100000"))
HUGE = {
    "events": EVENTS,
    "kills": EVENTS // 100,
    "stops": EVENTS * 6 // 10_000,
    "seller_kills": 5,
    "cuts": 0 if connection.vendor == "sqlite" else 5,
    "lease": 5.0,
}


@pytest.mark.parametrize("blows", [SHORT, pytest.param(HUGE, marks=LONG)], ids=["short", "long"])
def test_whatever_dies_nothing_is_lost_and_hardly_anything_comes_twice(
    crew, receiver, tmp_path, blows
):
    storm = chaos.Storm(crew, receiver, tmp_path, restart=RESTART if blows is HUGE else "", **blows)
    workers = len(storm.workers)
    result = storm.run(patience=120 + blows["events"] / 20)
    chaos.report(result)
    assert result["events"] >= blows["events"]
    assert result["rolled back"] > 0
    for what in ("forgotten", "lost", "phantom", "rolled back and sent", "not delivered"):
        assert result[what] == 0, what
    # The same id and bytes, however often.
    assert result["changed"] == 0
    dealt = storm.dealt
    assert dealt["seller kills"] == blows["seller_kills"]
    cuts = dealt["cuts"] + dealt["restarts"]
    # As many as a worker may have under way, or rather have had an answer of and not recorded it.
    at_once = delivery.Courier(threads=1).room
    # Whoever is stopped within a transaction stops all who write to SQLite, beyond their leases.
    by_a_stop = workers if connection.vendor == "sqlite" else 1
    bound = dealt["kills"] + by_a_stop * dealt["stops"] + workers * cuts
    assert result["extra"] <= at_once * bound + dealt["seller kills"]
    if blows is HUGE:
        # Few of them die at that very moment.
        assert result["extra"] <= bound
    if blows["events"] >= 100_000:
        assert result["extra"] <= TWICE * result["events"]


def sell_and_die(crew, receiver, folder, by):
    """Let sellers die right behind a COMMIT; return what came of it once all has settled."""
    journals = [folder / f"{by}-{number}" for number in range(3)]
    for journal in journals:
        code = crew.run(
            "sell",
            name=journal.name,
            count=9,
            most=3,
            journal=str(journal),
            by=by,
            partner=make_partner().pk,
            urls=[f"{receiver.urls[0]}/{{}}?answers=200"],
            dies_in="commit",
            dies_at=[2],
            undone=0,
        )
        assert code == -signal.SIGKILL
    # None of theirs is leased: whoever died had begun no call.
    assert crew.run("admin", arguments=["deliver_callbacks"], lease=chaos.LONG_LEASE) == 0
    return chaos.audit(receiver, journals)


def test_a_seller_that_dies_behind_its_commit_loses_nothing(crew, receiver, tmp_path):
    result = sell_and_die(crew, receiver, tmp_path, "outbox")
    assert result["events"] >= 9
    assert (result["lost"], result["extra"], result["phantom"]) == (0, 0, 0)


def test_teeth_calls_that_are_made_on_commit(crew, receiver, tmp_path):
    assert sell_and_die(crew, receiver, tmp_path, "on_commit")["lost"] >= 3


def sell_by_tasks(crew, receiver, folder):
    """Let a worker die within some tasks, until none is left; return how it went."""
    journal = folder / "by-tasks"
    code = crew.run(
        "sell",
        name="task",
        count=20,
        journal=str(journal),
        by="task",
        partner=make_partner().pk,
        urls=[f"{receiver.urls[0]}/{{}}?answers=200"],
        undone=0,
        most=1,
    )
    assert code == 0
    deaths = 0
    while code := crew.run("run tasks"):
        assert code == -signal.SIGKILL
        deaths += 1
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM django_tasks_database_dbtaskresult WHERE status = 'RUNNING'"
        )
        [running] = cursor.fetchone()
    result = chaos.audit(receiver, [journal])
    return {"deaths": deaths, "running": running, "lost": result["lost"]}


def test_teeth_an_engine_of_tasks_without_a_lease(transactional_db, receiver, tmp_path):
    """What django-tasks-db has begun nobody begins again: its worker's death is the task's end."""
    try:
        import_module("django_tasks_db.compat")
    except (ImportError, ValueError) as error:
        pytest.skip(f"no django-tasks-db, or django-tasks is too old for it: {error}")
    if hasattr(deliver_callbacks.get_backend(), "save_metadata"):
        pytest.skip("django-tasks before 0.12 asks more of a backend")
    with chaos.crew(tmp_path, CHAOS_TASKS=str(tmp_path)) as company, chaos.at_work(company) as crew:
        assert crew.run("have tables of tasks", wanted=True) == 0
        try:
            result = sell_by_tasks(crew, receiver, tmp_path)
        finally:
            assert crew.run("have tables of tasks", wanted=False) == 0
    assert result == {"deaths": 2, "running": 2, "lost": 2}


def outlive_a_lease(crew, receiver, broken=()):
    """Stop a worker within a call until another one has delivered; return what came of it.

    When it goes on, it learns that its own call has failed.
    """
    url = f"{receiver.urls[0]}/x?answers=hold,200"
    host = callbackurl.host(url)
    outbox.know([host], "default")
    callback = Callback.objects.create(partner=make_partner(), url=url, host=host)
    late = crew.start("work", broken=broken)
    chaos.wait_for(lambda: receiver.arrivals)
    os.kill(late, signal.SIGSTOP)
    other = crew.start("work", lease=chaos.LONG_LEASE, broken=broken)
    chaos.wait_for(Callback.objects.filter(state="delivered").exists)
    assert crew.dismiss(other) == 0
    receiver.let_go()
    os.kill(late, signal.SIGCONT)
    assert crew.dismiss(late) == 0
    callback.refresh_from_db()
    state = callback.state
    chaos.wait_for(lambda: callback.due is None or callback.due <= timezone.now())
    assert crew.run("admin", arguments=["deliver_callbacks"]) == 0
    return [state, *receiver.fates()["x"]]


def test_who_outlives_its_lease_changes_nothing(crew, receiver):
    assert outlive_a_lease(crew, receiver) == ["delivered", "hold", "200"]


def test_teeth_an_outcome_recorded_by_whoever_comes_last(crew, receiver):
    assert outlive_a_lease(crew, receiver, ("unfenced",)) == ["pending", "hold", "200", "200"]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="nobody is notified there")
def test_who_listens_for_notices_listens_again_after_it_was_cut_off(transactional_db, monkeypatch):
    monkeypatch.setattr(wakeup, "RETRY", 0.1)
    others = chaos.connections_to_it()
    heard = threading.Event()
    listener = wakeup.Listener("default", heard.set)
    try:
        chaos.wait_for(lambda: listener.listening)
        its_first = chaos.connections_to_it() - others
        chaos.cut_connections(its_first)
        chaos.wait_for(lambda: chaos.connections_to_it() - others - its_first)
        chaos.wait_for(lambda: listener.listening)
        # Twice: it also looks once when it begins to listen.
        for _ in range(2):
            heard.clear()
            wakeup.notify("default")
            assert heard.wait(chaos.PATIENCE)
    finally:
        listener.close()
