"""The benchmarks run, count rightly, and judge by what they measured; never how fast it was."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import NAMES, report, runner
from benchmarks.redis import is_there
from benchmarks.runner import Fact, Race, Row, Variant

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]


def run(*arguments):
    environ = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


class Clock:
    """Nanoseconds that pass only when somebody lets them."""

    now = 0

    def __call__(self):
        return self.now

    def taking(self, *nanoseconds):
        """Return a call that takes one time after the other, round and round."""
        rest = []

        def call():
            rest.extend(() if rest else nanoseconds)
            self.now += rest.pop(0)

        return call


def judged(race, rounds=3, clock=None):
    """Return the rows of a race by the variants' names."""
    found = runner.rows([race], rounds, quick=True, clock=clock)
    return {row.variant: row for row in found}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="module")
def document():
    """What `--json` says of all benchmarks, run one after the other."""
    done = run(*NAMES, "--quick", "--json")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return json.loads(done.stdout)


def test_one_document_tells_where_and_how_all_benchmarks_ran(document):
    assert document["environment"].keys() == {"date", "python", "django", "database", "cores"}
    assert (document["rounds"], document["quick"]) == (runner.QUICK_ROUNDS, True)
    assert tuple(each["name"] for each in document["benchmarks"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_and_makes_the_queries_that_are_promised(document, name):
    rows = document["benchmarks"][NAMES.index(name)]["rows"]

    for row in rows:
        assert row.keys() == Row("").as_json().keys()
        assert row["verdict"] in (("reached", "missed") if row["at_most"] is not None else ("",))
        if row["variant"]:
            assert sorted(row["times"]) == row["times"]
            assert row["times"][0] > 0
    counted = [row for row in rows if row["unit"] == "queries" or isinstance(row["measured"], bool)]
    assert {row["title"]: row["measured"] for row in counted} == EXACT.get(name, {})
    assert all(row["verdict"] != "missed" for row in counted)
    if rows or name not in NEEDING:
        assert any(row["verdict"] for row in rows) or list(EXACT[name].values()) == [False]


#: What is measured only where something else is there.
NEEDING = ("attribution_peers",)
#: What is counted, and so the same in each run on SQLite.
EXACT = {
    "untouched": {
        f"untouched request, {case}: {what}": 0
        for what in ("queries", "session read", "Vary added")
        for case in ("no session cookie", "session cookie")
    },
    "referred": {
        "referred request, database sessions: queries": 5,
        "referred request, signed-cookie sessions: queries": 1,
    },
    "trigger": {
        "save that concerns no partner, no session: queries added": 0,
        "save that concerns no partner, logged in, user known: queries added": 0,
        "save that concerns no partner, session not read before: queries added": 1,
    },
    "conversion": {"save that converts: queries added, savepoints aside": 5},
    "rewards_posting": {"commission posted with its conversion: queries added": 3},
    "tracking_customer": {
        f"customer of 4,000 hits, show_{each}: queries": made
        for each, made in {
            "pageviews": 4,
            "touchpoints": 4,
            "events": 4,
            "identities": 3,
            "all": 6,
        }.items()
    },
    "experiments": {"campaigns endpoint, 20 campaigns: queries": 0},
    "experiments_results": {},
    "tracking_collect": {
        f"beacon of a page, {each}: queries": 1
        for each in ("bare INSERT by the ORM", "bare INSERT by SQL", "collected, database")
    },
    "tracking_stream": {
        **(
            {"beacon of a page, collected, Redis: queries": 0}
            if is_there()
            else {"hits through Redis are measured: it is there": False}
        ),
        **(
            {"hits over HTTP are measured: gunicorn is installed": False}
            if is_there() and find_spec("gunicorn") is None
            else {}
        ),
    },
    "clicks": {
        "click not recorded: queries": 0,
        "click of a new browser: queries": 1,
        "click of a browser that returns: queries": 1,
        "click of a new browser, partner's link: queries": 9,
        # What cannot be measured here is said.
        **{
            f"clicks {how} are measured: {package} is installed": False
            for how, package in (("over HTTP", "gunicorn"), ("of a peer", "pinax"))
            if find_spec(package) is None
        },
    },
}


def test_a_table_and_the_rows_of_the_readme_say_what_was_measured_where():
    table = run("conversion", "--quick", "--rounds", "1")
    rows = run("conversion", "--quick", "--rounds", "1", "--markdown")

    assert (table.returncode, rows.returncode) == (0, 0), table.stderr + rows.stderr
    for text in (table.stdout, rows.stdout):
        assert text.startswith(f"Python {sys.version.split()[0]}, Django ")
        assert " UTC\n" in text
    (title,) = EXACT["conversion"]
    assert f"\n| {title} | 5 | ≤ 5 | reached |\n" in rows.stdout
    assert re.search(rf"\n{title} +5 +≤ 5 +reached\n", table.stdout)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["speed"], "'speed' is none of untouched, "),
        (["--rounds", "0"], "'0' is no number above zero"),
        (["--json", "--markdown"], "not allowed with argument --json"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments, complaint):
    done = run(*arguments)

    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_the_median_of_the_rounds_is_reported_with_its_quartiles(clock):
    race = Race(
        "a race",
        [
            Variant("base", clock.taking(2_000_000)),
            # The first is the warm-up's.
            Variant("twice", clock.taking(0, 2_000_000, 4_000_000, 6_000_000), "base"),
            Variant("slower", clock.taking(0, 3_000_000, 4_000_000, 9_000_000), "base", "µs"),
        ],
        max_calls=1,
    )

    rows = judged(race, clock=clock)

    assert rows["base"].times == (2000, 2000, 2000)
    assert rows["base"].measured is None
    assert rows["twice"].times == (3000, 4000, 5000)
    assert (rows["twice"].measured, rows["twice"].quartiles) == (2.0, (1.5, 2.5))
    assert (rows["slower"].measured, rows["slower"].quartiles) == (2000, (1500, 4500))


def test_a_variant_is_compared_with_its_baseline_of_the_same_round(clock):
    """A machine that slows down tenfold from one round to the next changes no ratio."""
    base = clock.taking(0, 1_000_000, 10_000_000, 100_000_000)
    ours = clock.taking(0, 1_100_000, 11_000_000, 110_000_000)

    rows = judged(
        Race("", [Variant("base", base), Variant("ours", ours, "base")], max_calls=1), clock=clock
    )

    assert rows["ours"].quartiles == pytest.approx((1.1, 1.1))


def test_the_variants_of_a_round_take_turns_in_changing_order(clock):
    calls = []

    def variant(name):
        tick = clock.taking(1_000_000)
        return Variant(name, lambda: (calls.append(name), tick()))

    runner.time_rounds(Race("", [variant("a"), variant("b")]), 8, 1_000_000, clock)

    rounds = list(zip(calls[2::2], calls[3::2], strict=True))
    assert len(rounds) == 8
    assert set(rounds) == {("a", "b"), ("b", "a")}


def test_a_batch_is_as_long_as_the_slowest_variant_allows(clock):
    batches = []
    race = Race(
        "",
        [Variant("fast", clock.taking(10_000)), Variant("slow", clock.taking(100_000))],
        prepare=batches.append,
    )

    taken = runner.time_rounds(race, 4, 1_000_000, clock)

    assert batches[-8:] == [10] * 8
    assert taken == {"fast": [10] * 4, "slow": [100] * 4}


def test_what_is_prepared_is_not_timed_and_comes_before_each_batch(clock):
    calls = []
    tick = clock.taking(1_000_000)
    race = Race(
        "",
        [Variant("a", lambda: (calls.append("call"), tick()))],
        prepare=lambda count: (calls.append("prepare"), clock.taking(5_000_000)()),
    )

    assert runner.time_rounds(race, 3, 1_000_000, clock) == {"a": [1000] * 3}
    assert all(pair == ("prepare", "call") for pair in zip(calls[::2], calls[1::2], strict=True))


def test_an_async_variant_is_awaited_call_by_call(clock):
    sync = clock.taking(1_000_000)

    async def call():
        sync()

    assert runner.time_rounds(Race("", [Variant("a", call)]), 3, 1_000_000, clock) == {
        "a": [1000] * 3
    }


@pytest.mark.parametrize(
    ("measured", "at_most", "verdict"),
    [
        (5, 5, "reached"),
        (6, 5, "missed"),
        (1.151, 1.15, "missed"),
        (0, 0, "reached"),
        (1, 0, "missed"),
        (False, False, "reached"),
        (True, False, "missed"),
        (float("nan"), 1, "missed"),
        (7, None, ""),
    ],
)
def test_a_figure_is_reached_or_missed(measured, at_most, verdict):
    (row,) = runner.rows([Fact("a fact", measured, at_most=at_most)], 3, quick=True)

    assert row.verdict == verdict
    assert verdict in report.table("facts", [row]).splitlines()[-1]


def test_a_race_that_misses_its_figure_says_so(clock):
    base, ours = clock.taking(1_000_000), clock.taking(1_200_000)

    def rows(at_most):
        variants = [Variant("base", base), Variant("ours", ours, "base", "×", at_most)]
        return judged(Race("a race", variants), clock=clock)

    assert rows(1.15)["ours"].verdict == "missed"
    assert rows(1.2)["ours"].verdict == "reached"
    assert rows(1.15)["base"].verdict == ""
    missed = list(rows(1.15).values())
    assert report.markdown(missed) == (
        "| a race: ours over base | 1.20× (1.20 … 1.20) | ≤ 1.15× | missed |"
    )
    assert report.table("races", missed).endswith("missed")
