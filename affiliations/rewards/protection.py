"""Let the database itself refuse that a line of the ledger is changed or deleted.

Whoever gets past Python, by `update()` or in a shell of the database, gets no further; but for
REPLACE on SQLite, which deletes without running a trigger.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import connections, transaction
from django.db.migrations.recorder import MigrationRecorder

__all__ = ["install", "is_installed", "lifted", "remove", "repair"]

#: The migration that installs them.
MIGRATION = ("affiliations_rewards", "0002_append_only")

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
        """
        CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT
        WHEN (current_setting('affiliations_rewards.emptied', true) IS DISTINCT FROM '1')
        EXECUTE FUNCTION affiliations_rewards_refuse()
        """,
        # Who posts has a lock on the account, for snapshots to wait for: as on MariaDB, where a
        # foreign key sees to it at once. PostgreSQL's are looked at when all is committed. The path
        # is kept with it, as a dump is restored with none.
        """
        CREATE OR REPLACE FUNCTION affiliations_rewards_hold() RETURNS trigger
        LANGUAGE plpgsql AS $hold$
        BEGIN
            PERFORM 1 FROM affiliations_rewards_account WHERE id = NEW.account_id FOR KEY SHARE;
            RETURN NEW;
        END $hold$ SET search_path FROM CURRENT
        """,
        """
        CREATE TRIGGER affiliations_rewards_entry_held BEFORE INSERT ON affiliations_rewards_entry
        FOR EACH ROW EXECUTE FUNCTION affiliations_rewards_hold()
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
    "postgresql": (
        "DROP TRIGGER IF EXISTS {table}_append_only ON {table}",
        "DROP TRIGGER IF EXISTS {table}_no_truncate ON {table}",
        "DROP TRIGGER IF EXISTS affiliations_rewards_entry_held ON affiliations_rewards_entry",
        # Of before its function knew its path: by the name `repair` sees that it is old.
        "DROP TRIGGER IF EXISTS affiliations_rewards_entry_hold ON affiliations_rewards_entry",
        "DROP FUNCTION IF EXISTS affiliations_rewards_refuse()",
        "DROP FUNCTION IF EXISTS affiliations_rewards_hold()",
    ),
    "sqlite": (
        "DROP TRIGGER IF EXISTS {table}_no_update",
        "DROP TRIGGER IF EXISTS {table}_no_delete",
    ),
    "mysql": (
        "DROP TRIGGER IF EXISTS {table}_no_update",
        "DROP TRIGGER IF EXISTS {table}_no_delete",
    ),
}
#: Names the triggers that there are.
FIND = {
    "postgresql": """
        SELECT tgname FROM pg_trigger
        WHERE tgrelid IN (to_regclass(%s), to_regclass(%s)) AND tgenabled IN ('O', 'A')
        """,
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN (%s, %s)",
    "mysql": """
        SELECT trigger_name FROM information_schema.triggers
        WHERE trigger_schema = DATABASE() AND event_object_table IN (%s, %s)
        """,
}
#: In a session that says so, all rows may be deleted: to make triggers anew takes MariaDB longer
#: than all the rest of a test's tidying up.
LIFT = {
    "postgresql": "SELECT set_config('affiliations_rewards.emptied', '1', false)",
    "mysql": "SET @affiliations_rewards_emptied = 1",
}
RESTORE = {
    "postgresql": "SELECT set_config('affiliations_rewards.emptied', '', false)",
    "mysql": "SET @affiliations_rewards_emptied = NULL",
}


def install(connection: Any) -> None:
    """Have changes refused from now on, also where some of it was there."""
    remove(connection)
    _run(connection, INSTALL)


def repair(*, using: str, **kwargs: Any) -> None:
    """Install what has got lost since it was migrated to: a receiver of `post_migrate`.

    In a dump without triggers, or where SQLite has remade a table in a later migration.
    """
    connection = connections[using]
    if is_installed(connection):
        return
    if TABLES[0] not in connection.introspection.table_names():
        return
    applied = MigrationRecorder(connection).applied_migrations()
    # Without any, as where a project makes its tests' tables without migrations.
    if MIGRATION in applied or not any(app == MIGRATION[0] for app, _name in applied):
        with transaction.atomic(using=using):
            install(connection)


def remove(connection: Any) -> None:
    """Let changes be made."""
    _run(connection, REMOVE)


def is_installed(connection: Any) -> bool:
    """Tell whether changes are refused; also true where we know of no way to have that."""
    if connection.vendor not in FIND:
        return True
    made = " ".join(_each(INSTALL[connection.vendor]))
    with connection.cursor() as cursor:
        cursor.execute(FIND[connection.vendor], TABLES)
        found = {name for (name,) in cursor.fetchall()}
    return found >= set(re.findall(r"CREATE TRIGGER (\w+)", made))


@contextmanager
def lifted(connection: Any) -> Iterator[None]:
    """Let all rows be deleted within."""
    if connection.vendor in LIFT:
        _execute(connection, [LIFT[connection.vendor]])
        try:
            yield
        finally:
            _execute(connection, [RESTORE[connection.vendor]])
    elif is_installed(connection):
        # All or nothing: whoever is interrupted leaves the ledger protected.
        with transaction.atomic(using=connection.alias):
            remove(connection)
            yield
            install(connection)
    else:
        yield


def _run(connection: Any, statements: Mapping[str, tuple[str, ...]]) -> None:
    _execute(connection, _each(statements.get(connection.vendor, ())))


def _each(statements: Iterable[str]) -> Iterator[str]:
    """Return the statements, those on a table for each of them."""
    for statement in statements:
        tables = TABLES if "{table}" in statement else ("",)
        for table in tables:
            # Names of ours alone stand in it.
            yield statement.replace("{table}", table)


def _execute(connection: Any, statements: Iterable[str]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
