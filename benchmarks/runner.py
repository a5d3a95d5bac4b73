"""Time variants against one another in interleaved rounds, and judge what came of it.

A shared machine's speed drifts by more than what is to be measured, so a variant is compared only
with what its baseline took in the same round, and the medians over the rounds are reported.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from inspect import iscoroutinefunction
from itertools import repeat
from statistics import median, quantiles
from time import perf_counter_ns
from typing import Any, TypeVar

T = TypeVar("T")
Clock = Callable[[], int]

ROUNDS, QUICK_ROUNDS = 100, 3
#: Nanoseconds that a batch of calls is meant to take.
BATCH, QUICK_BATCH = 15_000_000, 500_000
MAX_CALLS = 100_000


@dataclass(frozen=True)
class Variant:
    """One way to do something.

    With a `baseline`, the name of another variant of the race, its time is set against that one's:
    as `"×"`, a ratio, or as `"µs"` that it takes longer. `at_most` is the figure to reach, if any.
    A call that is a coroutine function is awaited; a race's variants are all of one kind.
    """

    name: str
    call: Callable[[], Any]
    baseline: str = ""
    unit: str = "×"
    at_most: float | None = None


@dataclass(frozen=True)
class Race:
    """Variants to compare; `prepare` is given the number of calls before each batch, untimed.

    One whose calls take long says by `max_rounds` how many rounds are enough.
    """

    title: str
    variants: Sequence[Variant]
    prepare: Callable[[int], Any] = lambda calls: None
    max_calls: int = MAX_CALLS
    max_rounds: int | None = None


@dataclass(frozen=True)
class Fact:
    """Something counted or timed by the benchmark itself; `detail` is text that shows it."""

    title: str
    measured: float | bool
    unit: str = ""
    at_most: float | bool | None = None
    quartiles: tuple[float, float] | None = None
    detail: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the report; `times` are the microseconds that one call took, by their quartiles."""

    title: str
    variant: str = ""
    baseline: str = ""
    times: tuple[float, float, float] | None = None
    measured: float | bool | None = None
    quartiles: tuple[float, float] | None = None
    unit: str = ""
    at_most: float | bool | None = None
    detail: str = ""
    verdict: str = field(default="", init=False)

    def __post_init__(self) -> None:
        if self.at_most is not None and self.measured is not None:
            reached = self.measured <= self.at_most
            object.__setattr__(self, "verdict", "reached" if reached else "missed")

    def as_json(self) -> dict[str, Any]:
        """Return the row as the JSON document has it."""
        return asdict(self)


def rows(
    found: Iterable[Race | Fact], rounds: int, quick: bool, clock: Clock = perf_counter_ns
) -> Iterator[Row]:
    """Run what a benchmark yields, one after the other; what it set up stays until it goes on."""
    batch = QUICK_BATCH if quick else BATCH
    for each in found:
        if isinstance(each, Race):
            yield from judge(each, time_rounds(each, rounds, batch, clock))
        else:
            yield Row(**vars(each))


def time_rounds(race: Race, rounds: int, batch: int, clock: Clock) -> dict[str, list[float]]:
    """Return the microseconds a call took, by variant, one figure for each round."""
    taken: dict[str, list[float]] = {variant.name: [] for variant in race.variants}
    order = list(race.variants)
    # Always the same order of the rounds; it only must not be the same in each of them.
    shuffle = random.Random(0).shuffle
    with asyncio.Runner() as loop:

        def run(variant: Variant, calls: int) -> int:
            race.prepare(calls)
            gc.disable()
            try:
                if iscoroutinefunction(variant.call):
                    return loop.run(atime(variant.call, calls, clock))
                return time(variant.call, calls, clock)
            finally:
                gc.enable()

        calls = warm_up(race, batch, run)
        for _ in progress(range(min(rounds, race.max_rounds or rounds)), race.title):
            shuffle(order)
            gc.collect()
            for variant in order:
                taken[variant.name].append(run(variant, calls) / calls / 1000)
    return taken


def warm_up(race: Race, batch: int, run: Callable[[Variant, int], int]) -> int:
    """Call each variant a few times; return how many calls of the slowest fill a batch."""
    slowest = 0
    for variant in race.variants:
        calls = 1
        while True:
            taken = run(variant, calls)
            if taken * 4 >= batch or calls >= race.max_calls:
                slowest = max(slowest, taken // calls)
                break
            calls = min(calls * 4, race.max_calls)
    return max(1, min(batch // max(slowest, 1), race.max_calls))


def time(call: Callable[[], Any], calls: int, clock: Clock) -> int:
    """Return the nanoseconds of a batch of calls."""
    start = clock()
    for _ in repeat(None, calls):
        call()
    return clock() - start


async def atime(call: Callable[[], Any], calls: int, clock: Clock) -> int:
    """Return the nanoseconds of a batch of calls, one awaited after the other."""
    start = clock()
    for _ in repeat(None, calls):
        await call()
    return clock() - start


def judge(race: Race, taken: dict[str, list[float]]) -> Iterator[Row]:
    """Compare each variant with its baseline, round by round."""
    for variant in race.variants:
        times = spread(taken[variant.name])
        row: dict[str, Any] = {"title": race.title, "variant": variant.name, "times": times}
        if variant.baseline:
            pairs = zip(taken[variant.name], taken[variant.baseline], strict=True)
            ratio = variant.unit == "×"
            low, middle, high = spread([a / b if ratio else a - b for a, b in pairs])
            row |= {
                "baseline": variant.baseline,
                "measured": middle,
                "quartiles": (low, high),
                "unit": variant.unit,
                "at_most": variant.at_most,
            }
        yield Row(**row)


def spread(figures: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    if len(figures) == 1:
        return (figures[0],) * 3
    low, _, high = quantiles(figures, n=4, method="inclusive")
    return low, median(figures), high


def progress(steps: Sequence[T], title: str) -> Iterator[T]:
    """Go through the steps; after a second, show how far on a terminal."""
    begun = perf_counter_ns()
    shown = False
    for position, step in enumerate(steps):
        if sys.stderr.isatty() and (shown or perf_counter_ns() - begun > 1_000_000_000):
            shown = True
            done = 24 * position // len(steps)
            bar = "█" * done + "·" * (24 - done)
            sys.stderr.write(f"\r\033[K{bar} {position}/{len(steps)} {title[:60]}")
            sys.stderr.flush()
        yield step
    if shown:
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()
