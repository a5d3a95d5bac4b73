"""Many threads at once: what happened once is recorded once, and what never happened is not."""

import fcntl
import tempfile
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.utils import timezone

from affiliations import receivers, services
from affiliations.models import ApiKey, Callback, Conversion, Partner, Share, Visitor
from affiliations.signing import decode_secret
from affiliations.testing import callback_server, deliver
from affiliations.triggers import complete_trigger
from tests.core.factories import make_partner, make_user, make_visitor
from tests.shop.models import Order

pytestmark = pytest.mark.django_db(transaction=True)

# On SQLite each writer waits for its turn, so that more of them only take longer.
FIFTY = 8 if connection.vendor == "sqlite" else 50
PARTNERS = 2
RACE = Path(tempfile.gettempdir()) / "affiliations-race.lock"


def at_once(number, work):
    """Let so many threads do `work` at the same moment, and return their answers."""
    start = threading.Barrier(number)

    def run():
        try:
            connection.ensure_connection()
            start.wait(60)
            return work()
        finally:
            connections.close_all()

    # A server has a hundred connections, say: of several processes of tests one races at a time.
    with RACE.open("w") as race, ThreadPoolExecutor(number) as pool:
        fcntl.flock(race, fcntl.LOCK_EX)
        return [each.result() for each in [pool.submit(run) for _ in range(number)]]


@pytest.fixture
def server():
    with callback_server() as server:
        yield server


def evenly(candidates):
    return [(each, Fraction(1, len(candidates))) for each in candidates]


@pytest.fixture
def visitors(server, settings):
    """One person's visits through several partners, who share what it earns."""
    settings.AFFILIATE_ATTRIBUTION = f"{__name__}.evenly"
    user = make_user()
    return [
        make_visitor(make_partner({"Order placed": server.callback_url}), user=user)
        for _ in range(PARTNERS)
    ]


def by_service(visitors):
    return services.record_conversion(
        trigger="Order placed",
        reference="A-1",
        user=visitors[0].user,
        known={each.pk: "caller" for each in visitors},
    )


def by_trigger(visitors):
    return complete_trigger(None, "Order placed", user=visitors[0].user, reference="A-1")


def fire_at_once(server, visitors, fire):
    """Let all threads fire for the same person; return what came of it, as it is counted."""

    def work():
        try:
            with transaction.atomic():
                return fire(visitors)
        except DatabaseError as error:
            return error

    answers = at_once(FIFTY, work)
    said = {each.pk for each in answers if isinstance(each, Conversion)}
    assert said == set(Conversion.objects.values_list("pk", flat=True))
    return {
        "errors": [each for each in answers if isinstance(each, DatabaseError)],
        "told of it": len(said),
        "conversions": Conversion.objects.count(),
        "shares": Share.objects.count(),
        "callbacks": Counter(Callback.objects.values_list("partner", flat=True)),
        "calls": len(server.received),
        "ids": len({call.headers["webhook-id"] for call in server.received}),
        "successes": Visitor.objects.successful().count(),
    }


def once(visitors):
    return {
        "errors": [],
        "told of it": 1,
        "conversions": 1,
        "shares": PARTNERS,
        "callbacks": Counter(each.partner_id for each in visitors),
        "calls": PARTNERS,
        "ids": PARTNERS,
        "successes": PARTNERS,
    }


@pytest.mark.parametrize("fire", [by_service, by_trigger])
def test_what_many_threads_fire_converts_once_and_calls_each_partner_once(server, visitors, fire):
    assert fire_at_once(server, visitors, fire) == once(visitors)


def test_teeth_a_key_that_each_call_makes_for_itself(server, visitors, monkeypatch):
    """As with a column that may be NULL, which no constraint takes for the same twice."""
    monkeypatch.setattr(services, "conversion_key", lambda *args: uuid.uuid4().hex)
    counted = fire_at_once(server, visitors, by_service)
    # MariaDB may end all but one of them as victims of a deadlock.
    assert counted["conversions"] > 1 or counted["errors"]
    assert counted != once(visitors)


@contextmanager
def without_the_constraint():
    [constraint] = [
        each for each in Conversion._meta.constraints if each.name.endswith("conversion_once")
    ]
    with connection.schema_editor() as editor:
        editor.remove_constraint(Conversion, constraint)
    try:
        yield
    finally:
        Callback.objects.all().delete()
        Conversion.objects.all().delete()
        with connection.schema_editor() as editor:
            editor.add_constraint(Conversion, constraint)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="lets no two transactions write at once")
