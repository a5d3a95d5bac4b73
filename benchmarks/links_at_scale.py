"""What links and transactions cost where there are millions of them: it should be flat.

The functions themselves are timed, each on rows of its own, which lie anywhere in the tables: the
router's look-up of a path that is not remembered, a click that makes a transaction and one that
refreshes it, acquire, and complete. Two databases of one server take turns, one with a thousandth
of the rows of the other, so that what slows the machine down slows both. The plan of each statement
comes from the database when the statement is run. What counts as a probe is one descent of an
index.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from statistics import median
from textwrap import indent
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.color import no_style
from django.db import DEFAULT_DB_ALIAS, connection, connections, models, transaction
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from affiliations.links import clicks, routing, services
from affiliations.links.models import Link, Transaction
from affiliations.models import Partner

from .runner import Fact, Race, progress, spread

#: Links, and transactions.
Size = tuple[int, int]
SIZES, QUICK_SIZES = ((10**3, 10**4), (10**6, 10**7)), ((20, 200), (40, 400))
WARM_UP, SAMPLES, QUICK_SAMPLES = 20, 300, 2
CHUNK = 500_000
#: How much longer it may take with a thousand times as much: a level or two of an index.
FLAT = 1.5
PROBES = 2
#: What a plan calls the transactions, or one of their indexes.
OF_TRANSACTIONS = rf"{Transaction._meta.db_table}|affiliations_trans_"
#: Of whom none has a link; a planner reads a table that is all but empty as a whole.
PARTNERS = 1000
#: Users' ids begin above those that other benchmarks may have left.
USERS = 1000
LOOK_UP, NEW_CLICK, AGAIN, ACQUIRE, COMPLETE = (
    "router, path not remembered",
    "click, new",
    "click, again",
    "acquire",
    "complete",
)
User = get_user_model()


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield times and plans for each size."""
    if connection.vendor == "mysql":
        yield Fact("links at scale are measured on this database", False)
        return
    few, many = QUICK_SIZES if quick else SIZES
    with two_databases() as (other, own):
        places = {few: other, many: own}
        calls = {}
        for size, place in places.items():
            connections[DEFAULT_DB_ALIAS] = place
            grow(size)
            calls[size] = Calls(*size)
        timed(places, calls, 1 if quick else WARM_UP)
        taken = timed(places, calls, QUICK_SAMPLES if quick else SAMPLES)
    for name in calls[many].of:
        for size in places:
            low, middle, high = spread(taken[size, name])
            at = f"{size[0]:,} links, {size[1]:,} transactions"
            yield Fact(f"{name}, {at}", middle, "µs", None, (low, high))
        ratio = median(taken[many, name]) / median(taken[few, name])
        yield Fact(f"{name}, {many[1] // few[1]:,} times as many", ratio, "×", FLAT)
    for name in calls[many].of:
        yield from probes(calls[many], name, PROBES if name in (ACQUIRE, COMPLETE) else None)
    empty()


@contextmanager
def two_databases() -> Iterator[tuple[Any, Any]]:
    """Make another one like the default, on the same server; yields the connections of both."""
    own = connections[DEFAULT_DB_ALIAS]
    name = own.settings_dict["NAME"]
    other = own.copy()
    other.settings_dict["TEST"]["NAME"] = f"{name}_few"
    connections[DEFAULT_DB_ALIAS] = other
    other.creation.create_test_db(verbosity=0, autoclobber=True)
    # Its settings are those that Django has just told of the other one.
    own.settings_dict["NAME"] = name
    try:
        yield other, own
    finally:
        other.creation.destroy_test_db(name, verbosity=0)
        connections[DEFAULT_DB_ALIAS] = own


