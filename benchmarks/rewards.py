"""What the benchmarks of the rewards share: they alone post, and they fill the ledger by SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.color import no_style
from django.db import connection, models

from affiliations.models import Conversion, Partner
from affiliations.rewards import ledger, protection
from affiliations.rewards.models import Account, CommissionRule, Entry, PayoutDestination

from .links_at_scale import fill, moment, without_indexes

#: Seconds behind the first entry of the ledger, none of which is younger than a day.
SPAN = 300 * 24 * 3600


def entries(number: int, account: str, minor: str = "100 + n % 900", when: str = "") -> None:
    """Let there be as many entries more; `account` and `when` are SQL of their number, `n`.

    They are spread evenly over ten months unless `when` says of each how many seconds after the
    first it was; available at once.
    """
    contra = ledger.site_account(Entry.Kind.CREDIT, "EUR").pk
    at = moment(when or f"CAST(n * 1.0 * {SPAN} / {number} AS integer)")
    columns = {
        "account_id": account,
        "contra_id": f"{contra}",
        "kind": f"'{Entry.Kind.CREDIT}'",
        "minor": minor,
        "key": f"'filled:' || ({account}) || ':' || n",
        "memo": "''",
        **dict.fromkeys(("available_on", "created_on"), at),
    }
    with unguarded(), without_indexes(Entry._meta.db_table):
        fill(Entry, number, columns)
    settle()


def settle(*others: type[models.Model]) -> None:
    """Let the database know what is there, as it does by itself on a site, and be done with it."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            tables = (each._meta.db_table for each in (Account, Entry, *others))
            cursor.execute(f"VACUUM ANALYZE {', '.join(tables)}")
            cursor.execute("CHECKPOINT")
        else:
            cursor.execute("ANALYZE")


@contextmanager
def unguarded() -> Iterator[None]:
    """Write to the ledger without its triggers, which go through it row by row."""
    protection.remove(connection)
    try:
        yield
    finally:
        protection.install(connection)


def empty() -> None:
    """Leave nothing behind."""
    tables = [
        model._meta.db_table
        for model in (Account, Conversion, CommissionRule, Partner, PayoutDestination)
    ]
    with unguarded():
        connection.ops.execute_sql_flush(
            connection.ops.sql_flush(no_style(), tables, allow_cascade=True)
        )
