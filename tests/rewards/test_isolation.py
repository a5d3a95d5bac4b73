"""Where whoever has waited for a lock does not see what it was held for, nothing is spent."""

from contextlib import contextmanager
from threading import Barrier

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from affiliations import isolation
from affiliations.money import Money
from affiliations.rewards import ledger
from affiliations.rewards.checks import check_database
from affiliations.rewards.models import Entry
from tests.core.promises.test_races import at_once

if connection.vendor == "postgresql":
    import psycopg

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="has one writer at a time"),
]

USELESS = ["repeatable read", *(["read uncommitted"] if connection.vendor == "mysql" else [])]


@contextmanager
def connected(level):
    """Connect anew, by an isolation level, or by None for the server's own."""
    if connection.vendor == "postgresql" and level is not None:
        level = psycopg.IsolationLevel[level.replace(" ", "_").upper()]
    options = connection.settings_dict["OPTIONS"]
    before = dict(options)
    connection.close()
    options["isolation_level"] = level
    try:
        yield
    finally:
        connection.close()
        options.clear()
        options.update(before)


def spend(key="order"):
    account = ledger.account_of("member:1", "EUR")
    return ledger.spend(account, Money(400, "EUR"), key=key)


@pytest.fixture(autouse=True)
def _welcome(db):
    account = ledger.account_of("member:1", "EUR")
    ledger.post(account, Money(500, "EUR"), kind="credit", key="welcome")


@pytest.mark.parametrize("level", USELESS)
def test_it_is_refused_and_told(level):
    with connected(level):
        with pytest.raises(ImproperlyConfigured, match=f"'default' are {level.upper()}"):
            spend()
        [message] = check_database(None, databases=["default"])
        assert message.id == "affiliations_rewards.E012"
        assert level.upper() in message.msg
    assert Entry.objects.count() == 1
    assert spend()


@pytest.mark.parametrize("level", ["read committed", "serializable"])
def test_others_are_not(level):
    with connected(level):
        assert check_database(None, databases=["default"]) == []
        assert spend()


@pytest.mark.skipif(connection.vendor != "mysql", reason="the server's own is READ COMMITTED")
def test_the_servers_own_is_asked_for():
    """MariaDB's and MySQL's is REPEATABLE READ, unless somebody has changed it."""
    with connected(None):
        assert [each.id for each in check_database(None, databases=["default"])] == [
            "affiliations_rewards.E012"
        ]
        with pytest.raises(ImproperlyConfigured):
            spend()


def test_teeth_it_would_be_spent_twice(monkeypatch):
    monkeypatch.setattr(isolation, "BLIND", {})
    lock, keys, both = ledger.lock, ["one", "another"], Barrier(2)

    def late(account_ids, using):
        # A transaction sees what there is at its first question.
        Entry.objects.using(using).count()
        both.wait(30)
        lock(account_ids, using)

    monkeypatch.setattr(ledger, "lock", late)
    with connected("repeatable read"):
        at_once(2, lambda: spend(keys.pop()))
    assert ledger.balance(ledger.account_of("member:1", "EUR")).total == -300
