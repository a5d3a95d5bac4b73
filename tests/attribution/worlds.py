"""Small worlds of touchpoints and conversions, told to the reports as relations of literals."""

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

from hypothesis import strategies as st

from affiliations.attribution import reports, sources
from affiliations.attribution.questions import Question
from affiliations.attribution.sources import CONVERSIONS, DIMENSIONS, TOUCHPOINTS, Relation

from . import oracle
from .oracle import Sale, Touch

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
#: Two of them are the longest that a landing may come after its visit.
TICK = 30_000_000
TICKS = 12
LARGEST = 2**62
TYPES = {"int64": "bigint", "string": "text"}

LONGEST = "x" * 10_240
#: What somebody may put into a link.
HOSTILE = [
    None,
    "",
    "direct",
    "'; DROP TABLE x; --",
    "'",
    '"',
    "\\",
    "\\'",
    "a\\nb",
    "\n\r\t",
    "%",
    "%s %% %(a)s",
    "?",
    ":name",
    "$1",
    "{}",
    " a",
    "a ",
    "A",
    "a",
    "\u00e9",
    "e\u0301",
    "🦊",
    "\u202e",
    "\x01\x1b\x7f",
    "NULL",
    "0",
    LONGEST,
]


@dataclass(frozen=True, repr=False)
class World:
    """What happened, and what is asked about it."""

    touches: tuple
    sales: tuple
    by: str
    since: int
    until: int
    lookback: int
    order: int = 1

    def __repr__(self):
        return f"World{tuple(vars(self).values())}".replace(LONGEST, "<10 KB>")

    @property
    def asked(self):
        """What is asked, as the oracle has it."""
        told = self.by in ("campaign", "source", "medium")
        begin = sources.microseconds(BEGIN)
        return oracle.Asked(begin + self.since, begin + self.until, self.lookback, told, self.order)

    @property
    def question(self):
        """What is asked, as `attribute` has it."""
        return {
            "since": BEGIN + timedelta(microseconds=self.since),
            "until": BEGIN + timedelta(microseconds=self.until),
            "by": self.by,
            "lookback": timedelta(microseconds=self.lookback),
            "trigger": "sale",
            "lead": "lead",
        }

    def told(self):
        """Have the reports find this world, and nothing else."""
        return patch.multiple(sources, touchpoints=self._touchpoints, conversions=self._conversions)

    def _touchpoints(self, since, until, of=None):
        since, until = sources.microseconds(since), sources.microseconds(until)
        rows = [
            {
                **dict.fromkeys(TOUCHPOINTS),
                "person": each.person,
                "touch": each.touch,
                "touched_at": each.at,
                "is_hit": int(each.is_hit),
                "channel": each.channel,
                self.by: each.label,
            }
            for each in self.touches
            if since <= each.at < until
        ]
        found = relation(TOUCHPOINTS, rows)
        return found if of is None else found.of(of)

    def _conversions(self, since, until, trigger=""):
        since, until = sources.microseconds(since), sources.microseconds(until)
        rows = [
            {
                "conversion": each.conversion,
                "person": each.person,
                "who": None,
                "converted_at": each.at,
                "trigger": each.trigger,
                "amount_minor": each.minor,
                "currency": each.currency,
            }
            for each in self.sales
            if since <= each.at < until and trigger in ("", each.trigger)
        ]
        return relation(CONVERSIONS, rows)

    def totals(self, models, engine="duckdb"):
        """Return what the reports say, by model, label and currency."""
        with self.told():
            table = reports.attribute(models, engine=engine, order=self.order, **self.question)
        rows = table.to_pylist()
        found = {(row.pop("model"), row.pop("label"), row.pop("currency")): row for row in rows}
        assert len(found) == table.num_rows
        return found

    def earned(self, models, engine="duckdb"):
        """Return what the reports say of each touchpoint: credits and minor units by model."""
        question = Question.asked(models, engine=engine, order=self.order, **self.question)
        with self.told(), reports.opened(question) as report:
            rows, _ = report.credited()
            names = [f"{what}_{model}" for model in models for what in ("credit", "minor")]
            found = report.engine.rows(rows.select("conversion", "touch", *names))
        result = {
            (row["conversion"], row["touch"]): {
                model: (float(row[f"credit_{model}"]), row[f"minor_{model}"]) for model in models
            }
            for row in found
        }
        assert len(result) == len(found)
        return result

    def relabelled(self, names):
        """Return it with other labels."""
        touches = tuple(each._replace(label=names[each.label]) for each in self.touches)
        return replace(self, touches=touches)


