"""A purchase is paid out once, however often, by however many and in spite of what it is reported.

Row M2 of the promises: the same order completes once, and another one by its name is a conflict.
"""

import json
import os
import random
import time
from collections import Counter
from contextlib import contextmanager

import pytest
import requests
from django.db import DatabaseError, connection
from django.utils import timezone

from affiliations.links import purchases, services
from affiliations.links.exceptions import AlreadyFulfilled
from affiliations.links.models import Link, Transaction
from affiliations.models import ApiKey, Callback, Conversion
from affiliations.rewards.models import Commission, Entry
from affiliations.rewards.testing import assert_ledger_balanced
from tests.core.factories import make_partner, make_user, make_visitor
from tests.core.promises import chaos
from tests.core.promises.test_races import at_once
from tests.links.factories import NETWORK_ID, make_link, make_transaction
from tests.rewards.factories import make_rule

pytestmark = pytest.mark.django_db(transaction=True)

SERVERS = 8 if connection.vendor == "sqlite" else 20
KEYS = int(os.environ.get("AFFILIATIONS_KEYS", "10000"))
LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
#: Minor units that an order's partner earns: 10 % of 20 dollars.
EARNED = 200
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by forking")


def reported_at_once(user, **named):
    """Let twenty servers report one purchase at the same moment; return what came of it."""

    def report():
        try:
            return services.complete(item_id="course-7", user=user, amount="20", **named).pk
        except (DatabaseError, AlreadyFulfilled) as error:
            return type(error).__name__

    answers = Counter(at_once(SERVERS, report))
    return {
        "answers": len(answers),
        "errors": [each for each in answers if isinstance(each, str)],
        "completed": Transaction.objects.filter(state="completed").count(),
        "open": Transaction.objects.open().count(),
        "conversions": Conversion.objects.count(),
        "relays": Callback.objects.count(),
    }


ONCE = {"answers": 1, "errors": [], "completed": 1, "open": 0, "conversions": 1, "relays": 1}


@pytest.fixture
def user(task_engine):
    """Somebody with three open transactions through links of one partner."""
    user, partner = make_user(), make_partner()
    for _ in range(3):
        link = make_link(partner=partner, callback_url="http://127.0.0.1:9/{transaction_id}")
        make_transaction(link, user=user, visitor=make_visitor(partner))
    return user


@pytest.mark.parametrize("named", [{}, {"order_id": "A-1"}, {"request_key": "k"}])
def test_twenty_servers_at_once_pay_a_purchase_once(user, named):
    assert reported_at_once(user, **named) == ONCE


def test_whoever_differs_in_the_key_of_the_call_pays_once_by_the_order(user):
    keys = [f"key {number}" for number in range(SERVERS)]

    def report():
        return services.complete(
            item_id="course-7", user=user, amount="20", order_id="A-1", request_key=keys.pop()
        ).pk

    assert len(set(at_once(SERVERS, report))) == 1
    assert Transaction.objects.filter(state="completed").count() == 1
    assert Callback.objects.count() == 1


def test_twenty_servers_that_call_over_http_are_told_of_the_same_transaction(user, live_server):
    _, token = ApiKey.objects.issue(name="backend", scopes=["links:transact"])
    said = {"item_id": "course-7", "user_id": user.pk, "AmountPaid": "20.00", "order_id": "A-1"}

    def report():
        headers = {"Authorization": f"Bearer {token}"}
        answer = requests.post(
            f"{live_server.url}/api/links/complete", json=said, headers=headers, timeout=60
        )
        return answer.status_code, answer.text

    [(status, told)] = set(at_once(SERVERS, report))
    assert status == 200
    [done] = Transaction.objects.filter(state="completed")
    assert json.loads(told) == {"completed": True, "transaction": done.pk}
    assert Callback.objects.count() == Conversion.objects.count() == 1


def without_looking(purchase):
    """Complete what was open a moment ago, whatever it is by now."""
    found = purchase.rows.of(purchase.user, purchase.item_id).open().order_by("-clicked_on").first()
    if found is None:
        return None
    time.sleep(0.05)
    found.state, found.open_key, found.completed_on = "completed", None, timezone.now()
    found.amount_minor, found.currency = 2000, "USD"
    found.save()
    purchases._credit(found, purchase.user)
    return found


def test_teeth_a_completion_that_trusts_what_it_has_read(user, monkeypatch):
    monkeypatch.setattr(purchases, "_complete", without_looking)
    if connection.vendor == "sqlite":
        # There a transaction that is to write begins when nobody else's is under way.
        monkeypatch.setattr(purchases, "retried", lambda action, using: action())
    counted = reported_at_once(user)
    assert counted != ONCE
    assert counted["relays"] > 1 or counted["errors"]


# Many orders, and servers that are killed


def offer(number):
    """Make so many orders that were clicked for; returns their names, the user and the link."""
    user, partner = make_user(), make_partner()
    link = make_link(partner=partner, callback_url="http://127.0.0.1:9/{order_id}", expects="")
    visitor = make_visitor(partner)
    orders = [f"A-{each}" for each in range(number)]
    Transaction.objects.bulk_create(
        [
            Transaction(
                link=link,
                path=link.path,
                item_id=each,
                user=user,
                visitor=visitor,
                network_id=NETWORK_ID,
                open_key=f"{each}:{copy}",
            )
            for each in orders
            for copy in range(2)
        ],
        batch_size=1000,
    )
    return orders, user, link


