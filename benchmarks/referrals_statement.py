"""What a statement costs of a member who has brought a hundred thousand.

Two members' statements are asked for over the REST API in turn: one has brought a thousand, the
other a hundred times as many. For each whom they brought there is an indication and a credit with
its entry in the ledger. BENCHMARKS_BROUGHT in the environment says how many instead.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from statistics import median

from django.core.management.color import no_style
from django.db import connection
from django.db.models import Min
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from affiliations.models import ApiKey
from affiliations.referrals import services
from affiliations.referrals.models import Member, Operation, Program
from affiliations.rewards import ledger
from affiliations.rewards.models import Entry

from .links_at_scale import fill, moment
from .rewards import empty, entries, settle
from .runner import Fact, Race, progress, spread

FEW, QUICK_FEW = 1000, 10
MANY, QUICK_MANY = int(os.environ.get("BENCHMARKS_BROUGHT", "100000")), 100
SAMPLES, QUICK_SAMPLES = 30, 2
QUERIES = 5
REWARD = 2000


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield the queries of a statement and its time, for each size."""
    if connection.vendor == "mysql" or not find_spec("ninja"):
        yield Fact("statements at scale are measured here, and on this database", False)
        return
    sizes = (QUICK_FEW, QUICK_MANY) if quick else (FEW, MANY)
    program = Program.objects.create(name="Friends", currency="EUR", target_minor=10_000)
    members = {size: bring(program, size) for size in sizes}
    settle(Member, Operation)
    token = ApiKey.objects.issue(name="a program", scopes=["referrals:read"])[1]
    calls = {size: asking(member, token, size) for size, member in members.items()}
    taken = defaultdict(list)
    for _ in progress(range(QUICK_SAMPLES if quick else SAMPLES), "statements"):
        for size, call in calls.items():
            begun = time.perf_counter()
            call()
            taken[size].append((time.perf_counter() - begun) * 1000)
    for size, call in calls.items():
        with CaptureQueriesContext(connection) as made:
            call()
        title = f"statement of {size:,} indications"
        yield Fact(f"{title}: queries of the request", len(made), "", QUERIES)
        low, middle, high = spread(taken[size])
        yield Fact(title, middle, "ms", None, (low, high))
    few, many = sizes
    ratio = median(taken[many]) / median(taken[few])
    yield Fact(f"statement, {many:,} indications over {few:,}", ratio, "×")
    forget()


def asking(member: Member, token: str, size: int) -> Callable[[], None]:
    """Return what asks for a member's statement, and looks whether all of it is in the sums."""
    client = Client(headers={"authorization": f"Bearer {token}"})
    path = reverse("affiliations_referrals_api:statement", args=[member.user_hash])

    def call() -> None:
        told = client.get(path).json()
        if told["potencial_credit"] != size * REWARD / 100:
            raise RuntimeError(f"{told['potencial_credit']} is not what {size} have brought")

    return call


def bring(program: Program, number: int) -> Member:
    """Return a new member who has brought as many, all of whom have yet to pay."""
    member = services.register(f"indicator-{number}", program=program)
    before = Member.objects.count()
    # Each has a hash, and a code, of its own.
    name = f"'brought-{number}-' || n"
    fill(
        Member,
        number,
        {
            "user_hash": name,
            "code": name,
            "program_id": f"{program.pk}",
            "indicator_id": f"{member.pk}",
            "currency": "'EUR'",
            "registered_on": moment("n"),
            "reward_minor": f"{REWARD}",
            "target_minor": "10000",
            "depth": "1",
            **dict.fromkeys(("credit_minor", "paid_minor", "turn"), "0"),
        },
    )
    if Member.objects.count() != before + number:
        raise RuntimeError("not all were brought")
    account = ledger.account_of(member.holder, "EUR")
    entries(number, f"{account.pk}", f"{REWARD}")
    about = Member.objects.filter(indicator=member).aggregate(first=Min("pk"))["first"]
    entry = Entry.objects.filter(account=account).aggregate(first=Min("pk"))["first"]
    for kind, its_entry in (("INDICATION", "NULL"), ("POTENTIAL_CREDIT", f"{entry} + n - 1")):
        columns = {
            "member_id": f"{member.pk}",
            "about_id": f"{about} + n - 1",
            "kind": f"'{Operation.Kind[kind]}'",
            "entry_id": its_entry,
            "created_on": moment("n"),
        }
        fill(Operation, number, columns)
    return member


def forget() -> None:
    """Leave nothing behind."""
    tables = [model._meta.db_table for model in (Operation, Member, Program, ApiKey)]
    sql = connection.ops.sql_flush(no_style(), tables, allow_cascade=True)
    connection.ops.execute_sql_flush(sql)
    empty()
