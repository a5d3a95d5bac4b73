"""Say which touchpoints earned the conversions of a time: by one model, or by several.

    table = attribute(model=["last", "linear"], since=first, until=last, by="channel")

Everything else of the app is a way to here: the command, the page of the admin.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa
from django.conf import settings as django_settings
from django.db import connections, router
from django.utils import timezone

from ..models import Conversion
from . import chains, exports, journeys, sources
from .conf import parameters, settings
from .engines import DIALECTS, Database, DuckDB, Engine, Row, Spark
from .exceptions import InvalidReport
from .rules import RULES
from .sources import CONVERSIONS, DIMENSIONS, TOUCHPOINTS

__all__ = ["CHAINS", "ENGINES", "MODELS", "attribute", "compare", "durations", "top_paths"]

#: Is told what a report is doing.
Tell = Callable[[str], object]
#: By models of CHAINS: which part of all conversions is each label's.
Effects = dict[str, Mapping[str | None, float]]
#: Models that look at all journeys, not at one path alone.
CHAINS = ("markov", "shapley")
MODELS = (*RULES, *CHAINS)
ENGINES = ("duckdb", "database", "spark")
MOST_ORDER = 4
DAY = 86_400_000_000
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
#: Labels of a path that is shown, and paths.
LONGEST, MOST_PATHS = 10, 1000

SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("label", pa.string()),
        ("currency", pa.string()),
        ("conversions", pa.float64()),
        ("amount_minor", pa.int64()),
        ("paths", pa.int64()),
        ("touchpoints", pa.int64()),
        ("effect", pa.float64()),
    ]
)
PATHS = pa.schema(
    [
        ("path", pa.list_(pa.string())),
        ("currency", pa.string()),
        ("conversions", pa.int64()),
        ("amount_minor", pa.int64()),
    ]
)
DURATIONS = pa.schema(
    [("days", pa.int64()), ("conversions", pa.int64()), ("touchpoints", pa.int64())]
)


@dataclass(frozen=True, slots=True)
class Question:
    """What a report is asked for; raises InvalidReport, which names the argument."""

    since: datetime
    until: datetime
    by: str
    lookback: timedelta
    trigger: str = ""
    lead: str = ""
    engine: str = "duckdb"

    def __post_init__(self) -> None:
        if self.by not in DIMENSIONS:
            raise InvalidReport(f"by: must be one of {', '.join(DIMENSIONS)}, not {self.by!r:.80}")
        for name in ("since", "until"):
            moment = getattr(self, name)
            if not isinstance(moment, datetime):
                raise InvalidReport(f"{name}: must be a datetime, not {type(moment).__name__}")
            if timezone.is_aware(moment) != django_settings.USE_TZ:
                kind = "an aware" if django_settings.USE_TZ else "a naive"
                raise InvalidReport(f"{name}: must be {kind} datetime")
        if self.since >= self.until:
            raise InvalidReport("until: must be later than since")
        if not isinstance(self.lookback, timedelta) or self.lookback <= timedelta(0):
            raise InvalidReport("lookback: must be a timedelta above zero")
        try:
            _ = self.begin
        except OverflowError:
            raise InvalidReport("lookback: goes back to before the year 1") from None
        for name in ("trigger", "lead"):
            text = getattr(self, name)
            # No database takes anything else, and each would say so by an error of its own.
            if not isinstance(text, str) or _UNSTORABLE.search(text):
                raise InvalidReport(f"{name}: must be text without NUL and half letters")
        if self.engine not in ENGINES:
            raise InvalidReport(f"engine: must be one of {', '.join(ENGINES)}")

    @property
    def begin(self) -> datetime:
        """When the paths may begin of whoever has converted at once."""
        return self.since - self.lookback

    @property
    def back(self) -> int:
        """The lookback in microseconds."""
        return self.lookback // timedelta(microseconds=1)


@dataclass(slots=True)
class Report:
    """An engine that holds what a question is about."""

    engine: Engine
    question: Question
    touchpoints: Any
    rows: Any
    tell: Tell

    def chain(self, order: int) -> chains.Chain:
        """Return the chain of all journeys."""
        asked = self.question
        counted = journeys.steps(
            self.touchpoints,
            self.rows,
            by=asked.by,
            since=sources.microseconds(asked.since),
            until=sources.microseconds(asked.until),
            order=order,
        )
        steps = [
            *_steps(self.engine.rows(counted.converted), order, converted=True),
            *_steps(self.engine.rows(counted.lost), order, converted=False),
        ]
        try:
            return chains.Chain(steps, order)
        except ValueError as error:
            raise InvalidReport(str(error)) from error


def attribute(
    model: str | Sequence[str] = "last",
    *,
    since: datetime,
    until: datetime,
    by: str = "partner",
    lookback: timedelta | None = None,
    trigger: str = "",
    lead: str = "",
    order: int = 1,
    seed: int = 0,
    engine: str = "duckdb",
    source: Any = None,
    progress: Tell | None = None,
) -> pa.Table:
    """Return what each partner, channel or whatever `by` says has earned of the conversions.

    `model` is one of MODELS, or several. The conversions are those from `since` on and before
    `until`, of one `trigger` if it is named; each is divided among what its person was touched by
    up to `lookback` before it, AFFILIATE_ATTRIBUTION_LOOKBACK by default. `lead` names the trigger
    of leads, which `w_shaped` needs; `order` is the memory of `markov`, 1 to 4; `seed` that of
    `shapley`'s samples, beyond 12 values of `by`. `engine` is "duckdb", in this process, or
    "database", in the site's own. `source` is what `manage.py export_touchpoints` has written.
    `progress` is told in words of each step when it begins.

    The columns of the table: model; label, the value of `by`, null for none; currency, null where
    a conversion has no amount; conversions, the sum of the credits; amount_minor, in minor units;
    paths, on how many conversions' paths it stands; touchpoints, how often; effect, which part of
    all conversions would be lost without it, or is its value, by the models `markov` and `shapley`.
    Rows are in the order of the models, the largest credit first. Conversions that nothing led to
    are in none of them.

    Raises InvalidReport, which names the argument.
    """
    models = _models(model, lead, order, seed)
    asked = _question(since, until, by, lookback, trigger, lead, engine)
    whole = any(each in CHAINS for each in models)
    with _opened(asked, source, progress, whole=whole) as report:
        return _attributed(report, models, order, seed)


def compare(models: Sequence[str] | None = None, **asked: Any) -> pa.Table:
    """Return what `attribute` does, of several models: all that need no lead, by default."""
    if models is None:
        models = [each for each in MODELS if each != "w_shaped" or asked.get("lead")]
    return attribute(models, **asked)


def _question(
    since: datetime,
    until: datetime,
    by: str,
    lookback: timedelta | None,
    trigger: str,
    lead: str = "",
    engine: str = "duckdb",
) -> Question:
    back = settings.ATTRIBUTION_LOOKBACK if lookback is None else lookback
    return Question(since, until, by, back, trigger, lead, engine)


def _models(model: str | Sequence[str], lead: str, order: int, seed: int) -> list[str]:
    if not isinstance(model, str | list | tuple):
        raise InvalidReport("model: must be a name, or a list of names")
    models = [model] if isinstance(model, str) else list(model)
    for each in models:
        if each not in MODELS:
            raise InvalidReport(f"model: must be one of {', '.join(MODELS)}, not {each!r:.80}")
    if not models or len(set(models)) != len(models):
        raise InvalidReport("model: must name one model, or several different ones")
    if "w_shaped" in models and not lead:
        raise InvalidReport("lead: w_shaped needs the trigger of leads")
    if type(order) is not int or not 1 <= order <= MOST_ORDER:
        raise InvalidReport(f"order: must be a whole number from 1 to {MOST_ORDER}")
    if type(seed) is not int or seed < 0:
        raise InvalidReport("seed: must be a whole number from 0 on")
    return models


@contextmanager
def _opened(
    asked: Question, source: Any, progress: Tell | None = None, *, whole: bool = True
) -> Iterator[Report]:
    """Open a report of all people, or without `whole` of those alone who have converted."""
    using = router.db_for_read(Conversion)
    if asked.engine == "database" and source is not None:
        raise InvalidReport("engine: the database reads no export, take duckdb or spark")
    if asked.engine == "database" and connections[using].vendor not in DIALECTS:
        raise InvalidReport(f"engine: {connections[using].vendor} has none, take duckdb")
    tell = progress or (lambda step: None)
    if asked.engine == "spark":
        if source is None:
            raise InvalidReport("source: spark reads what export_touchpoints has written")
        yield _exported(Spark(), asked, source, tell)
    elif asked.engine == "database":
        yield _live(Database(using), asked, tell, whole=whole)
    else:
        with DuckDB() as engine:
            if source is None:
                yield _live(engine, asked, tell, whole=whole)
            else:
                yield _exported(engine, asked, source, tell)


def _live(engine: DuckDB | Database, asked: Question, tell: Tell, *, whole: bool) -> Report:
    """Have an engine work on the rows of the site."""
    wanted = ["person", "touch", "touched_at", "is_hit", "channel", asked.by]
    names = {name: TOUCHPOINTS[name] for name in dict.fromkeys(wanted)}
    tell("reading conversions")
    found = sources.conversions(asked.since, asked.until, asked.trigger)
    won = engine.load("conversions", found, CONVERSIONS)
    tell("reading touchpoints")
    all_touched = sources.touchpoints(asked.begin, asked.until)
    raw = engine.load("touchpoints", all_touched if whole else all_touched.of(found), names)
    touched = engine.keep("arrivals", journeys.arrivals(raw))
    leads = None
    if asked.lead:
        found = sources.conversions(asked.begin, asked.until, asked.lead)
        leads = engine.load("leads", found, CONVERSIONS)
    return _report(engine, asked, touched, won, leads, tell)


def _exported(engine: DuckDB | Spark, asked: Question, source: Any, tell: Tell) -> Report:
    """Have an engine work on what was exported."""
    touched, all_won = exports.read(engine, source, asked.begin, asked.until)
    touched = touched.select(*dict.fromkeys(["person", "touch", "touched_at", "channel", asked.by]))
    won = all_won.filter(all_won.converted_at >= sources.microseconds(asked.since))
    if asked.trigger:
        won = won.filter(won.trigger == asked.trigger)
    leads = all_won.filter(all_won.trigger == asked.lead) if asked.lead else None
    return _report(engine, asked, touched, won, leads, tell)


def _report(
    engine: Engine, asked: Question, touched: Any, won: Any, leads: Any, tell: Tell
) -> Report:
    tell("following people")
    won = journeys.with_leads(won, leads, asked.back)
    rows = journeys.paths(touched, won, by=asked.by, lookback=asked.back)
    return Report(engine, asked, touched, engine.keep("paths", rows), tell)


def _credited(report: Report, models: Sequence[str], order: int, seed: int) -> tuple[Any, Effects]:
    """Return what each touchpoint of each path has earned, and the effects of the labels."""
    rows = journeys.weighed(report.rows, [each for each in models if each in RULES], parameters())
    effects: Effects = {}
    for model in (each for each in models if each in CHAINS):
        report.tell(f"weighing by {model}")
        # Shapley's value has no use for more memory, and would take hours with it.
        chain = report.chain(order if model == "markov" else 1)
        if model == "markov":
            effects[model] = chains.removal_effects(chain)
        else:
            try:
                effects[model] = chains.shapley_values(chain, seed=seed)
            except ValueError as error:
                raise InvalidReport(str(error)) from error
        rows = journeys.by_effect(rows, model, effects[model])
    return journeys.credited(rows, models), effects


def _attributed(report: Report, models: Sequence[str], order: int, seed: int) -> pa.Table:
    rows, effects = _credited(report, models, order, seed)
    report.tell("adding up")
    found = report.engine.rows(journeys.totals(rows, models))
    table = [
        {
            "model": model,
            **{name: each[name] for name in ("label", "currency", "paths", "touchpoints")},
            # Of weights that are written with a decimal point some engines make a Decimal.
            "conversions": float(each[f"conversions_{model}"]),
            "amount_minor": _whole(each[f"amount_{model}"]),
            "effect": effects[model].get(each["label"]) if model in effects else None,
        }
        for model in models
        for each in found
    ]
    table.sort(
        key=lambda row: (
            models.index(row["model"]),
            row["currency"] or "",
            -round(row["conversions"], 9),
            row["label"] is None,
            row["label"] or "",
        )
    )
    return pa.Table.from_pylist(table, schema=SCHEMA)


def _whole(number: Any) -> int | None:
    """Return a sum as a number; of whole numbers some engines make a Decimal."""
    return None if number is None else int(number)


def _steps(rows: Sequence[Row], order: int, *, converted: bool) -> Iterator[chains.Step]:
    for row in rows:
        behind = tuple(row[f"back_{n}"] for n in range(row["depth"], 0, -1))
        ends = row["times"] if row["is_end"] else 0
        yield chains.Step(
            behind,
            row["label"],
            row["times"],
            ends if converted else 0,
            0 if converted else ends,
        )


def top_paths(
    *,
    since: datetime,
    until: datetime,
    by: str = "channel",
    lookback: timedelta | None = None,
    trigger: str = "",
    engine: str = "duckdb",
    source: Any = None,
    most: int = 20,
    progress: Tell | None = None,
) -> pa.Table:
    """Return the paths by which most conversions came, the most frequent first.

    The columns: path, the labels from the first touchpoint to the last, of which a longer path has
    its last 10; currency; conversions; amount_minor, what they were worth. The other arguments are
    those of `attribute`, and so are the errors.
    """
    if type(most) is not int or not 1 <= most <= MOST_PATHS:
        raise InvalidReport(f"most: must be a whole number from 1 to {MOST_PATHS}")
    asked = _question(since, until, by, lookback, trigger, engine=engine)
    with _opened(asked, source, progress, whole=False) as report:
        wanted = journeys.frequent(report.rows, LONGEST)
        # Of equally many, the same ones each time.
        names = ["length", *(f"step_{n}" for n in range(1, LONGEST + 1)), "currency"]
        order = [ibis.desc("conversions"), *(ibis.asc(each, nulls_first=True) for each in names)]
        found = report.engine.rows(wanted.order_by(order).limit(most))
    rows = [
        {
            "path": [each[f"step_{n}"] for n in range(min(each["length"], LONGEST), 0, -1)],
            **{name: each[name] for name in ("currency", "conversions")},
            "amount_minor": _whole(each["amount_minor"]),
        }
        for each in found
    ]
    rows.sort(
        key=lambda row: (
            -row["conversions"],
            [label or "" for label in row["path"]],
            row["currency"] or "",
        )
    )
    return pa.Table.from_pylist(rows, schema=PATHS)


def durations(
    *,
    since: datetime,
    until: datetime,
    by: str = "channel",
    lookback: timedelta | None = None,
    trigger: str = "",
    engine: str = "duckdb",
    source: Any = None,
    progress: Tell | None = None,
) -> pa.Table:
    """Return how many days people took from their first touchpoint to the conversion.

    The columns: days, whole ones; conversions; touchpoints, how many there were on their paths. The
    arguments and errors are those of `attribute`.
    """
    asked = _question(since, until, by, lookback, trigger, engine=engine)
    with _opened(asked, source, progress, whole=False) as report:
        found = report.engine.rows(journeys.taken(report.rows, DAY))
    return pa.Table.from_pylist(sorted(found, key=lambda row: row["days"]), schema=DURATIONS)
