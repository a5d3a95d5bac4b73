"""What the benchmarks of the tracking share: people who have done much, filled in by SQL."""

from __future__ import annotations

from datetime import UTC, datetime

from django.core.management.color import no_style
from django.db import DEFAULT_DB_ALIAS, connection

from affiliations.tracking import partitions, properties
from affiliations.tracking.models import Customer, EventType, Hit, HitKey, Identity, Property

from .links_at_scale import fill, moment

#: Seconds between the first hit of somebody and the last, all of them in the past.
SPAN = 300 * 24 * 3600
#: The months in which these are.
FIRST, MONTHS = datetime(2026, 1, 1, tzinfo=UTC), 10
#: Each before those that it refers to.
KINDS = (Hit, HitKey, Identity, Customer, EventType, Property)
PAGE = "https://shop.example/course/7?page=2"


def hits(identity: Identity, number: int, **columns: str) -> None:
    """Let somebody have done as much more; `columns` are SQL of a hit's number, `n`.

    Pages that they went on to from others of the same site, unless these say otherwise, spread
    evenly over ten months, each of which has its part where the database has these.
    """
    if partitions.are_there(DEFAULT_DB_ALIAS):
        months = partitions.months(FIRST, MONTHS)
        for month in partitions.missing(months, DEFAULT_DB_ALIAS):
            partitions.make(month, DEFAULT_DB_ALIAS)
    whole = "signed" if connection.vendor == "mysql" else "integer"
    at = moment(f"CAST(n * 1.0 * {SPAN} / {number} AS {whole})")
    empty = ("channel", "source", "medium", "campaign", "term", "content", "link", "currency")
    fill(
        Hit,
        number,
        {
            "property_id": f"{identity.property_id}",
            "identity_id": f"{identity.pk}",
            "type": f"'{Hit.Type.PAGEVIEW}'",
            **dict.fromkeys(("happened_on", "received_on"), at),
            "url": f"'{PAGE}'",
            "referrer": "'https://shop.example/courses'",
            "title": "'Course 7'",
            **dict.fromkeys((*empty, "transaction_id"), "''"),
            **dict.fromkeys(("click_ids", "meta"), "'{}'"),
            "is_informational": "FALSE",
            **columns,
        },
    )


def settle() -> None:
    """Let the database know what is there, as it does by itself on a site, and be done with it."""
    table = Hit._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"VACUUM ANALYZE {table}")
            cursor.execute("CHECKPOINT")
        elif connection.vendor == "mysql":
            cursor.execute(f"ANALYZE TABLE {table}")
            cursor.fetchall()
        else:
            cursor.execute("ANALYZE")


def empty() -> None:
    """Leave nothing behind."""
    tables = [each._meta.db_table for each in KINDS]
    connection.ops.execute_sql_flush(
        connection.ops.sql_flush(no_style(), tables, allow_cascade=True)
    )
    properties.forget()