class Calls:
    """What is timed; each call takes another row."""

    def __init__(self, links: int, transactions: int) -> None:
        self.links, self.transactions = links, transactions
        self.draw = random.Random(links)
        self.drawn: set[int] = set()
        self.request = RequestFactory().get("/router/")
        self.route = routing.find(Link.objects.get(pk=1).path)
        self.of: dict[str, Callable[[], Callable[[], Any]]] = {
            LOOK_UP: self.look_up,
            NEW_CLICK: self.new_click,
            AGAIN: self.click_again,
            ACQUIRE: self.acquire,
            COMPLETE: self.complete,
        }

    def a_transaction(self, remainder: int) -> Transaction:
        """Return one that was not drawn before; see `fill` for what the remainder of its id is."""
        while True:
            pk = 20 * self.draw.randrange(self.transactions // 20) + remainder
            if pk not in self.drawn and pk:
                self.drawn.add(pk)
                return Transaction.objects.get(pk=pk)

    def look_up(self) -> Callable[[], Any]:
        path = Link.objects.get(pk=self.draw.randint(1, self.links)).path
        routing.forget(path)
        return partial(routing.find, path)

    def new_click(self) -> Callable[[], Any]:
        return self.click(self.route, f"{self.draw.getrandbits(88):022x}")

    def click_again(self) -> Callable[[], Any]:
        again = self.a_transaction(1)
        return self.click(routing.find(again.path), again.ident)

    def click(self, route: Any, ident: str) -> Callable[[], Any]:
        network_id = f"102{self.draw.getrandbits(108):027x}"
        query = [("transaction_id", network_id), ("offer_id", "17"), ("aff_sub2", "newsletter")]
        to = f"{route.landing_page}&aff_sub2=newsletter"
        return partial(
            clicks.record,
            self.request,
            route,
            user=None,
            ident=ident,
            network_id=network_id,
            query=query,
            to=to,
        )

    def acquire(self) -> Callable[[], Any]:
        user = User.objects.get(pk=USERS + self.draw.randint(1, self.links))
        return partial(services.acquire, ident=self.a_transaction(2).ident, user=user)

    def complete(self) -> Callable[[], Any]:
        sold = self.a_transaction(7)
        return partial(services.complete, item_id=sold.item_id, user=sold.user, amount=50)


def timed(
    places: dict[Size, Any], calls: dict[Size, Calls], samples: int
) -> dict[tuple[Size, str], list[float]]:
    """Return the microseconds of each sample, by where and what was called, all in turn."""
    taken: dict[tuple[Size, str], list[float]] = defaultdict(list)
    for _ in progress(range(samples), "few and many"):
        for size, place in places.items():
            connections[DEFAULT_DB_ALIAS] = place
            for name, prepare in calls[size].of.items():
                call = prepare()
                begun = time.perf_counter()
                call()
                taken[size, name].append((time.perf_counter() - begun) * 1e6)
    return taken


def probes(calls: Calls, name: str, at_most: int | None) -> Iterator[Fact]:
    """Yield how often an index is descended to find the rows, with the plans, and to write them."""
    call = calls.of[name]()
    with transaction.atomic():
        with CaptureQueriesContext(connection) as queries:
            call()
        transaction.set_rollback(True)
    made = [each["sql"] for each in queries]
    with transaction.atomic():
        # Each in turn, as the next one finds what it has left.
        plans = {sql: plan(sql) for sql in made if sql.startswith(("SELECT", "INSERT", "UPDATE"))}
        transaction.set_rollback(True)
    reads = sum(descents(text, OF_TRANSACTIONS) for sql, text in plans.items() if sql[0] == "S")
    shown = "\n".join(f"{brief(sql)}\n{indent(text, '    ')}" for sql, text in plans.items())
    yield Fact(f"{name}: index probes to find its transactions", reads, "", at_most, detail=shown)
    yield Fact(f"{name}: index probes in all", sum(map(descents, plans.values())), "")


def brief(sql: str) -> str:
    """Return a statement without its columns, of which there are many."""
    sql = re.sub(r"^SELECT .*? FROM", "SELECT … FROM", sql)
    return re.sub(r"^(INSERT INTO \w+) .* (ON CONFLICT \(\w+\)) .*", r"\1 … \2 …", sql)


def plan(sql: str) -> str:
    """Run a statement, and return the plan by which the database ran it."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {sql}")
            return "\n".join(line for (line,) in cursor)
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        text = "\n".join(row[-1] for row in cursor)
        cursor.execute(sql)
        return text


def descents(plan: str, of: str = "") -> float:
    """Return how often a plan descends an index; without end where it reads a whole table.

    With `of`, a pattern, only indexes and tables that it matches.
    """
    if re.search(r"^SCAN|Seq Scan", plan, re.MULTILINE):
        return math.inf
    lines = [line for line in plan.splitlines() if re.search(of, line)]
    if connection.vendor == "postgresql":
        scan = r"(?:Index|Index Only|Bitmap Index) Scan .*loops=(\d+)"
        loops = [int(found[1]) for line in lines if (found := re.search(scan, line))]
        return sum(loops) + sum("Conflict Arbiter Indexes" in line for line in lines)
    return sum("SEARCH" in line for line in lines)


def grow(size: Size) -> None:
    """Let there be as many links, users and transactions, about as wide as a site's are."""
    links, transactions = size
    Partner.objects.bulk_create(
        Partner(uid=f"P{number:07}", name=f"Partner {number}") for number in range(PARTNERS)
    )
    tables = [model._meta.db_table for model in (Transaction, Link)]
    with ExitStack() as stack:
        for table in tables:
            stack.enter_context(without_indexes(table))
        fill(User, links, of_user())
        fill(Link, links, of_link())
        fill(Transaction, transactions, of_transaction(links))
    with connection.cursor() as cursor:
        for sql in connection.ops.sequence_reset_sql(no_style(), [User, Link, Transaction]):
            cursor.execute(sql)
        if connection.vendor == "postgresql":
            filled = [*tables, User._meta.db_table, Partner._meta.db_table]
            cursor.execute(f"VACUUM ANALYZE {', '.join(filled)}")
            # Or it goes on beside what is timed.
            cursor.execute("CHECKPOINT")
        else:
            cursor.execute("ANALYZE")


@contextmanager
def without_indexes(table: str) -> Iterator[None]:
    """Fill a table without its indexes and foreign keys, which are made again at once."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET maintenance_work_mem = '512MB'")
            cursor.execute(POSTGRESQL_INDEXES, {"table": table})
        else:
            cursor.execute("PRAGMA cache_size = -1000000")
            cursor.execute(
                "SELECT 'DROP INDEX ' || name, sql FROM sqlite_master "
                "WHERE type = 'index' AND tbl_name = %s AND sql IS NOT NULL",
                [table],
            )
        indexes = cursor.fetchall()
        for drop, _ in indexes:
            cursor.execute(drop)
        yield
        for _, make in progress(indexes, f"indexes of {table}"):
            cursor.execute(make)


POSTGRESQL_INDEXES = """
SELECT format('ALTER TABLE %%I DROP CONSTRAINT %%I', %(table)s, conname),
    format('ALTER TABLE %%I ADD CONSTRAINT %%I ', %(table)s, conname) || pg_get_constraintdef(oid)
FROM pg_constraint WHERE conrelid = %(table)s::regclass AND contype IN ('u', 'f')
UNION ALL
SELECT 'DROP INDEX ' || indexrelid::regclass, pg_get_indexdef(indexrelid)
FROM pg_index WHERE indrelid = %(table)s::regclass
AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""


def fill(model: type[models.Model], last: int, columns: dict[str, str]) -> None:
    """Insert rows whose columns are SQL of their number, `n`."""
    table = model._meta.db_table
    starts = range(1, last + 1, CHUNK)
    for start in progress(starts, f"{last:,} rows of {table}"):
        until = min(start + CHUNK - 1, last)
        numbers = (
            f"WITH RECURSIVE numbers(n) AS (SELECT {start} UNION ALL "
            f"SELECT n + 1 FROM numbers WHERE n < {until})"
        )
        if connection.vendor == "mysql":
            # Which recurs a thousand times at most.
            numbers = f"WITH numbers(n) AS (SELECT seq FROM seq_{start}_to_{until})"
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) {numbers} "
                f"SELECT {', '.join(columns.values())} FROM numbers"
            )


