"""What only MariaDB and MySQL do to a table."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


def definition(table: str) -> list[str]:
    """Return how a table is made, line by line."""
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW CREATE TABLE {table}")
        lines: list[str] = cursor.fetchone()[1].splitlines()
    # All but its last line, which tells how many rows it has had.
    return lines[:-1]


@contextmanager
def in_three_bytes(*tables: str) -> Iterator[None]:
    """Have tables take no emoji for a while, as where the server's usual character set is old."""
    before = {table: definition(table) for table in tables}
    _execute(*(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb3" for table in tables))
    try:
        yield
    finally:
        for table, lines in before.items():
            to = "utf8mb4 COLLATE utf8mb4_unicode_ci"
            _execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET {to}")
            # That took all columns for the same: those that compare otherwise do so again.
            own = [f"MODIFY {line.rstrip(',')}" for line in lines if " COLLATE " in line]
            if own:
                _execute(f"ALTER TABLE {table} {', '.join(own)}")


def _execute(*statements: str) -> None:
    # By a cursor of their own: what is done in between may have closed the connection.
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
