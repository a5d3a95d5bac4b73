"""Small worlds of touchpoints and conversions, told to the reports as relations of literals."""

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


moments = st.builds(
    lambda tick, off: tick * TICK + off,
    st.integers(0, TICKS),
    st.sampled_from([0, 0, 0, 0, 1, -1]),
)
people = st.sampled_from(["a", "b", "c"])
amounts = st.one_of(
    st.none(),
    st.integers(-3, 100),
    st.integers(-(10**12), 10**12),
    # The sums of a few of them still fit.
    st.integers(LARGEST // 8 - 1000, LARGEST // 8),
)
currencies = st.sampled_from([None, "EUR", "JPY"])


@st.composite
def worlds(draw, labels=HOSTILE, most=20, fewest=0, sales=6):
    """Draw a world of a few people, touchpoints and conversions, many at the same moment."""
    by = draw(st.sampled_from(DIMENSIONS))
    begin = sources.microseconds(BEGIN)
    some = draw(st.lists(st.sampled_from(labels), min_size=1, max_size=5, unique=True))
    rows = draw(
        st.lists(
            st.tuples(
                people,
                moments,
                st.booleans(),
                st.sampled_from(["direct", "affiliate", None]),
                st.sampled_from(some),
            ),
            min_size=fewest,
            max_size=most,
        )
    )
    # So that neither the numbers nor the rows are in the order of time.
    numbers = draw(st.permutations(range(1, len(rows) + 1)))
    touches = tuple(
        Touch(who, number, begin + at, is_hit, label if by == "channel" else channel, label)
        for number, (who, at, is_hit, channel, label) in zip(numbers, rows, strict=True)
    )
    sold = draw(
        st.lists(
            st.tuples(
                people, moments, amounts, currencies, st.sampled_from(["sale", "sale", "lead"])
            ),
            min_size=min(fewest, 1),
            max_size=sales,
        )
    )
    conversions = tuple(
        Sale(number, who, begin + at, minor, currency, trigger)
        for number, (who, at, minor, currency, trigger) in enumerate(sold, 1)
    )
    since = draw(st.sampled_from([0, 0, 2 * TICK, 2 * TICK + 1]))
    until = draw(st.sampled_from([TICKS + 1, TICKS + 1, TICKS])) * TICK
    lookback = draw(st.sampled_from([1, TICK, 2 * TICK, 5 * TICK, 100 * TICK, 100 * TICK]))
    return World(touches, conversions, by, since, until, lookback, draw(st.integers(1, 3)))


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
