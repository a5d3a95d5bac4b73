"""A failure of ours leaves the site's transaction whole, or tells that it is gone."""

import threading
from contextlib import suppress

import pytest
from django.contrib.auth import get_user_model
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.test import override_settings

from affiliations import savepoints, services
from affiliations.signals import conversion_reversed
from affiliations.triggers import Trigger
from tests.core.factories import make_user
from tests.shop.models import Order

pytestmark = pytest.mark.django_db(transaction=True)

POST_SAVE = "django.db.models.signals.post_save"


def end_it_all(**kwargs):
    """Do what a database does that undoes a transaction to break a deadlock."""
    with connection.cursor() as cursor:
        cursor.execute("ROLLBACK")
    raise DatabaseError("the transaction was undone")


def by_trigger():
    trigger = Trigger("Ordered", POST_SAVE, f"{__name__}.end_it_all", "shop.Order")
    with override_settings(AFFILIATE_TRIGGERS=[trigger], AFFILIATE_RAISE_TRIGGER_ERRORS=False):
        Order.objects.create(number="A-2", total=1)


def by_service():
    services.guarded(end_it_all, "It failed")


def by_signal():
    conversion_reversed.connect(end_it_all)
    try:
        conversion_reversed.announce(None, using="default")
    finally:
        conversion_reversed.disconnect(end_it_all)


def order_and(failing):
    """Place an order in a transaction in which something of ours ends it; return what is told."""
    try:
        with transaction.atomic():
            Order.objects.create(number="A-1", total=1)
            failing()
    except DatabaseError:
        return "failed"
    return "placed"


@pytest.mark.parametrize("failing", [by_trigger, by_service, by_signal])
def test_a_caller_whose_transaction_is_gone_hears_of_it(failing):
    assert order_and(failing) == "failed"
    assert not Order.objects.exists()


@pytest.mark.parametrize("failing", [by_trigger, by_service, by_signal])
def test_teeth_to_log_it_and_go_on_loses_the_order_unseen(failing, monkeypatch):
    monkeypatch.setattr(savepoints, "is_lost", lambda using: False)
    assert order_and(failing) == "placed"
    assert not Order.objects.exists()


both_hold_one = threading.Barrier(2)


def want_the_others(instance, **kwargs):
    """Lock a row that the other transaction holds, while it does the same."""
    both_hold_one.wait(30)
    mine, others = instance.number.split()
    get_user_model().objects.filter(username=others).update(first_name=mine)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="lets no two transactions write at once")
def test_in_a_deadlock_nobody_is_told_that_a_lost_order_is_placed():
    told = {}
    users = [make_user("ada"), make_user("bob")]

    def work(mine, others):
        try:
            with transaction.atomic():
                get_user_model().objects.filter(username=mine).update(first_name=mine)
                Order.objects.create(number=f"{mine} {others}", total=1)
            told[mine] = True
        except DatabaseError:
            told[mine] = False
        finally:
            connections.close_all()

    trigger = Trigger("Ordered", POST_SAVE, f"{__name__}.want_the_others", "shop.Order")
    with override_settings(AFFILIATE_TRIGGERS=[trigger], AFFILIATE_RAISE_TRIGGER_ERRORS=False):
        names = [user.get_username() for user in users]
        pairs = [names, names[::-1]]
        threads = [threading.Thread(target=work, args=pair) for pair in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    placed = {number.split()[0] for number in Order.objects.values_list("number", flat=True)}
    assert placed == {name for name, well in told.items() if well}
    # MariaDB undoes one of them whole, PostgreSQL only what the trigger did.
    assert len(placed) == (1 if connection.vendor == "mysql" else 2)


@pytest.mark.parametrize(
    ("code", "times"),
    [(1020, 2), (1205, 2), (1213, 2), (1467, 2), (1064, 1)],
    ids=["changed", "waited", "deadlock", "numbers", "syntax"],
)
def test_what_was_ended_for_somebody_elses_sake_is_tried_again(code, times):
    tried = []

    def action():
        tried.append(code)
        if len(tried) == 1:
            raise OperationalError(code, "try restarting transaction")
        return "done"

    with suppress(OperationalError):
        assert savepoints.retried(action, DEFAULT_DB_ALIAS) == "done"
    assert len(tried) == times
