"""A process that has loaded Django, and forks others that do the work and may be killed.

    python -m tests.core.promises.chaos_worker

To fork takes some milliseconds, where a fresh start takes a second. It has no connection to the
database and no thread, so its children begin as fresh as any process. It reads orders from its
standard input, a JSON object in each line, answers with one number, and ends with its input.

The children do what a site's processes do, through the same commands. Only the clock is another:
leases and pauses are short. Some are broken on purpose, to show that the tests would notice.
"""

import contextlib
import itertools
import json
import os
import random
import signal
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django

django.setup()

from django.apps import apps  # noqa: E402 - Django is set up first
from django.contrib.auth import get_user_model  # noqa: E402
from django.core.management import execute_from_command_line  # noqa: E402
from django.db import Error, connection, connections, transaction  # noqa: E402
from django.db.models import F  # noqa: E402

import tests.projects.urls  # noqa: E402, F401 - each command looks at them first: no child has to
from affiliations import claims, delivery, faults, outbox, outcomes, querysets, tasks  # noqa: E402
from affiliations.links import purchases as links  # noqa: E402
from affiliations.links.exceptions import IdempotencyConflict  # noqa: E402
from affiliations.links.models import Transaction  # noqa: E402
from affiliations.management.commands import (  # noqa: E402, F401 - so that no child has to
    deliver_callbacks,
    resend_callbacks,
)
from affiliations.models import Callback, CallbackAttempt  # noqa: E402
from affiliations.signing import new_webhook_id  # noqa: E402
from tests.referrals.promises import registrar  # noqa: E402
from tests.rewards.promises import payer, trader  # noqa: E402
from tests.shop.models import Order  # noqa: E402
from tests.tracking.promises import crowd, hit_writer, poster  # noqa: E402

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# What children do


def work(*, threads: int = 1) -> None:
    """Deliver until told to stop."""
    django_admin("deliver_callbacks", "--loop", "--threads", str(threads))


def attempt_one(*, pk: int) -> None:
    """Deliver one callback, as the command does."""
    claims.Claimer = partial(claims.Claimer, ids=[pk])
    django_admin("deliver_callbacks")


def resend(*arguments: str, batch: int) -> None:
    """Send callbacks again, in batches of that size."""
    outbox.send_all_again = partial(outbox.send_all_again, batch=batch)
    django_admin("resend_callbacks", *arguments)


def run_tasks() -> None:
    """Do what django-tasks-db has to do."""
    django_admin("db_worker", "--batch", "--interval", "0.05", "--no-startup-delay", "-v0")


def have_tables_of_tasks(*, wanted: bool) -> None:
    """Make or drop them; its migrations only lead one way."""
    model = apps.get_model("django_tasks_database", "DBTaskResult")
    with connection.schema_editor() as editor:
        (editor.create_model if wanted else editor.delete_model)(model)


def django_admin(*arguments: str) -> None:
    execute_from_command_line(["django-admin", *arguments])


def sell(
    *,
    name: str,
    count: int,
    journal: str,
    partner: int,
    urls: list[str],
    subscriptions: tuple[int | None, ...] = (None,),
    by: str = "outbox",
    pace: float = 0.0,
    most: int = 5,
    undone: float = 0.1,
    dies_in: str = "",
    dies_at: tuple[int, ...] = (),
) -> None:
    """Sell until `count` orders are committed, each with an event that goes out by `by`.

    An order's number is the event's, and takes the place of {} in one of the `urls`, of which each
    may have a subscription. Up to `most` are in a transaction, and of the transactions as large a
    part as `undone` is rolled back. How each ended is noted in the journal, which outlives the
    process. Dies in the transactions of those numbers, inside or behind them.
    """
    book = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    chance = random.Random(name)
    send = SENDERS[by]
    addresses = list(zip(urls, subscriptions, strict=True))
    committed = number = 0
    for turn in itertools.count():
        if committed >= count:
            break
        events = [f"{name}-{number + n}" for n in range(min(chance.randint(1, most), count))]
        undo = chance.random() < undone
        dies = dies_in if turn in dies_at else ""
        number += len(events)
        try:
            with transaction.atomic():
                if dies == "commit":
                    transaction.on_commit(die)
                Order.objects.bulk_create(Order(number=each, total=1) for each in events)
                picked = [(each, *chance.choice(addresses)) for each in events]
                send([(partner, it, url.format(each)) for each, url, it in picked])
                if dies == "transaction":
                    die()
                transaction.set_rollback(undo)
        except Error as error:
            ending = "unknown"
            sys.stderr.write(f"{name}: {error}\n")
            connection.close()
            time.sleep(0.1)
        else:
            ending = "undone" if undo else "committed"
            committed += 0 if undo else len(events)
        os.write(book, "".join(f"{ending}\t{each}\n" for each in events).encode())
        time.sleep(pace)


