"""What was earned or posted is never changed: the database itself refuses it."""

from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from affiliations.exceptions import InvalidTransition
from affiliations.models import Conversion
from affiliations.money import Money
from affiliations.rewards import ledger, protection
from affiliations.rewards.checks import check_database
from affiliations.rewards.models import Commission, Entry
from tests.core.factories import make_partner
from tests.rewards.factories import account_of, convert, make_rule

ENTRY, COMMISSION = protection.TABLES
CHANGES = [
    f"UPDATE {ENTRY} SET minor = minor + 1",
    f"UPDATE {ENTRY} SET memo = memo",
    f"DELETE FROM {ENTRY} WHERE kind = 'credit'",
    f"UPDATE {COMMISSION} SET minor = 0",
    f"DELETE FROM {COMMISSION}",
]
if connection.vendor == "postgresql":
    CHANGES += [
        f"TRUNCATE {ENTRY} CASCADE",
        "TRUNCATE affiliations_rewards_account CASCADE",
        "TRUNCATE affiliations_partner CASCADE",
    ]
if connection.vendor == "mysql":
    CHANGES += [
        f"REPLACE INTO {ENTRY} SELECT * FROM {ENTRY}",
        f"INSERT INTO {ENTRY} SELECT * FROM {ENTRY} AS old ON DUPLICATE KEY UPDATE memo = 'x'",
    ]
else:
    upsert = "ON CONFLICT (id) DO UPDATE SET memo = 'x'"
    CHANGES += [f"INSERT INTO {ENTRY} SELECT * FROM {ENTRY} WHERE true {upsert}"]


@pytest.fixture
def partner(db):
    """A partner with a commission and a credit."""
    make_rule()
    partner = make_partner()
    convert(partner)
    ledger.post(account_of(partner), Money(500, "EUR"), kind="credit", key="welcome")
    return partner


def rows():
    return [list(model.objects.order_by("pk").values()) for model in (Entry, Commission)]


@contextmanager
def refused():
    """Expect the database to refuse something, which has changed nothing."""
    connection.check_constraints()  # PostgreSQL truncates nothing that is still to be checked
    before = rows()
    assert all(before)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        yield
    assert rows() == before


@pytest.mark.parametrize("sql", CHANGES)
def test_no_change_by_sql(partner, sql):
    with refused(), connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.mark.parametrize("model", [Entry, Commission])
@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.update(minor=1),
        lambda found: found.order_by()._raw_delete(found.db),
        lambda found: found.bulk_update(_changed(found), ["minor"]),
        lambda found: found.bulk_create(
            found.all(), update_conflicts=True, update_fields=["created_on"], **_target()
        ),
    ],
)
def test_no_change_by_querysets(partner, model, change):
    with refused():
        change(model.objects.all())


def _target():
    return {} if connection.vendor == "mysql" else {"unique_fields": ["pk"]}


def _changed(found):
    for each in found:
        each.minor += 1
        yield each


@pytest.mark.parametrize("model", [Entry, Commission])
def test_no_change_by_a_model(partner, model):
    before = rows()
    row = model.objects.latest("pk")
    row.minor += 1
    with pytest.raises(InvalidTransition, match="never changes"):
        row.save()
    if model is Entry:
        with pytest.raises(InvalidTransition, match="reversal"):
            row.delete()
    assert rows() == before


def test_a_deletion_elsewhere_takes_nothing_along(partner):
    before = rows()
    for doomed in (Conversion.objects.get(), partner):
        with pytest.raises(IntegrityError), transaction.atomic():
            doomed.delete()
    assert rows() == before


# Where it is, and where it is not


@pytest.mark.django_db
def test_after_all_migrations_it_is_there():
    assert protection.is_installed(connection)


@pytest.mark.django_db(transaction=True)
def test_one_trigger_less_is_noticed():
    name = f"{ENTRY}_append_only ON {ENTRY}"
    if connection.vendor != "postgresql":
        name = f"{ENTRY}_no_delete"
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER {name}")
        assert not protection.is_installed(connection)
        call_command("migrate", verbosity=0)
        assert protection.is_installed(connection)
    finally:
        protection.remove(connection)
        assert not protection.is_installed(connection)
        protection.install(connection)
    assert protection.is_installed(connection)


