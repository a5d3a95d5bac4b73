"""The same journeys, attributed by us and by two other programs: who is faster, and by how much.

All begin with the same touchpoints in Parquet, and have imported what they need. Ours follows
people and divides conversions; for theirs DuckDB makes a table of whole journeys first.
AFFILIATIONS_PEERS names a Python that has them, as that is much; where there is none, nothing is
measured.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import duckdb

from affiliations.attribution import exports

from .attribution import export_of
from .attribution_models import report
from .runner import Fact, Race, progress, spread

TOUCHPOINTS, QUICK_TOUCHPOINTS = 10**6, 3000
SAMPLES, QUICK_SAMPLES = 5, 1
#: What each of them has of what we have.
PEERS = {
    "marketing_attribution_models": (
        "last",
        "first",
        "linear",
        "position_based",
        "time_decay",
        "markov",
    ),
    "ChannelAttribution": ("last", "first", "linear", "markov"),
}
#: ChannelAttribution has people walk at random.
WALKED = "ChannelAttribution", "markov"


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield our time as a part of theirs."""
    python = os.environ.get("AFFILIATIONS_PEERS")
    if not python:
        return
    with TemporaryDirectory(prefix="affiliations-") as directory:
        root = Path(directory) / "export"
        root.mkdir()
        number = QUICK_TOUCHPOINTS if quick else TOUCHPOINTS
        export_of(number, root)
        journeys = Path(directory) / "journeys.parquet"
        write_journeys(root, journeys)
        for peer, models in PEERS.items():
            times = []
            for _ in progress(range(QUICK_SAMPLES if quick else SAMPLES), peer):
                ours = report("ours", root, models)
                begun = perf_counter()
                write_journeys(root, journeys)
                made = perf_counter() - begun
                theirs = ask(python, peer, journeys)
                same(peer, ours["found"], theirs["found"])
                times.append((ours["seconds"], made, theirs["seconds"]))
            mine, made, alone = (median(each) for each in zip(*times, strict=True))
            low, middle, high = spread([each[0] / (each[1] + each[2]) for each in times])
            title = f"{len(models)} models, {number:,} touchpoints, over {peer}"
            taken = f"({mine:.2f} s, journeys {made:.2f} s and {alone:.2f} s)"
            yield Fact(f"{title} {taken}", middle, "×", 1.0, (low, high))
            low, middle, high = spread([each[0] / each[2] for each in times])
            yield Fact(f"{title}, whose journeys are there", middle, "×", None, (low, high))


def write_journeys(root: Path, path: Path) -> None:
    """Write each person's channels, the hours before the last one, and whether they converted."""
    with duckdb.connect() as db:
        db.execute(f"""
            COPY (
                SELECT person, string_agg(channel, ' > ' ORDER BY touched_at, touch) AS path,
                    string_agg(((latest - touched_at) / 3.6e9)::VARCHAR, ' > '
                        ORDER BY touched_at, touch) AS hours,
                    person IN (
                        SELECT person FROM
                        read_parquet('{root}/conversions/*/*.parquet', hive_partitioning = true)
                        JOIN read_parquet('{root / exports.EVERYBODY}') USING (who)
                    ) AS won
                FROM (
                    SELECT person, touch, touched_at, channel,
                        max(touched_at) OVER (PARTITION BY person) AS latest
                    FROM read_parquet('{root}/touchpoints/*/*.parquet', hive_partitioning = true)
                    JOIN read_parquet('{root / exports.EVERYBODY}') USING (who)
                ) GROUP BY person
            ) TO '{path}' (FORMAT parquet)
        """)


def ask(python: str, peer: str, journeys: Path) -> dict[str, Any]:
    """Have a peer attribute the journeys, in a process of its own."""
    script = Path(__file__).with_name("attribution_peers_child.py")
    done = subprocess.run(
        [python, str(script), peer, str(journeys)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    # Alone on the last line: one of them greets whoever imports it.
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def same(peer: str, ours: Any, theirs: Any) -> None:
    """Make sure that both have come to the same figures, where they mean the same."""
    for model in PEERS[peer]:
        for label, value in theirs[model].items():
            walked = (peer, model) == WALKED
            if not walked and not math.isclose(value, ours[model][label][0], rel_tol=1e-9):
                raise RuntimeError(
                    f"{peer}, {model}, {label}: {ours[model][label][0]}, not {value}"
                )