def complete(
    *,
    orders: list[str],
    user: int,
    link: int,
    copies: int = 1,
    threads: int = 1,
    name: str = "",
    dies_behind: str = "",
) -> None:
    """Report purchases, each order `copies` times, at random, shared among so many threads.

    Between the reports of one the user clicks again, and each is reported with another amount as
    well, which must be refused. Dies behind the commit of the order `dies_behind`.
    """
    who = get_user_model().objects.get(pk=user)
    all_of_them = orders * copies
    random.Random(name).shuffle(all_of_them)

    def report(thread: int) -> None:
        try:
            for order in all_of_them[thread::threads]:
                said = {"item_id": order, "user": who, "order_id": order}
                with transaction.atomic():
                    if order == dies_behind:
                        transaction.on_commit(die)
                    links.complete(amount="20", **said)
                click_again(link, who, order)
                links.complete(amount="20", **said)
                with contextlib.suppress(IdempotencyConflict):
                    links.complete(amount="21", **said)
                    raise AssertionError(f"{order}: another amount was taken for the same")
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        for each in [pool.submit(report, number) for number in range(threads)]:
            each.result()


def click_again(link: int, user: Any, order: str) -> None:
    key = {"open_key": f"{link}:u{user.pk}:{order}"}
    fields = {"link_id": link, "user": user, "item_id": order, "path": "again"}
    Transaction.objects.bulk_create([Transaction(**key, **fields)], ignore_conflicts=True)


#: Whom to call, by which subscription if any, and where.
Call = tuple[int, int | None, str]


def by_outbox(calls: list[Call]) -> None:
    outbox.enqueue([a_callback(*each) for each in calls])


def a_callback(partner: int, subscription: int | None, url: str) -> Callback:
    callback = Callback(partner_id=partner, subscription_id=subscription, url=url)
    if random.random() < 0.5:
        callback.method, callback.body = "POST", json.dumps({"url": url})
    return callback


def by_outbox_alone(calls: list[Call]) -> None:
    """Write to the outbox where no engine of tasks is to be had."""
    tasks.deliver_callbacks = SimpleNamespace(enqueue=lambda ids: None)
    tasks.run_at_once = lambda: False
    by_outbox(calls)


def by_on_commit(calls: list[Call]) -> None:
    """Call as soon as it is committed: what a site does that knows no outbox."""
    for _, _, url in calls:
        transaction.on_commit(partial(call, url))


def by_task(calls: list[Call]) -> None:
    """Let a task call that is written in the same transaction."""
    for _, _, url in calls:
        call_in_task.enqueue(url, os.environ["CHAOS_TASKS"])


@task()
def call_in_task(url: str, graves: str) -> None:
    """Call, but for each tenth event die before it, once."""
    event = url.rpartition("/")[2].partition("?")[0]
    grave = Path(graves, event)
    if event.endswith("0") and not grave.exists():
        grave.touch()
        die()
    call(url)


def call(url: str) -> None:
    request = urllib.request.Request(url, headers={"webhook-id": new_webhook_id()})
    with contextlib.suppress(OSError):
        urllib.request.urlopen(request, timeout=10).close()


SENDERS: dict[str, Callable[[list[Call]], None]] = {
    "outbox": by_outbox,
    "outbox alone": by_outbox_alone,
    "on_commit": by_on_commit,
    "task": by_task,
}
ROLES: dict[str, Callable[..., None]] = {
    "work": work,
    "attempt one": attempt_one,
    "sell": sell,
    "complete": complete,
    "resend": lambda *, arguments, batch: resend(*arguments, batch=batch),
    "draft": payer.draft,
    "pay": payer.pay,
    "trade": trader.trade,
    "register": registrar.register,
    "report": registrar.report,
    "write hits": hit_writer.write,
    "crowd": crowd.crowd,
    "post": poster.post,
    "run tasks": run_tasks,
    "have tables of tasks": have_tables_of_tasks,
    "admin": lambda *, arguments: django_admin(*arguments),
}


# What is broken on purpose


def unfenced() -> None:
    """Let whoever ends an attempt record it, whoever may have the callback by then."""

    def record(results: Any, changes: Any, now: Any, using: str) -> list[bool]:
        with transaction.atomic(using=using):
            for each, change in zip(results, changes, strict=True):
                Callback.objects.using(using).filter(pk=each.callback.pk).update(**change)
            CallbackAttempt.objects.using(using).bulk_create(each.attempt for each in results)
        return [True] * len(results)

    outcomes._record = record


