"""Seven models over an export, against SQL that was written for DuckDB by hand; and how it grows.

Each report is a process of its own, and both are given the same memory. Times are from the call to
the figures, when what is needed has been imported.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from .attribution import MODELS, Found, export_of
from .runner import Fact, Race, progress, spread

SIZES, QUICK_SIZES = (10**5, 10**6, 10**7), (300, 3000)
SAMPLES, QUICK_SAMPLES = 5, 1
#: So that all of the process stays below a gibibyte.
MEMORY, GIBIBYTE = "640MB", 1024.0
AT_MOST, SAME = 1.5, 1e-9


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield the ratio and the memory of the largest, and the growth."""
    sizes = QUICK_SIZES if quick else SIZES
    taken: dict[tuple[str, int], list[float]] = defaultdict(list)
    most: dict[tuple[str, int], float] = defaultdict(float)
    with TemporaryDirectory(prefix="affiliations-") as directory:
        roots = {size: Path(directory) / str(size) for size in sizes}
        for size, root in roots.items():
            root.mkdir()
            export_of(size, root)
        for _ in progress(range(QUICK_SAMPLES if quick else SAMPLES), "rounds"):
            for size, root in roots.items():
                done = {which: report(which, root) for which in ("ours", "plain")}
                same(done["ours"]["found"], done["plain"]["found"])
                for which, each in done.items():
                    taken[which, size].append(each["seconds"])
                    most[which, size] = max(most[which, size], each["mebibytes"])
    for size in sizes:
        ratios = [a / b for a, b in zip(taken["ours", size], taken["plain", size], strict=True)]
        low, middle, high = spread(ratios)
        largest = size == sizes[-1]
        seconds = ", ".join(
            f"{which} {median(taken[which, size]):.2f} s" for which in ("ours", "plain")
        )
        title = f"seven models, {size:,} touchpoints in Parquet, over plain SQL ({seconds})"
        yield Fact(title, middle, "×", AT_MOST if largest else None, (low, high))
    yield Fact(f"memory, {sizes[-1]:,} touchpoints", most["ours", sizes[-1]], "MiB", GIBIBYTE)
    yield Fact(f"memory of plain SQL, {sizes[-1]:,}", most["plain", sizes[-1]], "MiB")
    first, last = sizes[0], sizes[-1]
    grown = median(taken["ours", last]) / median(taken["ours", first])
    allowed = last * math.log(last) / (first * math.log(first))
    yield Fact(f"time, {last:,} touchpoints over {first:,}", grown, "×", allowed)


def report(which: str, root: Path, models: Sequence[str] = MODELS) -> dict[str, Any]:
    """Make a report in a process of its own; plain SQL makes one of all MODELS."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.attribution_child", which, str(root), MEMORY, *models],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def same(ours: Found, plain: Found) -> None:
    """Make sure that both have come to the same figures, and to the same amounts to the unit."""
    for model in MODELS:
        for label, (credit, minor) in plain[model].items():
            its_credit, its_minor = ours[model][label]
            if minor != its_minor or not math.isclose(credit, its_credit, rel_tol=SAME):
                raise RuntimeError(f"{model}, {label}: {ours[model][label]}, not {credit, minor}")