def hexadecimal(expression: str, width: int) -> str:
    """Return SQL for a number in hexadecimal digits."""
    if connection.vendor == "postgresql":
        return f"lpad(to_hex({expression}), {width}, '0')"
    return f"printf('%0{width}x', {expression})"


def scattered(expression: str) -> str:
    """Return SQL for another number below 2^32, of its own for each, in no visible order."""
    return f"(({expression}) * 2654435761 & 4294967295)"


def moment(expression: str) -> str:
    """Return SQL for a moment that is so many seconds after another."""
    if connection.vendor == "postgresql":
        return f"to_timestamp(1767225600 + {expression})"
    if connection.vendor == "mysql":
        return f"TIMESTAMPADD(SECOND, {expression}, '2026-01-01')"
    return f"datetime(1767225600 + {expression}, 'unixepoch')"


def of_user() -> dict[str, str]:
    """Return the columns of users."""
    return {
        "id": f"{USERS} + n",
        "username": "'user-' || n",
        "email": "'user-' || n || '@shop.example'",
        "date_joined": moment("n"),
        **dict.fromkeys(("password", "first_name", "last_name"), "''"),
        **dict.fromkeys(("is_superuser", "is_staff"), "FALSE"),
        "is_active": "TRUE",
    }


def of_link() -> dict[str, str]:
    """Return the columns of links, each of an item of its own."""
    return {
        "id": "n",
        "path": hexadecimal(scattered("n"), 8),
        "item_id": "'course-' || n",
        "landing_page": "'https://shop.example/courses/' || n || '?utm_source=anna'",
        **dict.fromkeys(("callback_url", "adds"), "''"),
        "expects": "'success=true'",
        "floor_minor": "0",
        "currency": "'EUR'",
        "active": "TRUE",
        "weight": "1",
        "passes": "'*'",
        "created_on": moment("n"),
    }


