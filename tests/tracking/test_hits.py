"""What somebody did is written once, as it was told, under the name by which they did it."""

from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from django.utils import timezone

from affiliations.money import Money
from affiliations.tracking import hits
from affiliations.tracking.exceptions import InvalidHit
from affiliations.tracking.identities import find_customer
from affiliations.tracking.models import Customer, Hit, HitKey, Identity
from tests.core.factories import make_partner
from tests.core.promises.test_races import at_once
from tests.tracking.factories import hit, known, make_event_type, make_property, names, people, say

pytestmark = pytest.mark.django_db

URL = "https://shop.example/shoes?utm_source=google&utm_medium=cpc&utm_campaign=spring&gclid=Cj0"


@pytest.fixture
def shop():
    return make_property()


# What is kept


def test_a_hit_is_kept_as_it_was_told(shop):
    purchase = make_event_type(shop)
    yesterday = timezone.now() - timedelta(days=1)
    assert hit(
        shop,
        "cookie:abc client:42",
        type="event",
        event_type_id=purchase.pk,
        happened_on=yesterday,
        url=URL,
        referrer="https://www.google.de/",
        title="Shoes",
        value=Money(1990, "EUR"),
        transaction_id="R-1",
        is_informational=True,
        meta={"agent": "Zoë's", "depth": [1, None, {"a": True}]},
        link="summer",
    )
    kept = Hit.objects.select_related("identity", "event_type").get()
    assert (kept.identity.kind, kept.identity.value) == ("cookie", "abc")
    assert kept.property_id == shop.pk
    assert (kept.type, kept.event_type) == ("event", purchase)
    assert kept.happened_on == yesterday
    assert timezone.now() - kept.received_on < timedelta(minutes=1)
    assert (kept.url, kept.referrer, kept.title) == (URL, "https://www.google.de/", "Shoes")
    assert (kept.channel, kept.source, kept.medium) == ("paid_search", "google", "cpc")
    assert (kept.campaign, kept.term, kept.content) == ("spring", "", "")
    assert kept.click_ids == {"gclid": "Cj0"}
    assert (kept.minor, kept.currency, kept.transaction_id) == (1990, "EUR", "R-1")
    assert kept.is_informational is True
    assert kept.meta == {"agent": "Zoë's", "depth": [1, None, {"a": True}]}
    assert (kept.partner_id, kept.visitor_id, kept.link) == (None, None, "summer")


def test_a_hit_of_which_nothing_is_said_happens_now(shop):
    before = timezone.now()
    hit(shop, "cookie:abc")
    kept = Hit.objects.get()
    assert before <= kept.happened_on == kept.received_on <= timezone.now()
    assert (kept.channel, kept.click_ids, kept.meta, kept.minor) == ("", {}, {}, None)


def test_a_clock_that_is_ahead_a_little(shop):
    hit(shop, "cookie:abc", happened_on=timezone.now() + timedelta(hours=3))
    kept = Hit.objects.get()
    assert kept.happened_on == kept.received_on


def test_a_page_that_a_partner_led_to(shop):
    partner = make_partner()
    for uid, key, channel in ((partner.uid, partner.pk, "affiliate"), ("nobody", None, "")):
        url = f"https://x.example/?a=1&affiliate_id={uid}#top"
        found = hits.new_hit(known(shop), type="pageview", url=url)
        assert (found.partner_id, found.channel) == (key, channel)