def test_teeth_a_look_before_the_insert_and_no_more(server, visitors):
    with without_the_constraint():
        counted = fire_at_once(server, visitors, by_service)
    # MariaDB may end all but one of them as victims of a deadlock.
    assert counted["conversions"] > 1 or counted["errors"]
    assert counted != once(visitors)


def test_different_orders_of_one_person_at_the_same_moment_all_stay_and_all_count(
    visitors, settings
):
    settings.AFFILIATE_RAISE_TRIGGER_ERRORS = False  # as on a live site
    numbers = [f"N-{number}" for number in range(FIFTY)]
    user, left = visitors[0].user, list(numbers)

    def work():
        with transaction.atomic():
            Order.objects.create(number=left.pop(), total=1, user=user)

    at_once(FIFTY, work)
    assert set(Order.objects.values_list("number", flat=True)) == set(numbers)
    assert Conversion.objects.filter(trigger="Order placed").count() == FIFTY
    assert Callback.objects.count() == FIFTY * PARTNERS


# One row


def succeed_at_once():
    visitor = make_visitor()
    stale = [Visitor.objects.get(pk=visitor.pk) for _ in range(FIFTY)]
    won = at_once(FIFTY, lambda: stale.pop().succeed())
    assert Visitor.objects.get(pk=visitor.pk).successful_on
    return won.count(True)


def test_a_visitor_succeeds_once():
    assert succeed_at_once() == 1


def test_teeth_a_success_that_is_looked_up_and_then_written(monkeypatch):
    def succeed(visitor):
        if visitor.successful_on is not None:
            return False
        visitor.successful_on = timezone.now()
        visitor.save()
        return True

    monkeypatch.setattr(Visitor, "succeed", succeed)
    assert succeed_at_once() > 1


def rotate_at_once():
    """Return how many of the secrets had another one follow them that still names them."""
    partner = make_partner()
    stale = [Partner.objects.get(pk=partner.pk) for _ in range(20)]

    def work():
        own = stale.pop()
        secret = decode_secret(own.rotate_secret())
        assert own.signing_secrets()[0] == secret
        return own.signing_secrets()

    answers = at_once(20, work)
    current = {now for now, _ in answers}
    assert len(current) == 20
    assert Partner.objects.get().signing_secrets()[0] in current
    return len({before for _, before in answers})


def test_of_rotations_at_once_each_keeps_the_secret_before_it():
    # The first secret and nineteen of the new ones: each is the previous one of exactly one other.
    assert rotate_at_once() == 20


def test_teeth_a_rotation_that_trusts_what_it_has_read(monkeypatch):
    rotate = Partner.rotate_secret

    def rotate_secret(partner):
        before = partner.secret_salt
        secret = rotate(partner)
        partner.previous_salt = before
        partner.save()
        return secret

    monkeypatch.setattr(Partner, "rotate_secret", rotate_secret)
    assert rotate_at_once() < 20


def test_keys_that_are_issued_at_once_all_work():
    issued = at_once(20, lambda: ApiKey.objects.issue(name="key", scopes=["read"]))
    assert ApiKey.objects.count() == 20
    for key, token in issued:
        assert ApiKey.objects.authenticate(token, scope="read") == key
    # And a key that is revoked by all of them is revoked by one.
    key, token = issued[0]
    stale = [ApiKey.objects.get(pk=key.pk) for _ in range(20)]
    assert at_once(20, lambda: stale.pop().revoke()).count(True) == 1


# What is rolled back


class CallerFailedError(Exception):
    pass


def roll_back(server, visitors, fire):
    """Fire in transactions that fail, whole or in a part; return what is left of it."""

    def fail():
        with transaction.atomic():
            assert fire(visitors)
            raise CallerFailedError

    with pytest.raises(CallerFailedError):
        fail()
    with transaction.atomic():
        with pytest.raises(CallerFailedError):
            fail()
        make_user()  # so that there is something to commit
    left = [Conversion.objects.count(), Callback.objects.count(), Share.objects.count()]
    return [*left, Visitor.objects.successful().count(), len(server.received), *deliver()]


@pytest.mark.parametrize("fire", [by_service, by_trigger])
def test_a_rollback_of_the_caller_leaves_nothing_and_calls_nobody(server, visitors, fire):
    assert not any(roll_back(server, visitors, fire))
    with transaction.atomic():
        assert fire(visitors)
    assert len(server.received) == PARTNERS


def test_teeth_a_call_before_the_commit(server, visitors, monkeypatch):
    monkeypatch.setattr(receivers.transaction, "on_commit", lambda wake, **options: wake())
    assert any(roll_back(server, visitors, by_service))
