"""A site's process that drafts payouts and sends them, and a provider that keeps its own book.

What chaos_worker.py does in the roles "draft" and "pay".
"""

import os
import random
import signal
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import connection

from affiliations import faults
from affiliations.exceptions import InvalidTransition
from affiliations.rewards import ledger, payouts
from affiliations.rewards.models import Payout, PayoutBatch

#: Of so many answers of the provider none arrives.
LOST = 0.3


def draft(*, slice_of: int, passes: int = 0, statement: int = 0, behind: bool = False) -> None:
    """Draft payouts, so many accounts at a time; die only when the point was passed so often.

    Or die at the database's statement of that number, before it or behind it.
    """
    payouts.SLICE = slice_of
    _die_later(passes)
    die_at(statement, behind)
    payouts.make_payouts(currency="EUR")


def pay(*, book: str, passes: int = 0, statement: int = 0, behind: bool = False) -> None:
    """Approve what is drafted, send what is approved, and ask again of what is not settled."""
    _die_later(passes)
    die_at(statement, behind)
    for batch in PayoutBatch.objects.filter(payouts__state="draft").distinct():
        payouts.approve_batch(batch)
    for payout in Payout.objects.filter(state="approved"):
        with suppress(InvalidTransition):
            payouts.mark_sent(payout)
    for payout in Payout.objects.filter(state="sent").select_related("account"):
        faults.reach("payout-sent")
        while not _told(Path(book), payout):
            pass
        faults.reach("payout-answered")
        with suppress(InvalidTransition):
            payouts.mark_paid(payout)


def _told(book: Path, payout: Payout) -> bool:
    """Ask the provider to pay; tell whether it has answered.

    It pays a key once, and answers the same when it is asked again.
    """
    chance = random.random()
    if chance < LOST / 2:
        return False
    with suppress(FileExistsError):
        # Made whole or not at all, whoever is killed, and by one of many.
        os.symlink(f"{payout.account.holder}={payout.minor}", book / payout.reference)
    return chance >= LOST


def _die_later(passes: int) -> None:
    reach, left = faults.reach, passes

    def later(point: str) -> None:
        nonlocal left
        if point == faults.POINT and left:
            left -= 1
        else:
            reach(point)

    faults.reach = later


def die_at(statement: int, behind: bool) -> None:
    """Die at the statement of that number, if it is above zero. What is last is before COMMIT."""
    left = statement

    def counted(execute: Any, *arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and not behind:
            os.kill(os.getpid(), signal.SIGKILL)
        result = execute(*arguments)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    connection.execute_wrappers.append(counted)


def untransacted() -> None:
    """Draft without a transaction: each statement is committed by itself."""
    payouts.retried = lambda action, using: action()
    ledger.lock = lambda account_ids, using: None


def new_keys() -> None:
    """Ask with another key each time, as if it was another payout."""
    Payout.reference = property(lambda payout: uuid.uuid4().hex)