def of_transaction(links: int) -> dict[str, str]:
    """Return the columns of transactions: of ten, seven are browsers', and three one user's.

    Of twenty the last three are closed: two fulfilled, one completed. Their links are any.
    """
    link = f"(1 + {scattered('n')} % {links})"
    user = f"({USERS} + 1 + n / 10)"
    browser = f"{hexadecimal(scattered('n'), 8)} || {hexadecimal('n', 14)}"
    ident = f"CASE WHEN n % 10 = 9 THEN '' ELSE {browser} END"
    whose = f"CASE WHEN n % 10 < 7 THEN {ident} ELSE 'u' || {user} END"
    network_id = f"'102' || {hexadecimal(scattered('n'), 27)}"
    query = (
        f'\'{{"transaction_id": "\' || {network_id} || \'", "offer_id": "17", '
        '"aff_id": "1042", "aff_sub2": "newsletter", "utm_campaign": "spring sale"}\''
    )
    json_type = "jsonb" if connection.vendor == "postgresql" else "text"
    closed = "n % 20 > 16"
    completed = "n % 20 = 19"
    return {
        "id": "n",
        "link_id": link,
        "path": hexadecimal(scattered(link), 8),
        "item_id": f"'course-' || {link}",
        "ident": ident,
        "user_id": f"CASE WHEN n % 10 > 6 THEN {user} END",
        "state": f"CASE WHEN NOT {closed} THEN 'open' WHEN {completed} THEN 'completed' "
        "ELSE 'fulfilled' END",
        "open_key": f"CASE WHEN NOT {closed} THEN {link} || ':' || {whose} END",
        "clicks": "1",
        **dict.fromkeys(("created_on", "clicked_on"), moment("n")),
        "fulfilled_on": f"CASE WHEN {closed} THEN {moment('n + 3600')} END",
        "completed_on": f"CASE WHEN {completed} THEN {moment('n + 3600')} END",
        "network_id": network_id,
        "query": f"CAST({query} AS {json_type})",
        "landing_page": f"'https://shop.example/courses/' || {link} || "
        "'?utm_source=anna&aff_sub2=newsletter&utm_campaign=spring+sale'",
        "amount_minor": f"CASE WHEN {completed} THEN 4900 END",
        "currency": f"CASE WHEN {completed} THEN 'EUR' ELSE '' END",
        "order_id": f"CASE WHEN {completed} THEN 'A-' || n ELSE '' END",
        "callback_url": "''",
        "given": f"CAST('{{}}' AS {json_type})",
        "order_key": f"CASE WHEN {completed} THEN {hexadecimal(scattered('n'), 64)} END",
        "alert_due": "FALSE",
    }


def empty() -> None:
    """Leave nothing behind."""
    tables = [model._meta.db_table for model in (User, Link, Partner)]
    connection.ops.execute_sql_flush(
        connection.ops.sql_flush(no_style(), tables, allow_cascade=True)
    )
