"""Let the database itself refuse that a line of the ledger is changed or deleted.

Whoever gets past Python, by `update()` or in a shell of the database, gets no further.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["install", "is_installed", "lifted", "remove"]

#: What is written once.
TABLES = ("affiliations_rewards_entry", "affiliations_rewards_commission")

#: Each error is one that Django raises as IntegrityError.
INSTALL = {
    "postgresql": (
        """
        CREATE OR REPLACE FUNCTION affiliations_rewards_refuse() RETURNS trigger
        LANGUAGE plpgsql AS $refuse$
        BEGIN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END $refuse$
        """,
        """
        CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
        FOR EACH ROW EXECUTE FUNCTION affiliations_rewards_refuse()
        """,
    ),
    "sqlite": (
        """
        CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}
        BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
        """,
        """
        CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table}
        BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
        """,
    ),
    # In a session that says so, deletion is let pass: to make triggers anew takes MariaDB longer
    # than all the rest of a test's tidying up.
    "mysql": (
        """
        CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} FOR EACH ROW
        SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1451, MESSAGE_TEXT = '{table} is append-only'
        """,
        """
        CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} FOR EACH ROW
        IF @affiliations_rewards_emptied IS NULL THEN
            SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1451, MESSAGE_TEXT = '{table} is append-only';
        END IF
        """,
    ),
}
REMOVE = {
    "postgresql": ("DROP TRIGGER IF EXISTS {table}_append_only ON {table}",),
    "sqlite": (
        "DROP TRIGGER IF EXISTS {table}_no_update",
        "DROP TRIGGER IF EXISTS {table}_no_delete",
    ),
    "mysql": (
        "DROP TRIGGER IF EXISTS {table}_no_update",
        "DROP TRIGGER IF EXISTS {table}_no_delete",
    ),
}
#: Counts the triggers that there are.
FIND = {
    "postgresql": """
        SELECT COUNT(*) FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE relname IN (%s, %s) AND tgname LIKE '%%append_only' AND tgenabled <> 'D'
        """,
    "sqlite": """
        SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN (%s, %s)
        """,
    "mysql": """
        SELECT COUNT(*) FROM information_schema.triggers
        WHERE trigger_schema = DATABASE() AND event_object_table IN (%s, %s)
        """,
}


def install(connection: Any) -> None:
    """Have changes refused from now on."""
    _run(connection, INSTALL)


def remove(connection: Any) -> None:
    """Let changes be made."""
    _run(connection, REMOVE)


def is_installed(connection: Any) -> bool:
    """Tell whether changes are refused; also true where we know of no way to have that."""
    if connection.vendor not in FIND:
        return True
    made = [each for each in INSTALL[connection.vendor] if "CREATE TRIGGER" in each]
    with connection.cursor() as cursor:
        cursor.execute(FIND[connection.vendor], TABLES)
        return bool(cursor.fetchone()[0] == len(made) * len(TABLES))


@contextmanager
def lifted(connection: Any) -> Iterator[None]:
    """Let all rows be deleted within; PostgreSQL empties tables without being asked."""
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SET @affiliations_rewards_emptied = 1")
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SET @affiliations_rewards_emptied = NULL")
    elif connection.vendor == "sqlite" and is_installed(connection):
        remove(connection)
        try:
            yield
        finally:
            install(connection)
    else:
        yield


def _run(connection: Any, statements: Mapping[str, tuple[str, ...]]) -> None:
    with connection.cursor() as cursor:
        for table in TABLES:
            for statement in statements.get(connection.vendor, ()):
                # Names of ours alone stand in it.
                cursor.execute(statement.replace("{table}", table))
