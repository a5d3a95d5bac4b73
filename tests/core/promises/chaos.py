"""Processes that work on the test's database and are killed, and a partner that keeps the books.

What the promises about callbacks are tested with. `crew` starts processes, `receiver` is whom they
call, and `audit` compares what arrived with what was committed.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from django.db import Error, connection

from affiliations.models import Callback
from tests.core.factories import make_partner
from tests.shop.models import Order

T = TypeVar("T")

ROOT = Path(__file__).parents[3]
#: Seconds that a claimed callback belongs to whoever claimed it, and between two attempts.
LEASE, PAUSE = 1.5, 0.2
#: A lease that does not lapse under whoever lives, however slow the machine.
LONG_LEASE = 60.0
#: Seconds after which what should have happened has not.
PATIENCE = 60.0


def wait_for(what: Callable[[], Any], patience: float = PATIENCE) -> float:
    """Wait until something is so, and return how many seconds that took."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < patience, "it did not happen"
        time.sleep(0.01)
    return time.monotonic() - started


def database_url() -> str:
    """Return where other processes find the database of the test."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


class Crew:
    """Starts processes that do a site's work, and ends them; see chaos_worker.py."""

    def __init__(self, log: Path, **environment: str) -> None:
        self.log = log
        self.pids: set[int] = set()
        with log.open("ab") as output:
            self.parent = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.chaos_worker"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "DATABASE_URL": database_url(),
                    "DJANGO_SETTINGS_MODULE": "tests.projects.chaos",
                    **environment,
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )

    def _order(self, **order: Any) -> Any:
        assert self.parent.stdin
        assert self.parent.stdout
        self.parent.stdin.write(f"{json.dumps(order)}\n")
        self.parent.stdin.flush()
        return json.loads(self.parent.stdout.readline())

    def start(self, role: str, **options: Any) -> int:
        """Start a process in a role of chaos_worker.py and return its number."""
        pid: int = self._order(**{"be": role, "lease": LEASE, "pause": PAUSE, **options})
        self.pids.add(pid)
        return pid

    def code(self, pid: int) -> int | None:
        """Return how a process ended, or None while it runs."""
        code: int | None = self._order(wait=pid)
        if code is not None:
            self.pids.discard(pid)
        return code

    def wait(self, pid: int, patience: float = PATIENCE) -> int:
        """Return how a process ended, once it has."""
        codes: list[int | None] = [None]

        def ended() -> bool:
            codes.append(self.code(pid))
            return codes[-1] is not None

        wait_for(ended, patience)
        assert codes[-1] is not None
        return codes[-1]

    def run(self, role: str, **options: Any) -> int:
        """Start a process and return how it ended."""
        return self.wait(self.start(role, **options))

    def kill(self, pid: int) -> None:
        """End a process as `kill -9` does, and see it gone."""
        # Its number is its own until it was waited for.
        os.kill(pid, signal.SIGKILL)
        self.wait(pid)

    def dismiss(self, pid: int) -> int:
        """Let a process end what is under way; return how it ended."""
        os.kill(pid, signal.SIGTERM)
        return self.wait(pid)

    def end(self) -> None:
        """End all that still run, so that none holds a lock while the tables are emptied."""
        for pid in list(self.pids):
            self.kill(pid)

    def close(self) -> None:
        """End all, and who started them."""
        assert self.parent.stdin
        assert self.parent.stdout
        self.parent.stdin.close()
        self.parent.wait(PATIENCE)
        self.parent.stdout.close()


@contextmanager
def crew(folder: Path, **environment: str) -> Iterator[Crew]:
    """Have a crew, as long as its parent may be of use."""
    them = Crew(folder / "log", **environment)
    try:
        yield them
    finally:
        them.close()


@contextmanager
def at_work(them: Crew) -> Iterator[Crew]:
    """Use a crew for a test; pytest shows what it has to say if the test fails."""
    before = them.log.stat().st_size
    try:
        yield them
    finally:
        them.end()
        with them.log.open("rb") as log:
            log.seek(before)
            sys.stdout.write(log.read()[-10_000:].decode(errors="replace"))


class Arrival(NamedTuple):
    """One call that the receiver took note of: 200, 500, hold, reset, lost, short or empty."""

    fate: str
    webhook_id: str
    sent: str
    target: str

    @property
    def event(self) -> str:
        """What it told of."""
        return self.target.partition("?")[0].lstrip("/")

    @property
    def processed(self) -> bool:
        """Tell whether the partner took it, whatever came through of its answer."""
        return self.fate in ("200", "lost")