def report_and_kill(crew, number, *, copies, processes, threads, kills, broken=()):
    """Report all orders by processes of which some are killed; return how often each was paid."""
    orders, user, link = offer(number)
    make_rule(10)
    chance = random.Random("kills")

    def start(turn):
        return crew.start(
            "complete",
            orders=orders,
            user=user.pk,
            link=link.pk,
            copies=copies,
            threads=threads,
            name=str(turn),
            broken=list(broken),
        )

    running = {start(turn) for turn in range(processes)}
    turn, codes = processes, []
    while running:
        if kills and Transaction.objects.filter(state="completed").exists():
            time.sleep(chance.uniform(0.05, 0.4))
            pid = chance.choice(sorted(running))
            if crew.code(pid) is None:
                crew.kill(pid)
                kills -= 1
            running.discard(pid)
            running.add(start(turn))
            turn += 1
        for pid in list(running):
            if (code := crew.code(pid)) is not None:
                running.discard(pid)
                codes.append(code)
        time.sleep(0.01)
    paid = Transaction.objects.filter(state="completed")
    return {
        "orders": paid.values("item_id").distinct().count(),
        "paid": paid.count(),
        "conversions": Conversion.objects.count(),
        "relays": Callback.objects.count(),
        "commissions": Commission.objects.values("conversion").distinct().count(),
        "entries": Entry.objects.filter(kind="commission", minor=EARNED).count(),
        "all entries": Entry.objects.count(),
        "failed": sum(code != 0 for code in codes),
        "kills left": kills,
    }


SHORT = {"copies": 3, "processes": 3, "threads": 3, "kills": 5}
if connection.vendor == "sqlite":
    SHORT |= {"copies": 2, "threads": 2}


@forks
@pytest.mark.parametrize(
    ("number", "how"),
    [
        (40, SHORT),
        pytest.param(KEYS, {"copies": 1, "processes": 8, "threads": 8, "kills": 50}, marks=LONG),
    ],
)
def test_each_order_counts_once_in_spite_of_copies_clicks_and_kills(crew, number, how):
    result = report_and_kill(crew, number, **how)
    chaos.report(result)
    assert result == {
        "orders": number,
        "paid": number,
        "conversions": number,
        "relays": number,
        "commissions": number,
        "entries": number,
        "all entries": number,
        "failed": 0,
        "kills left": 0,
    }
    assert_ledger_balanced()


@forks
def test_teeth_a_key_that_each_report_makes_for_itself(crew):
    result = report_and_kill(
        crew, 10, copies=2, processes=2, threads=2, kills=0, broken=["keyless"]
    )
    assert result["paid"] > 10 or result["failed"]


# Between the completion and the relay


@contextmanager
def network(tmp_path):
    with chaos.receiver(tmp_path) as server:
        yield server


@forks
def test_a_server_that_dies_behind_the_completion_is_no_loss(crew, tmp_path):
    """Committed, and nobody was woken: the worker finds it, and calls with one id."""
    with network(tmp_path) as server:
        orders, user, link = offer(3)
        Link.objects.update(callback_url=f"{server.urls[0]}/{{order_id}}?x={{transaction_id}}")
        said = {"orders": orders, "user": user.pk, "link": link.pk}
        assert crew.run("complete", **said, dies_behind="A-1") == -9
        assert Transaction.objects.get(state="completed", item_id="A-1").relay.state == "pending"
        worker = crew.start("work", threads=2)
        assert crew.run("complete", **said) == 0
        chaos.wait_for(lambda: not Callback.objects.exclude(state="delivered").exists())
        assert crew.dismiss(worker) == 0
        calls = Counter((each.event, each.webhook_id) for each in server.arrivals)
        assert sorted(event for event, _ in calls) == sorted(orders)
        assert Callback.objects.count() == 3


@forks
@pytest.mark.parametrize("point", ["claimed", "connected", "half-sent", "sent", "answered"])
def test_a_worker_that_dies_of_the_relay_calls_again_with_the_same_id(
    crew, tmp_path, task_engine, point
):
    with network(tmp_path) as server:
        [order], user, _ = offer(1)
        Link.objects.update(callback_url=f"{server.urls[0]}/{{order_id}}?x={{transaction_id}}")
        services.complete(item_id=order, user=user, amount="20", order_id=order)
        rows = Callback.objects.all()
        assert crew.run("work", threads=1, point=point) == -9
        worker = crew.start("work", threads=1)
        chaos.wait_for(lambda: not rows.exclude(state="delivered").exists())
        assert crew.dismiss(worker) == 0
        whole = [each for each in server.arrivals if each.fate not in ("short", "empty")]
        # The journal has them in small letters.
        assert {each.webhook_id for each in whole} == {rows.get().webhook_id.lower()}
        assert len({each.target for each in whole}) == 1
        assert 1 <= len(whole) <= 2


@forks
def test_teeth_a_relay_that_is_written_behind_the_commit(crew):
    orders, user, link = offer(1)
    said = {"orders": orders, "user": user.pk, "link": link.pk, "dies_behind": orders[0]}
    assert crew.run("complete", **said, broken=["relayed late"]) == -9
    assert crew.run("admin", arguments=["deliver_callbacks"]) == 0
    assert Transaction.objects.filter(state="completed").exists()
    assert not Callback.objects.exists()
