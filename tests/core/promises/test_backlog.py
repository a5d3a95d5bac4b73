"""To take the next callback costs as much among a million that wait as among a few.

The short form reads the plans; the long one takes the time, with eight that claim at once.
"""

import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from statistics import quantiles

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from affiliations import claims, outbox
from affiliations.models import Callback, CallbackAttempt, Destination
from tests.core.factories import make_partner
from tests.core.test_delivery import url_of_the_test_database

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).parents[3]
INDEX = "affiliations_callback_next"
TABLE = "affiliations_callback"


def fill(number, hosts=50):
    """Write so many callbacks that are due, and half as many that were delivered."""
    partner = make_partner()
    now = timezone.now()
    names = [f"host-{each}.example" for each in range(hosts)]
    outbox.know(names, "default")
    Callback.objects.bulk_create(
        (
            Callback(
                partner=partner,
                url=f"http://{names[each % hosts]}/x",
                host=names[each % hosts],
                state="pending" if each < number else "delivered",
                due=now - timedelta(seconds=number - each) if each < number else None,
            )
            for each in range(number + number // 2)
        ),
        batch_size=1000,
    )
    analyze()


def analyze():
    """Let the database know what the tables hold, as it finds out itself sooner or later."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE")
        elif connection.vendor == "mysql":
            for model in (Callback, Destination):
                cursor.execute(f"ANALYZE TABLE {model._meta.db_table}")
                cursor.fetchall()


# Plans


def statements(limit=1):
    """Return what a claim asks the database."""
    with CaptureQueriesContext(connection) as asked:
        taken = claims.Claimer().claim(limit)
    assert len(taken) == limit
    return [each["sql"].strip() for each in asked.captured_queries]


def plan(sql):
    """Return how the database goes about a statement, a line for each table that it reads."""
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with connection.cursor() as cursor:
        cursor.execute(explain + sql.replace("%", "%%"), [])
        rows = cursor.fetchall()
        names = [each[0] for each in cursor.description]
    if connection.vendor == "mysql":
        rows = [dict(zip(names, row, strict=True)) for row in rows]
        return [f"{row['type']} on {row['table']} using {row['key']}" for row in rows]
    return [str(row[-1]) for row in rows]


def goes_through_all(line):
    """Tell whether a line of a plan means that all callbacks are read, not those that are next."""
    match connection.vendor:
        case "postgresql":
            return re.search(rf"Seq Scan on {TABLE}\b", line)
        case "sqlite":
            return re.search(rf"SCAN (?:{TABLE}|[cl])\b", line)
        case _:
            return re.search(rf"^(?:ALL|index) on (?:{TABLE}|[cl])\b", line)


def findings(limit=1):
    """Return what is wrong with the plans of a claim."""
    found = []
    picks = 0
    for sql in statements(limit):
        if TABLE not in sql or not sql.startswith(("SELECT", "(SELECT", "UPDATE")):
            continue
        lines = plan(sql)
        found += [line for line in lines if goes_through_all(line)]
        if "ORDER BY" in sql and "LIMIT" in sql and f"FROM {TABLE} c" in sql:
            picks += 1
            if not any(INDEX in line for line in lines):
                found.append(f"without the index: {lines}")
    assert picks, "the statement that picks was not seen"
    return found


@pytest.mark.parametrize("limit", [1, 16])
def test_a_claim_goes_by_the_index(limit):
    fill(5_000)
    assert findings(limit) == []


def test_teeth_without_the_index():
    fill(5_000)
    [index] = [each for each in Callback._meta.indexes if each.name == INDEX]
    with connection.schema_editor() as editor:
        editor.remove_index(Callback, index)
    try:
        assert findings()
    finally:
        Callback.objects.all().delete()
        with connection.schema_editor() as editor:
            editor.add_index(Callback, index)


@pytest.mark.parametrize("limit", [1, 8])
def test_a_claim_takes_the_same_queries_however_many_wait(limit):
    fill(40, hosts=20)
    few = len(statements(limit))
    # Begin and commit; hosts with work; their locks; what is in flight; theirs; back. And the next
    # ones, where the database takes no union for each host.
    assert few <= 9 + limit
    fill(4_000, hosts=200)
    assert len(statements(limit)) == few


# Times

CLAIMERS, CLAIMS = 8, 80
#: Seconds between two claims of a claimer, on the average: what a partner takes to answer.
PAUSE = 0.2
#: What one claimer does: it says how long each claim took, and what is claimed is then delivered.
CLAIMER = """
import json, random, sys, time
import django
django.setup()
from django.utils import timezone
from affiliations import claims, egress, outbox, outcomes
from affiliations.models import CallbackAttempt

claimer = claims.Claimer()

def claim(pause=0.0):
    time.sleep(random.uniform(0.5, 1.5) * pause)
    started = time.perf_counter()
    taken = claimer.claim()
    took = time.perf_counter() - started
    for each in taken:
        facts = {"number": each.attempts, "started_on": timezone.now(), "duration_ms": 1}
        made = CallbackAttempt(callback=each, status=200, **facts)
        outcomes.settle([outcomes.Result(each, made, egress.Answer(200, ""))])
    return took if taken else None

for _ in range(20):
    claim()
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps([claim(float(sys.argv[2])) for _ in range(int(sys.argv[1]))]))
"""


def fill_at_once(number, hosts):
    """Write callbacks as only PostgreSQL can, in seconds."""
    partner = make_partner()
    outbox.know([f"host-{each}.example" for each in range(hosts)], "default")
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO {TABLE} (webhook_id, partner_id, method, url, host, body, expects, state,
                due, attempts, attempts_before, reason, created_on)
            SELECT 'msg_' || n, %s, 'GET', 'http://host-' || n %% %s || '.example/x?v=' || n,
                'host-' || n %% %s || '.example', '', '', 'pending',
                now() - interval '1 hour' + n * interval '1 millisecond', 0, 0, '', now()
            FROM generate_series(1, %s) AS n
            """,
            [partner.pk, hosts, hosts, number],
        )
    with connection.cursor() as cursor:
        # As it does by itself; it is not to do so in the middle.
        cursor.execute(f"VACUUM ANALYZE {TABLE}")
    analyze()


