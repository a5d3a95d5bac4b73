"""What is held of what somebody did: shown whole, and erased whole."""

import json
import threading
import time

import pytest
from django.core import serializers
from django.db import connection, connections

from affiliations import savepoints
from affiliations.privacy import export_user, forget_user
from affiliations.tracking import hits, identities, privacy
from affiliations.tracking.models import Customer, Hit, HitKey, Identity, Property
from tests.core.factories import make_partner, make_user, make_visitor
from tests.tracking.factories import hit, known, make_property, names, people, say

pytestmark = pytest.mark.django_db

MARKS = ("marked-cookie", "marked-order", "marked-page", "marked-referrer", "marked-campaign")


@pytest.fixture
def shop():
    return make_property()


@pytest.fixture
def anna():
    user = make_user()
    user.email = "Anna@Example.com"
    user.save()
    make_visitor(make_partner(), user=user, ident="marked-cookie")
    return user


def marked(prop, who):
    """Record what leads back to somebody in every field."""
    hit(
        prop,
        who,
        type="transaction",
        url="https://shop.example/marked-page?utm_source=x&utm_campaign=marked-campaign",
        referrer="https://marked-referrer.example/",
        title="marked-page",
        transaction_id="marked-order",
        meta={"agent": "marked-page"},
    )


def dump():
    kinds = (Customer, Identity, Hit, HitKey)
    return "".join(serializers.serialize("json", each.objects.all()) for each in kinds)


def test_a_user_is_shown_all_of_it_and_then_nothing_is_left(shop, anna):
    other = make_property()
    say(shop, f"user:{anna.pk} email:anna@example.com cookie:another")
    marked(shop, "cookie:another")
    marked(other, "cookie:marked-cookie")
    hit(shop, "cookie:stranger client:theirs")
    shown = json.dumps(export_user(anna)["tracking"])
    for each in (*MARKS, "another", "anna@example.com"):
        assert each in shown
    assert "stranger" not in shown
    erased = forget_user(anna)
    assert (erased["hits"], erased["customers"]) == (2, 2)
    left = dump()
    for each in (*MARKS, "another", "anna@example.com", f'"{anna.pk}"'):
        assert each not in left
    assert people(shop) == ["client:theirs cookie:stranger"]
    assert Hit.objects.count() == 1
    assert export_user(anna)["tracking"] == []
    # An order does not come back by being told again.
    marked(shop, "cookie:another")
    assert Hit.objects.count() == 1


@pytest.mark.parametrize(
    ("who", "whose"),
    [
        ("user:{pk}", True),
        ("email:anna@example.com", True),
        ("client:Anna@Example.com", True),
        ("cookie:marked-cookie", True),
        ("client:{pk}", False),
        ("cookie:{pk}", False),
        ("cookie:anna@example.com", False),
        ("client:customer-7", False),
        ("user:7{pk}", False),
        # Somebody else who was logged in with the same browser.
        ("cookie:marked-cookie user:7{pk}", False),
        ("cookie:marked-cookie user:{pk}", True),
    ],
)
def test_by_what_a_user_is_known(shop, anna, who, whose):
    hit(shop, who.format(pk=anna.pk))
    assert len(export_user(anna)["tracking"]) == whose
    forget_user(anna)
    assert Hit.objects.exists() is not whose
    assert Customer.objects.exists() is not whose


def client_ids(user):
    return [f"customer-{user.pk}", user.pk, ""]


def test_what_the_site_calls_its_users(shop, anna, settings):
    settings.AFFILIATE_TRACKING_CLIENT_IDS = "tests.tracking.test_privacy.client_ids"
    hit(shop, f"client:customer-{anna.pk}")
    hit(shop, f"client:{anna.pk}")
    hit(shop, "client:other")
    assert len(export_user(anna)["tracking"]) == 2
    forget_user(anna)
    assert people(shop) == ["client:other"]


def test_what_is_shown_of_a_hit(shop, anna):
    partner = make_partner()
    hit(shop, "cookie:marked-cookie", partner_id=partner.pk, arrived=True, link="summer")
    [[shown]] = [each["hits"] for each in export_user(anna)["tracking"]]
    assert (shown["partner"], shown["link"], shown["channel"]) == (
        partner.name,
        "summer",
        "affiliate",
    )


def test_more_names_than_one_query_asks_for(shop, anna, monkeypatch):
    monkeypatch.setattr(privacy, "BATCH", 2)
    say(shop, f"user:{anna.pk} " + " ".join(f"cookie:c{number}" for number in range(9)))
    for number in range(9):
        hit(shop, f"cookie:c{number}")
    assert forget_user(anna)["hits"] == 9
    assert not Identity.objects.exists()


# Amid what somebody goes on doing


def erased_amid_hits(user, write):
    """Erase somebody whose hits four threads go on writing; return the hits of nobody's."""
    prop = make_property()
    say(prop, f"user:{user.pk} cookie:c")
    found, stop = known(prop), threading.Event()

    def go_on():
        try:
            while not stop.is_set():
                write(found, names("cookie:c"), hits.new_hit(found, type="pageview"))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=go_on) for _ in range(4)]
    for each in threads:
        each.start()
    try:
        for _ in range(10):
            say(prop, f"user:{user.pk} cookie:c")
            forget_user(user)
    finally:
        stop.set()
        for each in threads:
            each.join()
    return Hit.objects.exclude(identity__in=Identity.objects.values("pk")).count()


@pytest.mark.django_db(transaction=True)
def test_no_hit_is_left_of_whoever_is_erased():
    assert erased_amid_hits(make_user(), hits.record) == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="has one writer at a time")
def test_teeth_to_look_up_who_it_is_and_then_write():
    def looks_and_writes(found, who, told):
        identities.identify(found.row, who)
        pk = Identity.objects.filter(property=found.id, value="c").values_list("pk", flat=True)
        pk = next(iter(pk), None)
        if pk is None:
            return
        time.sleep(0.005)
        fields = {**told._asdict(), "click_ids": {}, "meta": {}}
        Hit.objects.create(property_id=found.id, identity_id=pk, **fields)

    def in_one_transaction(*told):
        # MariaDB may end one of them where two are in each other's way, which is not what bites.
        savepoints.retried(lambda: looks_and_writes(*told), "default")

    for _ in range(10):
        if erased_amid_hits(make_user(), in_one_transaction):
            return
        Property.objects.all().delete()
    pytest.fail("ten times nobody was in anybody's way")
