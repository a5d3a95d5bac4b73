"""What the benchmarks of the attribution share: a history of touchpoints, as an export has it.

People have five touchpoints on the average, spread over ninety days, of eight channels; one in
twenty buys, an hour after the last one. It is drawn by hashes, so that it is the same each time.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from affiliations.attribution import exports, sources

BEGIN, DAYS = datetime(2026, 3, 1, tzinfo=UTC), 90
CHANNELS = (
    "affiliate",
    "direct",
    "display",
    "email",
    "organic_search",
    "paid_search",
    "referral",
    "sms",
)
#: The models of the figures: five rules, and the two that look at all journeys.
MODELS = ("last", "first", "linear", "position_based", "time_decay", "markov", "shapley")
LOOKBACK = timedelta(days=90)
#: By model and channel: the credits, and what they are worth in minor units.
Found = dict[str, dict[str, tuple[float, int]]]
DAY = 86_400_000_000


def export_of(number: int, root: Path) -> None:
    """Write an export with so many touchpoints."""
    begin = sources.microseconds(BEGIN)
    others = [name for name in sources.DIMENSIONS if name != "channel"]
    people = max(number * 5 // 26, 1)
    channels = ", ".join(f"'{each}'" for each in CHANNELS)
    with duckdb.connect(config={"memory_limit": "4GB", "temp_directory": str(root / "temp")}) as db:
        db.execute(f"""
            CREATE TABLE touched AS SELECT
                (hash(i) % {people})::BIGINT * 8 AS who,
                i * 8 AS touch,
                {begin} + (hash(i + 7_000_000_000) % {DAYS * DAY - 2 * DAY})::BIGINT AS touched_at,
                [{channels}][1 + (hash(i + 9_000_000_000) % {len(CHANNELS)})::BIGINT] AS channel
            FROM range({number}) r(i)
        """)
        _write(
            db,
            root / "touchpoints",
            "touched_at",
            begin,
            f"""
            SELECT who, touch, touched_at, channel,
                {", ".join(f"NULL::VARCHAR AS {name}" for name in others)} FROM touched
        """,
        )
        db.execute("""
            CREATE TABLE won AS SELECT
                who + 5 AS conversion, max(touched_at) + 3_600_000_000 AS converted_at,
                'Order placed' AS trigger, 100 + (hash(who) % 100_000)::BIGINT AS amount_minor,
                'EUR' AS currency
            FROM touched WHERE hash(who) % 20 = 0 GROUP BY who
        """)
        _write(
            db,
            root / "conversions",
            "converted_at",
            begin,
            """
            SELECT conversion, conversion AS who, converted_at, trigger, amount_minor, currency
            FROM won
        """,
        )
        db.execute(f"""
            COPY (SELECT DISTINCT who, who AS person FROM touched
                UNION ALL SELECT conversion, conversion - 5 FROM won)
            TO '{root / exports.EVERYBODY}' (FORMAT parquet)
        """)
    about = {
        "version": exports.VERSION,
        "first": str(BEGIN.date()),
        "is_whole": True,
        "exported_on": begin + DAYS * DAY,
    }
    (root / exports.ABOUT).write_text(json.dumps(about))


def _write(db: duckdb.DuckDBPyConnection, where: Path, at: str, begin: int, rows: str) -> None:
    day = f"strftime(make_timestamp(r.{at}), '%Y-%m-%d')"
    db.execute(
        f"COPY (SELECT r.*, {day} AS day FROM ({rows}) r) "
        f"TO '{where}' (FORMAT parquet, PARTITION_BY (day))"
    )
