"""Who is handed which callbacks: what is kept in mind, what is asked anew, and what is read."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone

from affiliations import callbackurl, claims, outbox, outcomes
from affiliations.delivery import deliver_due
from affiliations.models import Callback, Destination
from affiliations.testing import freeze
from tests.core.factories import make_partner

pytestmark = pytest.mark.django_db

CAP = 4


def make_waiting(hosts=("a.example",), number=1):
    """Return callbacks that are due, so many for each of the hosts."""
    partner = make_partner()
    outbox.know(hosts, "default")
    due = timezone.now() - timedelta(seconds=1)
    return Callback.objects.bulk_create(
        Callback(partner=partner, url=f"http://{host}/x", host=host, due=due)
        for host in hosts
        for _ in range(number)
    )


def looks(monkeypatch):
    """Return a list that grows whenever somebody looks through all hosts."""
    seen = []
    look = claims._with_work
    monkeypatch.setattr(claims, "_with_work", lambda *args: seen.append(1) or look(*args))
    return seen


def test_what_is_read_is_what_the_models_read():
    partner = make_partner({"Order placed": "http://partner.example/x?v={visitor_id}"})
    subscription = partner.subscriptions.get()
    subscription.failing_since = timezone.now()
    subscription.failures = 3
    subscription.save()
    partner.rotate_secret()
    fields = {"partner": partner, "url": "http://a.example/x", "body": "ü \N{GRINNING FACE}"}
    Callback.objects.bulk_create(
        [
            Callback(**fields, subscription=subscription),
            Callback(**fields, resent_on=timezone.now()),
        ]
    )
    assert outbox.adopt() == 1
    taken = claims.Claimer().claim(2)
    assert len(taken) == 2
    read = Callback.objects.select_related("partner", "subscription").order_by("pk")
    for mine, theirs in zip(taken, read, strict=True):
        for one, other in (
            (mine, theirs),
            (mine.partner, theirs.partner),
            (mine.subscription, theirs.subscription),
        ):
            assert (one is None) is (other is None)
            for field in one._meta.concrete_fields if one else ():
                values = (getattr(one, field.attname), getattr(other, field.attname))
                assert values[0] == values[1]
                assert type(values[0]) is type(values[1]), field
    assert taken[1].subscription is None
    assert taken[0]._state.db == taken[0].partner._state.db == "default"
    assert not taken[0]._state.adding
    # As if it had been loaded by Django: a change of the uid is noticed, and is none of its own.
    taken[0].partner.save()
    taken[0].subscription.save()


def test_the_hosts_are_looked_through_once_in_a_while(monkeypatch):
    make_waiting([f"{name}.example" for name in "abcdef"])
    seen = looks(monkeypatch)
    claimer = claims.Claimer()
    hosts = {claimer.claim()[0].host for _ in range(6)}
    assert len(hosts) == 6
    assert len(seen) == 1
    # There is nothing more that it had in mind.
    assert claimer.claim() == []
    assert len(seen) == 2
    make_waiting([f"{name}.example" for name in "gh"])
    assert claimer.claim()
    monkeypatch.setattr(claims, "FRESH", 0.0)
    assert claimer.claim()
    assert len(seen) == 4
    assert claims.Claimer().claim() == []


def with_two_in_mind():
    """Return a claimer that has claimed from one of three hosts, and which hosts are left."""
    make_waiting(["a.example", "b.example", "c.example"], CAP)
    claimer = claims.Claimer()
    [one] = claimer.claim()
    return claimer, {"a.example", "b.example", "c.example"} - {one.host}


@pytest.mark.parametrize("change", ["paused", "full"])
def test_what_became_of_a_host_meanwhile_is_seen(monkeypatch, change):
    claimer, [first, second] = with_two_in_mind()
    seen = looks(monkeypatch)
    if change == "paused":
        until = timezone.now() + timedelta(minutes=1)
        Destination.objects.filter(host=first).update(paused_until=until)
    else:
        rows = Callback.objects.filter(host=first)
        rows.update(token="0" * 32, due=timezone.now() + timedelta(seconds=30))
        make_waiting([first], CAP)
    assert {each.host for each in claimer.claim(2)} == {second}
    assert seen == []


def test_a_host_that_fails_meanwhile_gets_one_call(monkeypatch):
    claimer, [first, _] = with_two_in_mind()
    Destination.objects.filter(host=first).update(failures=outcomes.TROUBLE)
    monkeypatch.setattr(claims, "_with_work", lambda *args: [first])
    claimer._hosts = [first]
    assert len(claimer.claim(CAP)) == 1
    assert claimer.claim(CAP) == []


@pytest.mark.parametrize("broken", ["", "the lock's question", "both"])
def test_no_more_are_claimed_than_a_host_may_have_under_way(monkeypatch, broken):
    """It is asked twice: of what is locked, and when nobody else can claim there any more."""
    make_waiting(["a.example"], 3 * CAP)
    claimers = [claims.Claimer() for _ in range(3)]
    for each in claimers:
        # As if all had looked at the same moment.
        each._hosts, each._looked = ["a.example"], float("inf")
    if broken:
        without = claims.LOCK.replace("({leased}) <", "(0 * ({leased})) <")
        assert without != claims.LOCK
        monkeypatch.setattr(claims, "LOCK", without)
    if broken == "both":
        monkeypatch.setattr(claims, "NEXT", claims.NEXT.replace("({leased})", "0 * ({leased})"))
    taken = sum(len(each.claim(CAP)) for each in claimers)
    assert taken == (3 * CAP if broken == "both" else CAP)


def test_however_many_hosts_may_not_be_called_right_now_another_is_found(monkeypatch):
    monkeypatch.setattr(claims, "SPARE", 1)
    full = [f"full-{number}.example" for number in range(20)]
    make_waiting(full, CAP + 1)
    leased = [each.pk for host in full for each in Callback.objects.filter(host=host)[:CAP]]
    later = timezone.now() + timedelta(seconds=30)
    Callback.objects.filter(pk__in=leased).update(token="0" * 32, due=later)
    make_waiting(["free.example"])
    Callback.objects.filter(host="free.example").update(due=timezone.now())
    assert [each.host for each in claims.Claimer().claim()] == ["free.example"]
    assert claims.Claimer().claim() == []


def test_nothing_waits_behind_what_is_parked_however_much(monkeypatch):
    """A run by cron ends when nothing is found: not behind rows that it has just parked."""
    monkeypatch.setattr(outbox, "BATCH", 1)
    partner = make_partner({"Order placed": "http://a.example/x?v={visitor_id}"})
    subscription = partner.subscriptions.get()
    outbox.switch_off(subscription, reason="gone")
    number = 3 * claims.TRIES
    rows = make_waiting(number=number)
    Callback.objects.filter(pk__in=[each.pk for each in rows]).update(subscription=subscription)
    with freeze() as clock:
        clock.tick(minutes=1)
        [last] = make_waiting()
        assert [each.pk for each in claims.Claimer().claim()] == [last.pk]
    assert Callback.objects.filter(state="parked").count() == number


def test_none_of_no_ids_are_claimed():
    [one, other] = make_waiting(number=2)
    assert claims.Claimer([]).claim() == []
    assert [each.pk for each in claims.Claimer([other.pk, 0]).claim(5)] == [other.pk]
    assert deliver_due(ids=[other.pk]) == (0, 0)
    one.refresh_from_db()
    assert one.attempts == 0


def test_a_claim_locks_no_more_hosts_than_it_needs(django_assert_max_num_queries):
    make_waiting([f"{name}.example" for name in "abc"])
    claimer = claims.Claimer()
    claimer.claim()
    # Begin and commit, where they are statements; locks, the next ones, the update, the rows.
    most = 6 + (not connection.features.has_select_for_update_skip_locked)
    with django_assert_max_num_queries(most):
        assert claimer.claim()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="a connection keeps its time zone")
def test_a_site_without_time_zones_claims_too(settings):
    settings.USE_TZ = False
    [row] = make_waiting()
    claimer = claims.Claimer()
    assert [each.pk for each in claimer.claim()] == [row.pk]
    assert claimer.claim() == []


def test_a_host_in_another_spelling_ends_no_claim():
    """MariaDB takes the two for one, and Python does not."""
    [mine] = make_waiting(["partner.example"])
    strange = Callback.objects.create(
        partner=make_partner(), url="http://Partner.Example/x", host="Partner.Example"
    )
    outbox.adopt()
    taken = [claims.Claimer().claim(CAP) for _ in range(2)]
    assert {each.pk for some in taken for each in some} == {mine.pk, strange.pk}


def test_a_host_is_known_in_lower_case():
    assert callbackurl.host("https://Partner.Example:443/X?y") == "partner.example"


def test_values_are_read_by_the_connection_that_they_came_by():
    """Two databases of one kind may keep their times in two zones."""
    connections["other"] = connections["default"].copy("other")
    try:
        for alias in ("default", "other"):
            converters = [
                each for _, _, some in claims._converters(Callback, alias) for each in some
            ]
            of = [each.__self__ for each in converters if hasattr(each, "__self__")]
            ours = [each.connection for each in of if hasattr(each, "connection")]
            assert all(each is connections[alias] for each in ours)
    finally:
        del connections["other"]


@pytest.mark.skipif(connection.vendor == "postgresql", reason="a session keeps its time zone")
def test_nothing_waits_where_the_database_is_in_another_zone(monkeypatch):
    connection = connections["default"]
    monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", "America/New_York")
    for name in ("timezone", "timezone_name"):
        monkeypatch.delitem(connection.__dict__, name, raising=False)
    outbox.know(["a.example"], "default")
    seen = looks(monkeypatch)
    with freeze(datetime(2026, 7, 1, 2, tzinfo=UTC)):
        assert claims.Claimer().claim() == []
    assert len(seen) == 1


def test_a_host_that_has_all_it_may_is_no_race_that_was_lost(monkeypatch):
    make_waiting(number=CAP + 1)
    slept = []
    monkeypatch.setattr(claims.time, "sleep", slept.append)
    claimer = claims.Claimer()
    assert len(claimer.claim(CAP)) == CAP
    assert claimer.claim(CAP) == []
    assert slept == []


def test_a_claim_of_very_many_hosts_takes_what_a_statement_can_hold():
    """SQLite takes no union of more than 500 parts."""
    make_waiting([f"{number}.example" for number in range(600)])
    assert len(claims.Claimer().claim(600)) == claims.MOST