def test_another_site_of_the_same_property_has_brought_nobody():
    shop = make_property(origins=["https://blog.example"])
    url, referrer = "https://shop.example/", "https://blog.example/shoes"
    assert hits.new_hit(known(shop), type="pageview", url=url, referrer=referrer).channel == ""
    other = known(make_property())
    assert hits.new_hit(other, type="pageview", url=url, referrer=referrer).channel == "referral"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": "visit"}, "type"),
        ({"type": "event"}, "title"),
        ({"url": "x" * 4001}, "url"),
        ({"referrer": "x" * 4001}, "referrer"),
        ({"transaction_id": "x" * 601}, "transaction_id"),
        ({"happened_on": datetime(1999, 12, 31, 23, 59, tzinfo=UTC)}, "created_at"),
        ({"happened_on": datetime(9000, 1, 1, tzinfo=UTC)}, "created_at"),
        ({"meta": {"a": "x" * 4090}}, "meta"),
        ({"meta": {"a": "é" * 2045}}, "meta"),
        *(({"meta": {"a": each}}, "meta") for each in (float("nan"), 1e400, object(), b"x")),
        *(({"meta": {"a": each}}, "meta") for each in ("a\0b", "\ud800", "\\\0")),
        *(({each: "a\0b"}, each) for each in ("url", "referrer", "title", "link")),
        ({"transaction_id": "\ud800"}, "transaction_id"),
        ({"link": "x" * 201}, "link"),
    ],
)
def test_what_no_hit_can_have(shop, fields, field):
    with pytest.raises(InvalidHit, match=rf"^{field}: "):
        hit(shop, "cookie:abc", **fields)
    assert not Hit.objects.exists()
    assert not Identity.objects.exists()


def test_the_latest_moment_that_can_be(shop):
    latest = timezone.now() + timedelta(days=1)
    assert hit(shop, "cookie:abc", happened_on=latest)
    with pytest.raises(InvalidHit, match=r"^created_at: "):
        hit(shop, "cookie:abc", happened_on=latest + timedelta(minutes=10))


@pytest.mark.parametrize("seconds", [1e300, float("inf"), float("nan"), -1e18, 2**63])
def test_what_is_no_moment(seconds):
    with pytest.raises(InvalidHit, match=r"^created_at: "):
        hits.happened(seconds)


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "x" * 4000, "referrer": "y" * 4000},
        {"transaction_id": "x" * 600},
        {"title": "x" * 501},
        {"meta": {"a": "x" * 4080}},
        {"meta": {"a": "\\u0000"}},
        {"happened_on": datetime(2000, 1, 1, tzinfo=UTC)},
        {"value": Money(2**63 - 1, "JPY")},
        {"value": Money(-1, "EUR")},
        {"value": Money(0, "EUR")},
        {"url": "🦊" * 1000, "title": "🦊" * 500},
    ],
)
def test_the_most_that_a_hit_can_have(shop, fields):
    assert hit(shop, "cookie:abc", **fields)
    kept = Hit.objects.get()
    for each, value in fields.items():
        if each == "value":
            assert Money(kept.minor, kept.currency) == value
        else:
            assert getattr(kept, each) == (value[:500] if each == "title" else value)


# Whose it is


def test_names_of_one_hit_are_one_persons(shop):
    say(shop, "client:42 cookie:old")
    hit(shop, "cookie:new client:42")
    assert people(shop) == ["client:42 cookie:new cookie:old"]
    assert Hit.objects.get().identity.value == "new"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (["cookie:a"], "cookie:a client:42"),
        (["cookie:a client:42", "cookie:b"], "cookie:b client:42"),
        (["cookie:a", "client:42", "cookie:b"], "cookie:b client:42 cookie:a"),
    ],
)
def test_whose_a_hit_is_may_turn_out_later(shop, first, then):
    for each in first:
        hit(shop, each)
    hit(shop, then)
    customer = find_customer(shop, 42)
    assert Hit.objects.filter(identity__customer=customer).count() == len(first) + 1
    assert Customer.objects.count() == 1


def test_a_person_of_too_many_names_is_written_of_all_the_same(shop, monkeypatch):
    monkeypatch.setattr("affiliations.tracking.identities.MOST", 3)
    for number in range(5):
        assert hit(shop, f"cookie:abc client:random{number}")
    assert Hit.objects.filter(identity__value="abc").count() == 5
    assert Customer.objects.count() == 1
    assert Identity.objects.count() <= 3


def test_the_same_name_in_another_property_is_somebody_else(shop):
    other = make_property()
    hit(shop, "cookie:abc")
    hit(other, "cookie:abc")
    assert Customer.objects.count() == 2
    assert {each.identity.property_id for each in Hit.objects.all()} == {shop.pk, other.pk}


def test_a_value_differs_by_case_and_kind(shop):
    for each in ("cookie:abc", "cookie:ABC", "client:abc"):
        hit(shop, each)
    assert Customer.objects.count() == 3


# How often