def claim_times(pause):
    """Let all claimers claim at once; return how long each claim took, in ms, and in all in s."""
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.projects.base",
        "DATABASE_URL": url_of_the_test_database(),
    }
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, str(CLAIMS), str(pause)],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(CLAIMERS)
    ]
    try:
        for each in claimers:
            assert each.stdout.readline() == "ready\n"
        started = timezone.now()
        for each in claimers:
            each.stdin.write("go\n")
            each.stdin.flush()
        answers = [json.loads(each.communicate(timeout=600)[0]) for each in claimers]
    finally:
        for each in claimers:
            each.kill()
            each.communicate()
    seconds = (timezone.now() - started).total_seconds()
    times = [took * 1000 for answer in answers for took in answer if took is not None]
    assert len(times) > 0.99 * CLAIMERS * CLAIMS
    return times, seconds


@pytest.mark.long
@pytest.mark.skipif(connection.vendor != "postgresql", reason="the figures are PostgreSQL's")
@pytest.mark.timeout(0)
def test_a_claim_among_a_million(capsys):
    """Eight claimers, each with a partner to wait for between two claims.

    How long it takes where they claim without a pause is told as well, and not asserted: they then
    wait for the processors, which are fewer.
    """
    medians = {}
    for number in (10_000, 100_000, 1_000_000):
        Callback.objects.all()._raw_delete("default")
        fill_at_once(number, 200)
        for pause in (0.0, PAUSE):
            times, seconds = claim_times(pause)
            percent = quantiles(times, n=100)
            with capsys.disabled():
                sys.stdout.write(
                    f"\n{number:,} wait, {CLAIMERS} claim{', with pauses' if pause else ''}: "
                    f"p50 {percent[49]:.1f} ms, p99 {percent[98]:.1f} ms, max {max(times):.0f} ms, "
                    f"{len(times) / seconds:.0f} claims a second"
                )
        medians[number] = percent[49]
        CallbackAttempt.objects.all()._raw_delete("default")
    assert findings() == []
    assert medians[1_000_000] <= 2 * medians[10_000]
    assert percent[49] <= 10
    assert percent[98] <= 50
