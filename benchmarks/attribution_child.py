"""Report once in a process of its own, so that its memory can be told: ours, or plain SQL.

python -m benchmarks.attribution_child ours|plain DIRECTORY MEMORY MODEL…
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import django
import duckdb
from django.conf import settings

django.setup()

from affiliations import attribution  # noqa: E402 # wants the apps
from affiliations.attribution import chains, exports, sources  # noqa: E402 # wants the apps

from .attribution import BEGIN, DAYS, LOOKBACK, Found  # noqa: E402

UNTIL = BEGIN + timedelta(days=DAYS)
WEEK = 7 * 86_400_000_000


def ours(root: Path, models: Sequence[str]) -> Found:
    """Return what each channel has earned by each model, as the suite has it."""
    table = attribution.attribute(
        models, since=BEGIN, until=UNTIL, by="channel", lookback=LOOKBACK, source=root
    )
    found: Found = {model: {} for model in models}
    for row in table.to_pylist():
        found[row["model"]][row["label"]] = row["conversions"], row["amount_minor"]
    return found


def plain(root: Path, models: Sequence[str]) -> Found:
    """Return the same, of all models, by SQL that was written by hand, for DuckDB alone."""
    with (
        TemporaryDirectory() as temporary,
        duckdb.connect(
            f"{temporary}/plain.duckdb",
            config={
                "memory_limit": settings.AFFILIATE_ATTRIBUTION_MEMORY,
                "temp_directory": f"{temporary}/spilled",
                "preserve_insertion_order": "false",
            },
        ) as db,
    ):
        return _plain(db, root)


def _plain(db: duckdb.DuckDBPyConnection, root: Path) -> Found:
    back = LOOKBACK // timedelta(microseconds=1)
    db.execute(f"""
        CREATE VIEW touched AS SELECT person, touch, touched_at, channel
        FROM read_parquet('{root}/touchpoints/*/*.parquet', hive_partitioning = true)
        JOIN read_parquet('{root / exports.EVERYBODY}') USING (who)
    """)
    db.execute(f"""
        CREATE TABLE path AS SELECT conversion, amount_minor, touch, channel,
            row_number() OVER w AS position, count(*) OVER (PARTITION BY conversion) AS length,
            max(touched_at) OVER (PARTITION BY conversion) - touched_at AS before_last,
            lag(channel) OVER w AS behind
        FROM (
            SELECT conversion, converted_at, amount_minor, person
            FROM read_parquet('{root}/conversions/*/*.parquet', hive_partitioning = true)
            JOIN read_parquet('{root / exports.EVERYBODY}') USING (who)
        ) c JOIN touched t ON t.person = c.person AND t.touched_at <= c.converted_at
            AND t.touched_at > c.converted_at - {back}
        WINDOW w AS (PARTITION BY conversion ORDER BY touched_at, touch)
    """)
    begin, end = (sources.microseconds(each) for each in (BEGIN, UNTIL))
    steps = db.execute(f"""
        SELECT behind, channel, position = length, true, count(*) FROM path GROUP BY ALL
        UNION ALL
        SELECT behind, channel, ended, false, count(*) FROM (
            SELECT channel, lag(channel) OVER w AS behind, lead(touch) OVER w IS NULL AS ended
            FROM touched WHERE touched_at >= {begin} AND touched_at < {end}
                AND touch NOT IN (SELECT touch FROM path)
            WINDOW w AS (PARTITION BY person ORDER BY touched_at, touch)
        ) GROUP BY ALL
    """).fetchall()
    chain = chains.Chain(
        chains.Step(
            () if behind is None else (behind,),
            channel,
            times,
            times if ended and won else 0,
            times if ended and not won else 0,
        )
        for behind, channel, ended, won, times in steps
    )
    db.execute("CREATE TABLE effect (channel VARCHAR, markov DOUBLE, shapley DOUBLE)")
    removal, values = chains.removal_effects(chain), chains.shapley_values(chain)
    db.executemany(
        "INSERT INTO effect VALUES (?, ?, ?)",
        [(each, removal[each], values[each]) for each in chain.labels],
    )
    weights = {
        "last": "CASE WHEN position = length THEN 1.0 ELSE 0.0 END",
        "first": "CASE WHEN position = 1 THEN 1.0 ELSE 0.0 END",
        "linear": "1.0",
        "position_based": "CASE WHEN length = 1 THEN 1.0 WHEN position IN (1, length) THEN 0.4 "
        "ELSE 0.2 / (length - 2) END",
        "time_decay": f"2.0 ** (-before_last / {WEEK}.0)",
        "markov": "markov",
        "shapley": "shapley",
    }
    weighed = ", ".join(f"CAST({sql} AS DOUBLE) AS w_{name}" for name, sql in weights.items())
    shares = ", ".join(
        f"w_{name} / sum(w_{name}) OVER (PARTITION BY conversion) AS c_{name}" for name in weights
    )
    # To the unit, by the largest remainder, but for what is one touchpoint's anyway.
    divided = [name for name in weights if name not in ("last", "first")]
    parts = ", ".join(f"floor(c_{x} * 1e9 + 0.501)::HUGEINT AS p_{x}" for x in divided)
    alls = ", ".join(f"sum(p_{x}) OVER (PARTITION BY conversion) AS a_{x}" for x in divided)
    quotas = ", ".join(
        f"amount_minor * p_{x} // a_{x} AS q_{x}, amount_minor * p_{x} % a_{x} AS r_{x}"
        for x in divided
    )
    minor = ", ".join(
        f"q_{x} + CASE WHEN row_number() OVER "
        f"(PARTITION BY conversion ORDER BY r_{x} DESC, position) "
        f"<= amount_minor - sum(q_{x}) OVER (PARTITION BY conversion) THEN 1 ELSE 0 END AS m_{x}"
        for x in divided
    )
    sums = ", ".join(
        f"sum(c_{name}), sum({f'm_{name}' if name in divided else f'c_{name} * amount_minor'})"
        for name in weights
    )
    rows = db.execute(f"""
        SELECT channel, {sums} FROM (
        SELECT *, {minor} FROM (
        SELECT *, {quotas} FROM (
        SELECT *, {alls} FROM (
        SELECT *, {parts} FROM (
        SELECT *, {shares} FROM (
        SELECT *, {weighed} FROM path JOIN effect USING (channel)))))))
        GROUP BY channel
    """).fetchall()
    return {
        model: {row[0]: (row[1 + 2 * place], int(row[2 + 2 * place])) for row in rows}
        for place, model in enumerate(weights)
    }


def most() -> float:
    """Return the most memory that this process has had, in MiB."""
    # Not by getrusage, which begins with what the process had that has started this one.
    line = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if line is None:
        raise RuntimeError("/proc/self/status does not say how much memory there was")
    return int(line[1]) / 1024


def main(which: str, directory: str, memory: str, *models: str) -> None:
    """Report, and print how long it took, and the most memory."""
    settings.AFFILIATE_ATTRIBUTION_MEMORY = memory
    begun = perf_counter()
    found = {"ours": ours, "plain": plain}[which](Path(directory), models)
    took = perf_counter() - begun
    print(json.dumps({"seconds": took, "mebibytes": most(), "found": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