class Receiver:
    """A partner's server, in a process of its own; see chaos_receiver.py."""

    def __init__(self, journal: Path, ports: int = 1, seed: str = "chaos") -> None:
        self.journal = journal
        journal.touch()
        self._read = 0
        self._arrivals: list[Arrival] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.chaos_receiver", journal, str(ports), seed],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.ports: list[int] = json.loads(self.process.stdout.readline())

    @property
    def urls(self) -> list[str]:
        """Its addresses, without a slash at the end."""
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    @property
    def arrivals(self) -> list[Arrival]:
        """All that has arrived so far."""
        with self.journal.open("rb") as journal:
            journal.seek(self._read)
            found = journal.read()
        whole = found[: found.rfind(b"\n") + 1]
        self._read += len(whole)
        self._arrivals += [Arrival(*each.split("\t")) for each in whole.decode().splitlines()]
        return self._arrivals

    def fates(self) -> dict[str, list[str]]:
        """Return what became of the calls, by event, and of those cut off by port."""
        found = defaultdict(list)
        for each in self.arrivals:
            found[each.event].append(each.fate)
        return found

    def let_go(self) -> None:
        """Answer what is held."""
        self.journal.with_name(f"{self.journal.name}.go").touch()

    def close(self) -> None:
        """Hang up for good."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


@contextmanager
def receiver(folder: Path, ports: int = 1, seed: str = "chaos") -> Iterator[Receiver]:
    """Run a partner's server."""
    server = Receiver(folder / "journal", ports, seed)
    try:
        yield server
    finally:
        server.close()


def sold(journals: list[Path]) -> dict[str, set[str]]:
    """Return the events that sellers noted, by what became of their transaction."""
    found: dict[str, set[str]] = defaultdict(set)
    for journal in journals:
        for line in journal.read_text().splitlines():
            ending, _, event = line.partition("\t")
            found[ending].add(event)
    return found


def audit(server: Receiver, journals: list[Path]) -> dict[str, int]:
    """Compare what arrived with what was committed, which the orders in the database are."""
    committed = set(Order.objects.values_list("number", flat=True))
    noted = sold(journals)
    whole = [each for each in server.arrivals if each.fate not in ("short", "empty")]
    processed = Counter(each.event for each in whole if each.processed)
    answered = Counter(each.event for each in whole if each.fate == "200")
    forms = {(each.event, each.webhook_id, each.sent) for each in whole}
    return {
        "events": len(committed),
        "attempts": len(server.arrivals),
        # Their seller was told that they are committed.
        "forgotten": len(noted["committed"] - committed),
        "lost": len(committed - set(processed)),
        "phantom": len({each.event for each in whole} - committed),
        "rolled back": len(noted["undone"]),
        "rolled back and sent": len(noted["undone"] & {each.event for each in whole}),
        "answers lost": sum(each.fate == "lost" for each in whole),
        # A lost answer is followed by one that is not.
        "extra": answered.total() - len(answered),
        "changed": len(forms) - len({event for event, _, _ in forms}),
        "not delivered": Callback.objects.exclude(state="delivered").count(),
    }


def report(result: dict[str, Any]) -> None:
    """Say in one line what came of a test, for `pytest -s`."""
    sys.stdout.write(f"\n{result}\n")


