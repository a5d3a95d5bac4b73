"""Write the history of touchpoints and conversions as Parquet, a file a day, and read it.

    export("/srv/touchpoints")
    attribute(model="linear", since=first, until=last, source="/srv/touchpoints")

A day is written anew as a whole, and appears at once or not at all. In the files people are
numbers; who is one person with whom is in a file of its own, made anew each time, for that turns
out later, and whoever was erased since is not in it any more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import ibis
from django.conf import settings as django_settings
from django.db import models, router
from django.utils import timezone

from ..models import Conversion, Reversal, Visitor
from . import journeys, sources
from .engines import DuckDB, Spark
from .exceptions import InvalidReport, UnreadableExport
from .sources import CONVERSIONS, PEOPLE, TOUCHPOINTS

__all__ = ["Exported", "export", "read"]

#: Of the files; a reader refuses others.
VERSION = 1
ABOUT, EVERYBODY = "export.json", "people.parquet"
DAY = timedelta(days=1)
#: Days before the last export that are written again: of what was told late.
LATE = 2
#: Days that are read at once: what is asked of the database takes a while to put into words.
AT_ONCE = 7
#: Until which a landing may follow a visit.
AROUND = timedelta(microseconds=journeys.LANDING)

Progress = Callable[[int, int], Any]


class Exported(NamedTuple):
    """What was written: from the first of these days to the last, and how much it is."""

    first: date
    last: date
    touchpoints: int
    conversions: int
    people: int


def export(
    directory: str | os.PathLike[str],
    *,
    since: date | None = None,
    late: int = LATE,
    progress: Progress | None = None,
) -> Exported | None:
    """Write the days that are not there yet, until today, and return what was written.

    Days are those of UTC. Written again are today, the `late` days before the last export, and the
    days whose conversions were taken back since; or all `since` a day. None where there is nothing
    at all. `progress` is told how many of how many days are written. Raises InvalidReport where
    `since` would leave out days, UnreadableExport where the directory holds another version, and
    OSError.
    """
    root = Path(directory)
    now = timezone.now()
    today = _day(now)
    before = about(root)
    first = since or _begin(before, late)
    if first is None:
        return None
    if first > today:
        raise InvalidReport(f"since: must not be after today, {today}")
    if before is not None and first > _day(before.until):
        raise InvalidReport(f"since: would leave out days from {_day(before.until)} on")
    root.mkdir(parents=True, exist_ok=True)
    days = [first + n * DAY for n in range((today - first).days + 1)]
    touchpoints = conversions = 0
    with DuckDB() as engine:
        for begin in range(0, len(days), AT_ONCE):
            if progress is not None:
                progress(begin, len(days))
            some = days[begin : begin + AT_ONCE]
            touchpoints += _touchpoints_of(engine, root, some)
            conversions += _conversions_of(engine, root, some)
        for day in _changed(before, first):
            conversions += _conversions_of(engine, root, [day])
        everybody = _people(engine, root)
    begins = first if before is None else min(first, before.first)
    is_whole = since is None if before is None else before.is_whole
    told = {
        "version": VERSION,
        "first": begins.isoformat(),
        "is_whole": is_whole,
        "exported_on": sources.microseconds(now),
    }
    _replace(root / ABOUT, json.dumps(told))
    return Exported(first, today, touchpoints, conversions, everybody)


class About(NamedTuple):
    """What an export holds: from a day on, whether nothing was before, and until a moment."""

    first: date
    is_whole: bool
    until: datetime


def about(root: Path) -> About | None:
    """Return what an export holds, None where there is none.

    Raises UnreadableExport where it is another version's, or may not be read.
    """
    try:
        told = json.loads((root / ABOUT).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnreadableExport(f"{root}: {error.strerror}") from error
    except ValueError as error:
        raise UnreadableExport(f"{root}: {ABOUT} is no JSON") from error
    try:
        version = told["version"]
        found = About(
            date.fromisoformat(told["first"]),
            bool(told["is_whole"]),
            sources.moment(told["exported_on"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableExport(f"{root}: {ABOUT} does not say what there is") from error
    if version != VERSION:
        raise UnreadableExport(f"{root}: is of version {version!r:.20}, not {VERSION}")
    return found


def read(
    engine: DuckDB | Spark, directory: str | os.PathLike[str], since: datetime, until: datetime
) -> tuple[Any, Any]:
    """Return the touchpoints and conversions of an export, from a moment on and before another.

    Whoever is erased by the time of the last export has none. Raises UnreadableExport where there
    is none, and InvalidReport where the export does not hold all of that time.
    """
    root = Path(directory)
    there = about(root)
    if there is None:
        raise UnreadableExport(f"source: there is no export in {root}")
    if until > there.until:
        raise InvalidReport(f"until: the export ends at {there.until:%Y-%m-%d %H:%M:%S.%f}")
    if not there.is_whole and since < _moment(there.first):
        raise InvalidReport(f"since: less the lookback is before {there.first}, the export's first")
    people = engine.read("people", root / EVERYBODY, {"who": "int64", "person": "int64"})
    first, last = (sources.microseconds(each) for each in (since, until))
    found = []
    for what, columns, at in (
        ("touchpoints", TOUCHPOINTS, "touched_at"),
        ("conversions", CONVERSIONS, "converted_at"),
    ):
        held = {name: kind for name, kind in columns.items() if name not in ("person", "is_hit")}
        rows = engine.read(what, root / what, {**held, "day": "date"})
        rows = rows.filter(
            # Of the other days no file is opened.
            (rows.day >= ibis.literal(_day(since)))
            & (rows.day <= ibis.literal(_day(until)))
            & (rows[at] >= first)
            & (rows[at] < last)
        )
        found.append(rows.inner_join(people, "who").drop("day"))
    return found[0], found[1]


def _day(moment: datetime) -> date:
    """Return the day of a moment, by UTC, as the rows have it."""
    return (moment.astimezone(UTC) if timezone.is_aware(moment) else moment).date()


def _moment(day: date) -> datetime:
    found = datetime(day.year, day.month, day.day)  # noqa: DTZ001 # the zone follows
    return found.replace(tzinfo=UTC) if django_settings.USE_TZ else found


def _begin(before: About | None, late: int) -> date | None:
    """Return the first day to write, None where nothing has ever happened."""
    if before is not None:
        return _day(before.until) - late * DAY
    tables: list[tuple[Any, str]] = [(Visitor, "referred_on"), (Conversion, "created_on")]
    for app, name, field in (
        ("links", "Transaction", "created_on"),
        ("tracking", "Hit", "happened_on"),
    ):
        if (model := sources.sibling(app, name)) is not None:
            tables.append((model, field))
    using = router.db_for_read(Visitor)
    begins = [
        model.objects.using(using).aggregate(first=models.Min(field))["first"]
        for model, field in tables
    ]
    return min((_day(each) for each in begins if each is not None), default=None)


def _changed(before: About | None, first: date) -> Iterator[date]:
    """Yield the days before `first` whose conversions were taken back since the last export."""
    if before is None:
        return
    lately = before.until - DAY
    using = router.db_for_read(Conversion)
    parts = Reversal.objects.using(using).filter(created_on__gte=lately)
    found = Conversion.objects.using(using).filter(
        models.Q(reversed_on__gte=lately) | models.Q(pk__in=parts.values("conversion")),
        created_on__lt=_moment(first),
    )
    yield from sorted({_day(each) for each in found.values_list("created_on", flat=True)})


def _touchpoints_of(engine: DuckDB, root: Path, days: Sequence[date]) -> int:
    begin, end = _moment(days[0]), _moment(days[-1]) + DAY
    raw = sources.touchpoints(begin - AROUND, end + AROUND)
    rows = engine.keep("arrivals", journeys.arrivals(engine.load("touchpoints", raw, TOUCHPOINTS)))
    return _write(engine, rows, "touched_at", root / "touchpoints", days)


def _conversions_of(engine: DuckDB, root: Path, days: Sequence[date]) -> int:
    found = sources.conversions(_moment(days[0]), _moment(days[-1]) + DAY)
    rows = engine.load("conversions", found, CONVERSIONS)
    return _write(engine, rows, "converted_at", root / "conversions", days)


def _write(engine: DuckDB, rows: Any, at: str, where: Path, days: Sequence[date]) -> int:
    count = 0
    for day in days:
        first, last = (sources.microseconds(_moment(each)) for each in (day, day + DAY))
        of_the_day = rows.filter((rows[at] >= first) & (rows[at] < last)).drop("person")
        path = where / f"day={day}" / "part.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        count += _written(engine, of_the_day, path)
    return count


def _people(engine: DuckDB, root: Path) -> int:
    rows = engine.load("people", sources.people(), PEOPLE)
    # A number tells nothing of somebody, and is joined faster.
    known = rows.mutate(person=rows.who.min().over(ibis.window(group_by="person")))
    return _written(engine, known, root / EVERYBODY)


def _written(engine: DuckDB, rows: Any, path: Path) -> int:
    """Write rows into a file, which is there whole or not at all; return how many there are."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        count = engine.write(rows, beside)
        os.replace(beside, path)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()
    return count


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    os.replace(beside, path)