def relation(columns, rows):
    """Return rows as a query that names no table."""
    casts = ", ".join(f"CAST(%s AS {TYPES[kind]}) AS {name}" for name, kind in columns.items())
    if not rows:
        nothing = f"SELECT {casts} WHERE 1 = 0"
        return Relation(nothing, (None,) * len(columns), "default")
    params = [row[name] for row in rows for name in columns]
    return Relation(" UNION ALL ".join([f"SELECT {casts}"] * len(rows)), tuple(params), "default")


def worlds(labels=HOSTILE, most=20, fewest=0, sales=6):
    """Make up worlds of a few people, touchpoints and conversions, many at the same moment.

    By chance and not by hypothesis, whose examples are small at first: in most of them nothing led
    to anything, and a model that is wrong would not have been seen.
    """
    return st.integers(0, 2**32).map(
        lambda seed: made_up(random.Random(seed), labels, most, fewest, sales)
    )


def made_up(chance, labels, most, fewest, sales):
    """Make a world up, in most of which somebody converts soon after a touchpoint."""
    begin = sources.microseconds(BEGIN)
    by = chance.choice(DIMENSIONS)
    some = chance.sample(labels, chance.randint(1, min(5, len(labels))))
    count = chance.randint(fewest, most)
    # So that neither the numbers nor the rows are in the order of time.
    numbers = chance.sample(range(1, count + 1), count)
    touches = []
    for number in numbers:
        channel, label = chance.choice(["direct", "affiliate", None]), chance.choice(some)
        touches.append(
            Touch(
                chance.choice("aabc"),
                number,
                begin + moment(chance),
                chance.random() < 0.5,
                label if by == "channel" else channel,
                label,
            )
        )
    sold = []
    for number in range(1, chance.randint(min(fewest, 1), sales) + 1):
        who, at = chance.choice("abc"), begin + moment(chance)
        if touches and chance.random() < 0.8:
            who, at = (lambda each: (each.person, each.at))(chance.choice(touches))
            at += chance.choice([-1, 0, 1, TICK, 3 * TICK])
        trigger = chance.choice(["sale", "sale", "sale", "lead"])
        currency = chance.choice([None, "EUR", "JPY"])
        sold.append(Sale(number, who, at, amount(chance), currency, trigger))
    return World(
        tuple(touches),
        tuple(sold),
        by,
        chance.choice([0, 0, 0, 2 * TICK, 2 * TICK + 1]),
        chance.choice([TICKS + 4, TICKS + 4, TICKS]) * TICK,
        chance.choice([1, TICK, 5 * TICK, *[100 * TICK] * 5]),
        chance.randint(1, 3),
    )


def moment(chance):
    """Return when something is, most of all on a tick."""
    return chance.randint(0, TICKS) * TICK + chance.choice([0, 0, 0, 0, 1, -1])


def amount(chance):
    """Return what something is worth: nothing that is known, little, or very much."""
    few = chance.randint(-3, 100)
    much = chance.randint(-(10**12), 10**12)
    # The sums of a few of them still fit.
    most = LARGEST // 8 - chance.randint(0, 1000)
    return chance.choice([None, few, few, much, most])


def single(minor, *ats, lookback=100 * TICK, by="source"):
    """Return a world of one conversion at the tenth tick, and of touchpoints at others."""
    begin = sources.microseconds(BEGIN)
    touches = tuple(
        Touch("a", number, begin + at * TICK, False, "cpc", f"s{number}")
        for number, at in enumerate(ats, 1)
    )
    sale = Sale(1, "a", begin + 10 * TICK, minor, "EUR")
    return World(touches, (sale,), by, 0, 20 * TICK, lookback)


def rich():
    """Return a world that every rule sees otherwise: a lead, a landing, a direct visit at last."""
    begin = sources.microseconds(BEGIN)
    rows = [
        ("a", 1, False, "affiliate", None),
        # The landing of that visit.
        ("a", 2, True, "cpc", "search"),
        ("a", 5, True, "cpc", "search"),
        ("a", 6, True, "email", "mail"),
        ("a", 7, True, "social", "friends"),
        ("a", 9, True, "direct", "nobody"),
        # After the conversion, and of somebody who never converts.
        ("a", 11, True, "email", "mail"),
        ("b", 2, True, "email", "mail"),
        ("b", 4, True, "cpc", "search"),
    ]
    touches = tuple(
        Touch(who, number, begin + tick * TICK, is_hit, channel, label)
        for number, (who, tick, is_hit, channel, label) in enumerate(rows, 1)
    )
    sales = (
        Sale(1, "a", begin + 6 * TICK + 1, trigger="lead"),
        Sale(2, "a", begin + 10 * TICK, 101, "EUR"),
    )
    return World(touches, sales, "source", 0, 20 * TICK, 100 * TICK)
