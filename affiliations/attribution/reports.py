"""Say which touchpoints earned the conversions of a time: by one model, or by several.

    table = attribute(model=["last", "linear"], since=first, until=last, by="channel")

Everything else of the app is a way to here: the command, the page of the admin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa
from django.db import connections, router

from ..models import Conversion
from . import chains, exports, journeys, sources
from .conf import parameters
from .engines import DIALECTS, Database, DuckDB, Engine, Row, Spark
from .exceptions import InvalidReport, too_much
from .questions import CHAINS, MODELS, Question
from .rules import RULES
from .sources import CONVERSIONS, TOUCHPOINTS

__all__ = ["attribute", "compare", "durations", "top_paths"]

#: Is told what a report is doing.
Tell = Callable[[str], object]
#: By models of CHAINS: which part of all conversions is each label's.
Effects = dict[str, Mapping[str | None, float]]
DAY = 86_400_000_000
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
    asked = Question.asked(
        model,
        since=since,
        until=until,
        by=by,
        lookback=lookback,
        trigger=trigger,
        lead=lead,
        order=order,
        seed=seed,
        engine=engine,
    )
    with opened(asked, source, progress) as report:
        return report.attributed()


def compare(models: Sequence[str] | None = None, **asked: Any) -> pa.Table:
    """Return what `attribute` does, of several models: all that need no lead, by default."""
    if models is None:
        models = [each for each in MODELS if each != "w_shaped" or asked.get("lead")]
    return attribute(models, **asked)


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
    asked = Question.asked(
        since=since, until=until, by=by, lookback=lookback, trigger=trigger, engine=engine
    )
    with opened(asked, source, progress) as report:
        return report.top_paths(most)


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
    asked = Question.asked(
        since=since, until=until, by=by, lookback=lookback, trigger=trigger, engine=engine
    )
    with opened(asked, source, progress) as report:
        return report.durations()


@contextmanager
def opened(asked: Question, source: Any = None, progress: Tell | None = None) -> Iterator[Report]:
    """Read what a question is about; raises InvalidReport."""
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
        yield _live(Database(using), asked, tell)
    else:
        with DuckDB() as engine:
            if source is None:
                yield _live(engine, asked, tell)
            else:
                yield _exported(engine, asked, source, tell)


def _live(engine: DuckDB | Database, asked: Question, tell: Tell) -> Report:
    """Have an engine work on the rows of the site."""
    columns = ["person", "touch", "touched_at", "is_hit", "channel", asked.by]
    names = {name: TOUCHPOINTS[name] for name in dict.fromkeys(columns)}
    tell("reading conversions")
    found = sources.conversions(asked.since, asked.until, asked.trigger)
    won = engine.load("conversions", found, CONVERSIONS)
    tell("reading touchpoints")
    of = None if asked.is_of_all else engine.again("conversions", found)
    wanted = sources.touchpoints(asked.begin, asked.until, of)
    raw = engine.load("touchpoints", wanted, names)
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


@dataclass(slots=True)
class Report:
    """An engine that holds what a question is about, so that several tables can be made of it."""

    engine: Engine
    question: Question
    touchpoints: Any
    rows: Any
    tell: Tell
    #: By their memory: what two models ask about is counted once.
    counted: dict[int, chains.Chain] = field(default_factory=dict)

    def attributed(self) -> pa.Table:
        """Return what `attribute` does."""
        models = self.question.models
        rows, effects = self.credited()
        self.tell("adding up")
        found = self.engine.rows(journeys.totals(rows, models))
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

    def credited(self) -> tuple[Any, Effects]:
        """Return what each touchpoint of each path has earned, and the effects of the labels."""
        asked = self.question
        rules = [each for each in asked.models if each in RULES]
        rows = journeys.weighed(self.rows, rules, parameters())
        effects: Effects = {}
        for model in (each for each in asked.models if each in CHAINS):
            self.tell(f"weighing by {model}")
            # Shapley's value has no use for more memory, and would take hours with it.
            chain = self.chain(asked.order if model == "markov" else 1)
            if model == "markov":
                effects[model] = chains.removal_effects(chain)
            else:
                try:
                    effects[model] = chains.shapley_values(chain, seed=asked.seed)
                except ValueError as error:
                    raise InvalidReport(str(error)) from error
            rows = journeys.by_effect(rows, model, effects[model])
        return journeys.credited(rows, asked.models), effects

    def chain(self, order: int) -> chains.Chain:
        """Return the chain of all journeys."""
        if order not in self.counted:
            self.counted[order] = self._chain(order)
        return self.counted[order]

    def _chain(self, order: int) -> chains.Chain:
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

    def top_paths(self, most: int) -> pa.Table:
        """Return what the function of that name does."""
        self.tell("counting paths")
        wanted = journeys.frequent(self.rows, LONGEST)
        # Of equally many, the same ones each time.
        names = ["length", *(f"step_{n}" for n in range(1, LONGEST + 1)), "currency"]
        order = [ibis.desc("conversions"), *(ibis.asc(each, nulls_first=True) for each in names)]
        found = self.engine.rows(wanted.order_by(order).limit(most))
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

    def durations(self) -> pa.Table:
        """Return what the function of that name does."""
        self.tell("counting days")
        found = self.engine.rows(journeys.taken(self.rows, DAY))
        return pa.Table.from_pylist(sorted(found, key=lambda row: row["days"]), schema=DURATIONS)


def _whole(number: Any) -> int | None:
    """Return a sum as a number; of whole numbers some engines make a Decimal."""
    if number is None:
        return None
    whole = int(number)
    if not -(2**63) <= whole < 2**63:
        raise too_much()
    return whole


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
