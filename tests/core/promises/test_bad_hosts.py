"""A host that hangs or fails costs the others nothing, and what waits for it is only late.

The short form counts; speed is asserted in the long one alone, against a run without bad hosts.
"""

import random
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from statistics import quantiles
from urllib.parse import urlsplit

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from affiliations import claims, outbox, outcomes
from affiliations.delivery import Courier
from affiliations.models import Callback, CallbackAttempt, Destination
from affiliations.testing import deliver, freeze
from tests.core.factories import make_partner
from tests.core.receivers.scripted import Says, scripted
from tests.core.test_delivery import worker

pytestmark = pytest.mark.django_db(transaction=True)

#: Calls under way at a host, at most; the default, written down again.
CAP = 4
#: Longer than any call may take.
NEVER = 60.0


@pytest.fixture
def hosts():
    """Make servers: so many that do well, that hang, and that answer 500."""
    with ExitStack() as stack:

        def make(well, hanging, failing):
            kinds = {
                "well": (well, Says(200)),
                "hanging": (hanging, Says(after=NEVER)),
                "failing": (failing, Says(500)),
            }
            return {
                kind: [stack.enter_context(scripted(says)) for _ in range(number)]
                for kind, (number, says) in kinds.items()
            }

        yield make


def name(server):
    return urlsplit(server.url).netloc


def write(servers, number, *, partner):
    """Write so many callbacks for each server, mixed, of which nobody is told; return the time."""
    now = timezone.now()
    hosts = [name(server) for server in servers]
    outbox.know(hosts, "default")
    rows = [
        Callback(partner=partner, url=f"http://{host}/x?v=1", host=host, due=now, created_on=now)
        for host in hosts
        for _ in range(number)
    ]
    random.Random(number).shuffle(rows)
    with transaction.atomic():
        Callback.objects.bulk_create(rows, batch_size=1000)
    return time.monotonic()


def to(servers):
    return Callback.objects.filter(host__in=[name(server) for server in servers])


# Short


def run(couriers):
    """Let couriers deliver what is due, all at once."""

    def work(courier):
        try:
            courier.run()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=[each]) for each in couriers]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
        assert not each.is_alive()


def harm(hosts, monkeypatch):
    """Deliver to hosts of which four are bad; return what these did to others or to themselves."""
    # A call that hangs takes a second, and is slow after half of one.
    monkeypatch.setattr(outcomes, "SLOW", timedelta(seconds=0.5))
    servers = hosts(8, 2, 2)
    well, hanging, failing = servers["well"], servers["hanging"], servers["failing"]
    bad = [*hanging, *failing]
    write([*well, *bad], 16, partner=make_partner())
    run([Courier(6, timeout=1.0), Courier(6, timeout=1.0)])
    found = set()
    heard = Counter(call.headers["webhook-id"] for each in well for call in each.heard)
    if len(heard) < 128 or to(well).filter(state="delivered").count() < 128:
        found.add("something did not arrive")
    if set(heard.values()) - {1}:
        found.add("something arrived twice")
    for each in bad:
        if each.most > CAP:
            found.add("too many at once")
        if len(each.heard) > outcomes.TROUBLE + CAP:
            found.add("called on and on")
        state = Destination.objects.get(pk=name(each))
        if state.failures < 10 or state.paused_until is None:
            found.add("no pause")
    waiting = to(bad).filter(state="pending", token=None, due__isnull=False)
    if waiting.count() < 64:
        found.add("something was dropped")
    if CallbackAttempt.objects.count() != sum(len(each.heard) for each in [*well, *bad]):
        found.add("an attempt was not recorded")
    if Destination.objects.filter(host__in=map(name, well)).exclude(failures=0).exists():
        found.add("the innocent were blamed")
    return found


def test_bad_hosts_do_no_harm(hosts, monkeypatch):
    assert harm(hosts, monkeypatch) == set()


def test_teeth_no_cap_and_no_pause(hosts, monkeypatch, settings):
    settings.AFFILIATE_CALLBACKS_PER_HOST = 1000
    monkeypatch.setattr(outcomes, "TROUBLE", 10**6)
    assert harm(hosts, monkeypatch) >= {"too many at once", "no pause"}