@pytest.mark.django_db(transaction=True)
def test_a_table_that_is_made_anew_keeps_its_rows_and_is_protected(partner):
    """As SQLite does it where a column changes."""
    before = rows()
    app = "affiliations_rewards"
    MigrationExecutor(connection).migrate([(app, "0002_append_only")])
    try:
        MigrationExecutor(connection).migrate([(app, "0003_promised")])
        assert protection.is_installed(connection)
    finally:
        call_command("migrate", app, verbosity=0)
    assert protection.is_installed(connection)
    assert rows() == before


@pytest.mark.django_db(transaction=True)
def test_the_migration_is_reversible():
    def go_to(name):
        MigrationExecutor(connection).migrate([("affiliations_rewards", name)])

    newest = max(
        name
        for app, name in MigrationExecutor(connection).loader.graph.leaf_nodes()
        if app == "affiliations_rewards"
    )
    try:
        go_to("0001_initial")
        protection.repair(using="default")
        assert not protection.is_installed(connection)
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT proname FROM pg_proc WHERE proname LIKE 'affiliations_rewards%'"
                )
                assert not cursor.fetchall()
    finally:
        go_to(newest)
    assert protection.is_installed(connection)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="restores with no path")
def test_a_dump_of_rows_is_restored(partner):
    """As pg_restore does it: with nothing to look tables up in."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        [[schema]] = cursor.fetchall()
        cursor.execute("SELECT set_config('search_path', '', true)")
        row = "account_id, contra_id, kind, minor, memo, available_on, created_on"
        cursor.execute(
            f"INSERT INTO {schema}.{ENTRY} (key, {row})"
            f" SELECT 'restored', {row} FROM {schema}.{ENTRY} WHERE kind = 'credit'"
        )
        cursor.execute("SELECT set_config('search_path', %s, true)", [schema])
    assert Entry.objects.filter(key="restored").exists()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="has no such function")
@pytest.mark.django_db(transaction=True)
def test_the_function_of_before_is_made_anew():
    name = f"{ENTRY}_hold"
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER {ENTRY}_held ON {ENTRY}")
            cursor.execute(
                f"CREATE TRIGGER {name} BEFORE INSERT ON {ENTRY}"
                " FOR EACH ROW EXECUTE FUNCTION affiliations_rewards_hold()"
            )
        assert not protection.is_installed(connection)
        call_command("migrate", verbosity=0)
        assert protection.is_installed(connection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_trigger WHERE tgname = %s", [name])
            assert not cursor.fetchall()
    finally:
        protection.install(connection)


@pytest.mark.django_db(transaction=True)
def test_flush_empties_the_ledger_and_leaves_it_protected(partner):
    call_command("flush", verbosity=0, interactive=False)
    assert rows() == [[], []]
    assert protection.is_installed(connection)
    make_rule()
    convert()
    with refused():
        Entry.objects.update(minor=1)
    with refused(), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {ENTRY}")


class KilledError(Exception):
    pass


@pytest.mark.django_db(transaction=True)
def test_whoever_is_interrupted_leaves_it_protected(partner):
    def interrupted():
        with protection.lifted(connection):
            raise KilledError

    with pytest.raises(KilledError):
        interrupted()
    assert protection.is_installed(connection)
    for sql in CHANGES:
        with refused(), connection.cursor() as cursor:
            cursor.execute(sql)


@pytest.mark.django_db(transaction=True)
def test_whoever_lacks_the_triggers_is_told():
    assert check_database(None, databases=["default"]) == []
    assert check_database(None) == []
    protection.remove(connection)
    try:
        [message] = check_database(None, databases=["default"])
        assert message.id == "affiliations_rewards.W011"
        # What the hint says.
        call_command("migrate", verbosity=0)
        assert check_database(None, databases=["default"]) == []
    finally:
        if not protection.is_installed(connection):
            protection.install(connection)