def counted_late() -> None:
    """Count attempts when they end, as if that were sure to happen."""
    take, settle = claims._take, outcomes.settle

    def take_uncounted(*arguments: Any) -> Any:
        found = take(*arguments)
        rows = Callback.objects.filter(pk__in=[each.pk for each in found.taken])
        rows.update(attempts=F("attempts") - 1)
        return found

    def settle_and_count(results: Any) -> list[bool]:
        done = settle(results)
        for each in results:
            rows = Callback.objects.filter(pk=each.callback.pk)
            rows.update(attempts=each.callback.attempts)
        return done

    claims._take, outcomes.settle = take_uncounted, settle_and_count


def poisoned() -> None:
    """Die of some callbacks: no breakage of ours, but what a library may do to anybody."""
    attempt = delivery.attempt

    def swallow(callback: Callback, **options: Any) -> Any:
        if "/poison" in callback.url:
            die()
        return attempt(callback, **options)

    delivery.attempt = swallow


def in_company() -> None:
    """Claim together with others what its process may have died of, however often."""
    claims.ALONE_AFTER = 1000


def copying() -> None:
    """Send copies again, and leave the failed ones as they are."""

    def send_all_again(callbacks: Any, *, batch: int) -> Any:
        rows = callbacks.order_by("pk")
        last = 0
        while found := list(rows.filter(pk__gt=last)[:batch]):
            last = found[-1].pk
            for each in found:
                each.pk, each.webhook_id, each.state = None, new_webhook_id(), "pending"
                each.due, each.attempts = each.created_on, 0
            Callback.objects.bulk_create(found)
            faults.reach("replayed")
            yield len(found)

    outbox.send_all_again = send_all_again


def keyless() -> None:
    """Give each report a key of its own, as where a column that may be empty is to be unique."""
    links._digest = lambda *parts: os.urandom(32).hex()


def relayed_late() -> None:
    """Write what a network is to be told when the purchase is committed, and not with it."""
    credit = links._credit
    links._credit = lambda done, user: transaction.on_commit(partial(credit, done, user))


BREAKAGES: dict[str, Callable[[], None]] = {
    "unfenced": unfenced,
    "counted late": counted_late,
    "poisoned": poisoned,
    "in company": in_company,
    "copying": copying,
    "keyless": keyless,
    "relayed late": relayed_late,
    "new keys": payer.new_keys,
    "untransacted": payer.untransacted,
    "unlocked payouts": trader.unlocked_payouts,
    "unlocked refunds": trader.unlocked_refunds,
    "unlocked spending": trader.unlocked_spending,
    "unjoined": registrar.unjoined,
    "let go first": hit_writer.let_go_first,
    "forgetful": hit_writer.forgetful,
    "unlocked customers": crowd.unlocked_customers,
    "hits first": crowd.hits_first,
    "uncounted": poster.uncounted,
}


# The parent


def set_clock(lease: float, pause: float, tries: int) -> None:
    querysets.LEASE = timedelta(seconds=lease)
    outcomes.SCHEDULE = (timedelta(seconds=pause),) * (tries - 1)
    outcomes.MAX_ATTEMPTS = tries
    outcomes.MIN_PAUSE = outcomes.MAX_PAUSE = timedelta(seconds=pause)


def be(
    role: str,
    *,
    lease: float,
    pause: float,
    tries: int = outcomes.MAX_ATTEMPTS,
    point: str = "",
    broken: tuple[str, ...] = (),
    **options: Any,
) -> None:
    """Do a child's work, and end the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tests' own Ctrl-C is for their parent
    # Its output belongs to the log; the orders and their answers, to its parent.
    os.dup2(2, 1)
    os.close(0)
    code = 1
    try:
        set_clock(lease, pause, tries)
        faults.POINT = point
        for each in broken:
            BREAKAGES[each]()
        ROLES[role](**options)
        connections.close_all()
        code = 0
    except BaseException:  # noqa: BLE001 - nothing may get back into the parent's loop
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    """Take orders: {"be": role, …} answers a pid, {"wait": pid} its exit code or null."""
    children = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            pid, status = os.waitpid(order["wait"], os.WNOHANG)
            children.discard(pid)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            sys.stderr.flush()
            answer = os.fork()
            if answer == 0:
                be(order.pop("be"), **order)
            children.add(answer)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
    # Not waited for yet, so these numbers are still theirs.
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