def test_what_is_told_twice_is_one(shop):
    purchase = make_event_type(shop)
    told = {"type": "event", "event_type_id": purchase.pk, "transaction_id": "R-1"}
    assert hit(shop, "cookie:abc", **told)
    assert not hit(shop, "cookie:abc", **told)
    assert not hit(shop, "cookie:other", **told)
    assert Hit.objects.count() == 1
    assert Customer.objects.count() == 1


def test_what_is_another(shop):
    purchase, signup = make_event_type(shop), make_event_type(shop, "signup")
    other = make_property()
    told = {"type": "event", "event_type_id": purchase.pk, "transaction_id": "R-1"}
    assert hit(shop, "cookie:abc", **told)
    assert hit(shop, "cookie:abc", **{**told, "transaction_id": "R-2"})
    assert hit(shop, "cookie:abc", **{**told, "transaction_id": "r-1"})
    assert hit(shop, "cookie:abc", **{**told, "event_type_id": signup.pk})
    assert hit(shop, "cookie:abc", type="transaction", transaction_id="R-1")
    assert hit(other, "cookie:abc", type="transaction", transaction_id="R-1")
    assert hit(shop, "cookie:abc", type="event", event_type_id=purchase.pk)
    assert hit(shop, "cookie:abc", type="event", event_type_id=purchase.pk)


def test_orders_are_told_apart(shop):
    for number in range(200):
        assert hit(shop, "cookie:abc", type="transaction", transaction_id=f"R-{number}")


def test_a_known_persons_hit_is_one_query(shop, django_assert_num_queries):
    found, who = known(shop), names("cookie:abc client:42 client:43")
    told = hits.new_hit(found, type="pageview")
    hits.record(found, who, told)
    with django_assert_num_queries(1):
        assert hits.record(found, who, told)
    with django_assert_num_queries(1):
        assert hits.record(found, who[:1], told)


def test_with_a_transaction_id_it_is_two_in_a_transaction(shop, django_assert_num_queries):
    found, who = known(shop), names("cookie:abc client:42")
    hits.record(found, who, hits.new_hit(found, type="pageview"))
    told = hits.new_hit(found, type="transaction", transaction_id="R-1")
    # And a savepoint, in the transaction of a test.
    with django_assert_num_queries(4):
        assert hits.record(found, who, told)
    with django_assert_num_queries(3):
        assert not hits.record(found, who, told)


# At once


def told_at_once(shop, write):
    """Let 8 threads tell of the same ten orders, of one person by two names."""
    found, barrier = known(shop), Barrier(8)

    def tell():
        barrier.wait()
        return sum(
            write(
                found,
                names(f"cookie:c{number % 2} client:42"),
                hits.new_hit(found, type="transaction", transaction_id=f"R-{number}"),
            )
            for number in range(10)
        )

    return sum(at_once(8, tell))


@pytest.mark.django_db(transaction=True)
def test_what_several_tell_of_at_once_is_one():
    shop = make_property()
    assert told_at_once(shop, hits.record) == 10
    assert Hit.objects.count() == HitKey.objects.count() == 10
    assert people(shop) == ["client:42 cookie:c0 cookie:c1"]


@pytest.mark.django_db(transaction=True)
def test_teeth_to_look_first_whether_it_is_there():
    def looks_first(found, who, told):
        if Hit.objects.filter(transaction_id=told.transaction_id).exists():
            return False
        return hits.record(found, who, told._replace(transaction_id=""))

    def looks_and_writes(found, who, told):
        if not looks_first(found, who, told):
            return False
        Hit.objects.filter(transaction_id="").update(transaction_id=told.transaction_id)
        return True

    for _ in range(20):
        if told_at_once(make_property(), looks_and_writes) > 10:
            return
        Hit.objects.all().delete()
    pytest.fail("twenty times nobody was in anybody's way")


@pytest.mark.django_db(transaction=True)
def test_a_hit_that_fails_leaves_no_key(monkeypatch):
    shop = make_property()

    def fails(*arguments):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(hits, "_written", fails)
        with pytest.raises(RuntimeError, match="power cut"):
            hit(shop, "cookie:abc", type="transaction", transaction_id="R-1")
    assert not HitKey.objects.exists()
    assert hit(shop, "cookie:abc", type="transaction", transaction_id="R-1")