def test_teeth_a_cap_and_no_pause(hosts, monkeypatch):
    monkeypatch.setattr(outcomes, "_watch_hosts", lambda *args: None)
    assert harm(hosts, monkeypatch) >= {"no pause", "called on and on"}


def test_teeth_a_pause_that_drops(hosts, monkeypatch):
    watch = outcomes._watch_hosts

    def drop(results, *args):
        watch(results, *args)
        paused = Destination.objects.filter(paused_until__isnull=False)
        rows = Callback.objects.filter(host__in=paused.values("host"), state="pending", token=None)
        rows.update(state="dead")

    monkeypatch.setattr(outcomes, "_watch_hosts", drop)
    assert "something was dropped" in harm(hosts, monkeypatch)


def test_who_fails_is_asked_by_one_call_now_and_then_and_has_it_all_when_it_recovers(hosts):
    [server] = hosts(0, 0, 1)["failing"]
    write([server], 30, partner=make_partner())
    here = Destination.objects.filter(pk=name(server))
    pauses = []
    with freeze() as clock:
        deliver()
        # Ten in a row, and no more.
        assert len(server.heard) == outcomes.TROUBLE
        for number in range(1, 13):
            until = here.get().paused_until
            pauses.append((until - clock.now) / outcomes.MIN_PAUSE)
            clock.now = until - timedelta(milliseconds=1)
            assert deliver() == (0, 0)
            clock.now = until
            assert deliver() == (1, 0)
            assert len(server.heard) == outcomes.TROUBLE + number
        # Between half a minute and five, with jitter, and longer the longer it lasts.
        assert 0.8 <= pauses[0] <= 1.2
        assert 8 <= pauses[-1] <= 12
        server.answers = [Says(200)]
        clock.now = here.get().paused_until
        deliver()
        row = here.get()
        assert (row.failures, row.failing_since, row.paused_until) == (0, None, None)
        # What had its time to come before now has come; the rest has its own time.
        while first := Callback.objects.waiting().order_by("due").first():
            clock.now = max(clock.now, first.due)
            deliver()
    assert to([server]).filter(state="delivered").count() == 30


def test_a_slow_failure_weighs_more_and_an_answer_is_none(hosts, monkeypatch):
    monkeypatch.setattr(outcomes, "SLOW", timedelta(0))
    servers = hosts(0, 0, 2)
    slow, picky = servers["failing"]
    picky.answers = [Says(404)]
    write([slow, picky], 20, partner=make_partner())
    with freeze():
        deliver()
    assert len(slow.heard) == 2
    # It does well: it says no to each.
    assert len(picky.heard) == 20
    assert Destination.objects.get(pk=name(picky)).paused_until is None


@pytest.mark.parametrize("status", [429, 503])
def test_who_asks_for_patience_is_left_alone_at_once(hosts, status):
    [server] = hosts(0, 0, 1)["failing"]
    server.answers = [Says(status, {"Retry-After": "100"}), Says(200)]
    write([server], 5, partner=make_partner())
    with freeze() as clock:
        deliver()
        assert len(server.heard) == 1
        pause = Destination.objects.get(pk=name(server)).paused_until - clock.now
        assert 80 <= pause.total_seconds() <= 120
        clock.now += pause
        deliver()
        assert len(server.heard) >= 5


def test_a_backlog_at_one_host_lets_another_have_its_turn():
    partner = make_partner()
    now = timezone.now()
    for host, number, waited in (("a.example", 30, 60), ("b.example", 1, 90), ("c.example", 1, 30)):
        outbox.know([host], "default")
        due = now - timedelta(seconds=waited)
        Callback.objects.bulk_create(
            Callback(partner=partner, url=f"http://{host}/x", host=host, due=due)
            for _ in range(number)
        )
    turns = []
    for _ in range(10):
        [taken] = claims.Claimer().claim()
        turns.append(taken.host)
        # As if it had been called: there is room at the host again.
        Callback.objects.filter(pk=taken.pk).update(state="delivered", token=None, due=None)
        Callback.objects.filter(host="a.example", state="pending").update(due=timezone.now())
    # Who waits longest comes first, and no new work of the one goes before older work of another.
    assert turns[:2] == ["b.example", "c.example"]
    assert set(turns[2:]) == {"a.example"}