class Storm:
    """Sells a number of events while they are delivered, and hurts whoever takes part.

    What is to be hurt how often is spread evenly over what arrives, so that each blow finds
    something under way. `restart` is the command that restarts the database; without one, all
    connections to it are cut instead.
    """

    def __init__(
        self,
        crew: Crew,
        server: Receiver,
        folder: Path,
        *,
        events: int,
        kills: int,
        stops: int,
        seller_kills: int,
        cuts: int = 0,
        restart: str = "",
        workers: int = 4,
        pace: float = 0.0,
        lease: float = LEASE,
    ) -> None:
        self.crew, self.server, self.folder = crew, server, folder
        self.events = events
        self.restart_command = shlex.split(restart)
        self.pace, self.lease = pace, lease
        self.chance = random.Random("storm")
        self.partner = make_partner(
            {f"Event {number}": f"{url}/{{visitor_id}}" for number, url in enumerate(server.urls)}
        )
        self.subscriptions = list(
            self.partner.subscriptions.order_by("pk").values_list("pk", flat=True)
        )
        blows = (
            (kills, self.kill, 1.0),
            (stops, self.stop, 1.0),
            # They are done long before the workers.
            (seller_kills, self.kill_seller, 0.2),
            (cuts, self.restart if restart else self.cut, 1.0),
        )
        self.blows = deque(
            sorted(
                (
                    (share * events * (number + 1) / (times + 1), blow)
                    for times, blow, share in blows
                    for number in range(times)
                ),
                key=itemgetter(0),
            )
        )
        self.dealt: Counter[str] = Counter()
        # Of this process, whose other threads may have one too.
        self.spared = connections_to_it()
        #: Of the sellers that call in the request itself, and of those that only write it down.
        self.shares = {"outbox": events // 10, "outbox alone": events - events // 10}
        self.sellers: dict[int, str] = {}
        self.journals: list[Path] = []
        self.workers = {self.new_worker() for _ in range(workers)}
        #: Who was stopped, and when they may go on.
        self.stopped: dict[int, float] = {}

    def new_worker(self) -> int:
        # With few calls under way at a time: as many may arrive twice because of its death.
        return self.crew.start("work", threads=1, lease=self.lease)

    def new_seller(self, by: str) -> None:
        # An event is named after its seller: of the first, "a-0-7".
        letter = "ab"[list(self.shares).index(by)]
        name = f"{letter}-{len(self.journals)}"
        already = asked(Order.objects.filter(number__startswith=letter).count)
        if already >= self.shares[by]:
            return
        journal = self.folder / f"sold-{name}"
        journal.touch()
        self.journals.append(journal)
        pid = self.crew.start(
            "sell",
            name=name,
            by=by,
            count=self.shares[by] - already,
            journal=str(journal),
            partner=self.partner.pk,
            urls=[f"{url}/{{}}" for url in self.server.urls],
            subscriptions=self.subscriptions,
            pace=self.pace,
            lease=self.lease,
        )
        self.sellers[pid] = by

    def kill(self) -> None:
        # At any moment: not always when a call has just arrived.
        time.sleep(self.chance.uniform(0, 0.05))
        pid = self.chance.choice(sorted(self.workers))
        self.workers.remove(pid)
        self.crew.kill(pid)
        self.workers.add(self.new_worker())
        self.dealt["kills"] += 1

    def stop(self) -> None:
        pid = self.chance.choice(sorted(self.workers))
        self.workers.remove(pid)
        os.kill(pid, signal.SIGSTOP)
        self.stopped[pid] = time.monotonic() + self.lease + 0.5
        self.dealt["stops"] += 1

    def go_on(self) -> None:
        for pid, until in list(self.stopped.items()):
            if time.monotonic() >= until:
                os.kill(pid, signal.SIGCONT)
                self.workers.add(pid)
                del self.stopped[pid]

    def kill_seller(self) -> None:
        if self.sellers:
            pid = self.chance.choice(sorted(self.sellers))
            by = self.sellers.pop(pid)
            self.crew.kill(pid)
            self.new_seller(by)
            self.dealt["seller kills"] += 1

    def restart(self) -> None:
        subprocess.run(self.restart_command, check=True, stdout=subprocess.DEVNULL)
        self.dealt["restarts"] += 1

    def cut(self) -> None:
        cut_connections(connections_to_it() - self.spared)
        self.dealt["cuts"] += 1

    def run(self, patience: float) -> dict[str, int]:
        """Let it rage until all is delivered; return how it went, and what came of it."""
        started = time.monotonic()
        for by in self.shares:
            self.new_seller(by)
        looked = started
        while True:
            arrived = len(self.server.arrivals)
            while self.blows and self.blows[0][0] <= arrived and len(self.workers) > 1:
                self.blows.popleft()[1]()
            self.go_on()
            if time.monotonic() - looked > 0.3:
                looked = time.monotonic()
                assert looked - started < patience, f"{arrived} calls for {self.events} events"
                if self.is_over():
                    break
            time.sleep(0.005)
        took = time.monotonic() - started
        for pid in self.workers:
            # One that was started a moment ago, for one that was killed, has not yet said that it
            # wants to hear of the signal: it ends of it, with nothing begun.
            assert self.crew.dismiss(pid) in (0, -signal.SIGTERM)
        result = audit(self.server, self.journals)
        return {**self.dealt, **result, "seconds": round(took, 1)}

    def is_over(self) -> bool:
        """Tell whether nothing is under way any more; whoever has died of himself shows here."""
        for pid in list(self.workers):
            assert self.crew.code(pid) is None, "a worker has ended by itself"
        for pid in list(self.sellers):
            code = self.crew.code(pid)
            if code is not None:
                assert code == 0, "a seller has failed"
                del self.sellers[pid]
        waiting = Callback.objects.filter(state="pending").exists
        return not (self.sellers or self.blows or self.stopped) and not asked(waiting)


def connections_to_it() -> set[int]:
    """Return the connections to the test's database, by the server's numbers; none on SQLite."""
    sql = {
        "postgresql": "SELECT pid FROM pg_stat_activity WHERE datname = current_database()",
        "mysql": "SELECT id FROM information_schema.processlist WHERE db = DATABASE()",
    }.get(connection.vendor)
    if sql is None:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return {number for (number,) in cursor.fetchall()}


def cut_connections(numbers: Iterable[int]) -> None:
    """Let the server end these connections, whatever they are in the middle of."""
    sql = {"postgresql": "SELECT pg_terminate_backend(%s)", "mysql": "KILL %s"}[connection.vendor]
    with connection.cursor() as cursor:
        for number in numbers:
            with suppress(Error):  # it has ended by itself
                cursor.execute(sql, [number])


def asked(question: Callable[[], T]) -> T:
    """Ask the database, again and again while it is gone."""
    started = time.monotonic()
    while True:
        try:
            return question()
        except Error:
            if time.monotonic() - started > PATIENCE:
                raise
            connection.close()
            time.sleep(0.1)