# Long

ENDPOINTS, HANGING, DEAD = 100, 5, 10
WORKERS, THREADS = 4, 8
BACKLOG = 100
#: Callbacks a second, and for how many seconds.
RATE, SECONDS = 40, 30


class Nobody:
    """A host at which nobody listens."""

    def __init__(self, server):
        self.url = server.url


@pytest.mark.long
@pytest.mark.skipif(connection.vendor == "sqlite", reason="lets no two workers write at once")
@pytest.mark.timeout(0)
def test_healthy_hosts_keep_their_speed(capsys):
    partner = make_partner()
    with ExitStack() as stack:
        well = [stack.enter_context(scripted()) for _ in range(ENDPOINTS - HANGING - DEAD)]
        hanging = [stack.enter_context(scripted(Says(after=NEVER))) for _ in range(HANGING)]
        with ExitStack() as gone:
            dead = [Nobody(gone.enter_context(scripted())) for _ in range(DEAD)]
        bad = [*hanging, *dead]
        for _ in range(WORKERS):
            stack.enter_context(worker("--loop", "--threads", str(THREADS)))
        until_delivered(well, write(well, 2, partner=partner))
        time.sleep(5)
        until_delivered(well, write(well, 10, partner=partner))
        alone = len(well) * BACKLOG / until_delivered(well, write(well, BACKLOG, partner=partner))
        # The bad ones first, so that whoever took them in turn would be held up by them.
        began = write(bad, BACKLOG, partner=partner)
        write(well, BACKLOG, partner=partner)
        beside = len(well) * BACKLOG / until_delivered(well, began)
        # Once more from their first failure on, now for what comes one by one.
        while any(server.under_way for server in hanging):
            time.sleep(0.05)  # who deletes what is under way, hides it from the cap
        to(bad).delete()
        Destination.objects.update(failures=0, failing_since=None, paused_until=None)
        latencies = trickle(well, bad, partner)
        p95 = quantiles(latencies, n=100)[94]
        kept = to(bad).filter(state="pending").count(), to(bad).count()
        most = max(server.most for server in hanging)
        paused = Destination.objects.filter(paused_until__isnull=False).count()
    with capsys.disabled():
        sys.stdout.write(
            f"\n{connection.vendor}, {ENDPOINTS} hosts, {HANGING} hang, {DEAD} dead, "
            f"{WORKERS}x{THREADS} calls: alone {alone:.0f}/s, beside {beside:.0f}/s "
            f"({beside / alone:.0%}); latency p50 {quantiles(latencies, n=2)[0]:.3f} s, "
            f"p95 {p95:.3f} s, max {max(latencies):.3f} s of {len(latencies)}; "
            f"at most {most} at once at a bad host, {paused} paused\n"
        )
    assert most <= CAP
    assert kept[0] == kept[1]
    assert paused == HANGING + DEAD
    assert p95 <= 2.0
    assert beside >= 0.8 * alone


def until_delivered(servers, began):
    """Wait until all that was written for these has arrived; return the seconds that it took."""
    while to(servers).filter(state="pending").exists():
        time.sleep(0.05)
        assert time.monotonic() - began < 300, "it does not arrive"
    assert not to(servers).exclude(state="delivered").exists()
    return time.monotonic() - began


def trickle(well, bad, partner):
    """Write callbacks one by one; return after how many seconds those to healthy hosts arrived."""
    source = random.Random(5)
    write(bad, BACKLOG, partner=partner)
    last = Callback.objects.order_by("-pk").first().pk
    started = time.monotonic()
    for number in range(RATE * SECONDS):
        time.sleep(max(0.0, started + number / RATE - time.monotonic()))
        server = source.choice(bad if number % 7 == 0 else well)
        write([server], 1, partner=partner)
    until_delivered(well, time.monotonic())
    rows = CallbackAttempt.objects.filter(
        callback__pk__gt=last, callback__host__in=[name(server) for server in well]
    ).values_list("callback__created_on", "started_on", "duration_ms")
    return [
        (began - written + timedelta(milliseconds=took)).total_seconds()
        for written, began, took in rows
    ]
