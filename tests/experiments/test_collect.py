"""What Flagship's clients tell of becomes hits and assignments; one bad one harms no other."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.signals import request_finished
from django.db import close_old_connections
from django.utils import timezone

from affiliations.experiments import publishing, taking
from affiliations.experiments.models import Assignment, Variation
from affiliations.testing import freeze
from affiliations.tracking.models import Hit, Identity
from tests.experiments.environment import Environment
from tests.experiments.factories import make_assignment, make_campaign
from tests.tracking.factories import make_event_type, people

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
VID = {"vid": "visitor-1"}
PAGE = {"t": "PAGEVIEW", "dl": "https://example.org/p", **VID}
SCREEN = {"t": "SCREENVIEW", "dl": "home", **VID}
EVENT = {"t": "EVENT", "ec": "Action Tracking", "ea": "click", "el": "lbl", "ev": 10, **VID}
ITEM = {
    "t": "ITEM",
    "tid": "T1",
    "in": "Shoes",
    "ic": "S1",
    "ip": 19.99,
    "iq": 2,
    "iv": "cat",
    **VID,
}
ORDER = {
    "t": "TRANSACTION",
    "tid": "T1",
    "ta": "purchase",
    "tr": 59.97,
    "ts": 5.5,
    "tt": 3.2,
    "tc": "EUR",
    "pm": "card",
    "sm": "post",
    "icn": 2,
    "tcc": "PROMO",
    **VID,
}


@pytest.fixture
def env():
    return Environment()


@pytest.fixture
def campaign(env):
    return make_campaign(env.prop)


def rows():
    return list(Hit.objects.order_by("pk"))


def test_a_page(client, env):
    told = {**PAGE, "uip": "10.0.0.1", "sr": "1024x768", "ul": "fr", "sn": 3}
    response = env.collect(client, told)
    assert (response.status_code, response.content) == (204, b"")
    [row] = rows()
    assert (row.type, row.url) == ("pageview", "https://example.org/p")
    # Not the address that somebody has.
    assert row.meta == {"resolution": "1024x768", "language": "fr", "session": 3}
    assert (row.identity.kind, row.identity.value) == ("client", "visitor-1")


def test_a_screen(client, env):
    env.collect(client, SCREEN)
    [row] = rows()
    assert (row.type, row.title) == ("screen", "home")


def test_an_event(client, env):
    declared = make_event_type(env.prop, "click")
    env.collect(client, EVENT)
    env.collect(client, {**EVENT, "ea": "something else"})
    one, other = rows()
    assert (one.type, one.event_type_id, one.title) == ("event", declared.pk, "click")
    assert one.meta == {"category": "Action Tracking", "label": "lbl", "value": 10}
    assert (other.event_type_id, other.title) == (None, "something else")


def test_an_order_and_its_items(client, env):
    env.collect(client, ORDER)
    env.collect(client, ITEM)
    env.collect(client, {**ITEM, "ic": "S2"})
    for again in (ORDER, ITEM):
        env.collect(client, again)
    order, one, other = rows()
    assert (order.minor, order.currency, order.transaction_id) == (5997, "EUR", "T1")
    assert order.title == "purchase"
    assert order.meta == {
        "shipping": "5.5",
        "tax": "3.2",
        "payment_method": "card",
        "shipping_method": "post",
        "items": 2,
        "coupon": "PROMO",
    }
    assert (one.type, one.title, one.transaction_id) == ("item", "Shoes", "T1")
    assert one.meta == {"sku": "S1", "price": "19.99", "quantity": 2, "category": "cat"}
    assert other.meta["sku"] == "S2"


@pytest.mark.parametrize(
    ("revenue", "currency", "minor"),
    [
        (59.97, "EUR", 5997),
        (0.1 + 0.2, "EUR", 30),
        (2.675, "EUR", 268),
        (2.665, "EUR", 266),
        (1e2, "eur", 10000),
        (1234, "JPY", 1234),
        (0, "EUR", 0),
        (-5, "EUR", -500),
    ],
)
def test_an_amount_is_whole_units(client, env, revenue, currency, minor):
    env.collect(client, {**ORDER, "tr": revenue, "tc": currency})
    assert [(row.minor, row.currency) for row in rows()] == [(minor, currency.upper())]


def test_an_order_in_no_currency(client, env, settings):
    settings.AFFILIATE_EXPERIMENTS_CURRENCY = "CHF"
    order = {name: value for name, value in ORDER.items() if name != "tc"}
    env.collect(client, order)
    env.collect(client, {"t": "TRANSACTION", "tid": "T2", "ta": "free", **VID})
    assert [(row.minor, row.currency) for row in rows()] == [(5997, "CHF"), (None, "")]


def test_what_is_known_of_somebody(client, env):
    env.collect(client, {"t": "SEGMENT", "s": {"plan": "gold", "vip": "True", "no": ""}, **VID})
    [row] = rows()
    assert (row.type, row.meta) == ("segment", {"plan": "gold", "vip": "True"})


def test_whoever_is_logged_in_is_the_same_person(client, env):
    env.collect(client, SCREEN)
    env.collect(client, {**SCREEN, "cuid": "customer-1"})
    env.collect(client, {**SCREEN, "vid": "customer-1"})
    assert people(env.prop) == ["client:customer-1 client:visitor-1"]
    assert [row.identity.value for row in rows()] == ["visitor-1", "customer-1", "customer-1"]


def test_whoever_does_not_agree_is_not_written_of(client, env):
    consent = {"t": "EVENT", "ec": "User Engagement", "ea": "fs_consent", **VID}
    env.collect(client, {**consent, "el": "python:false"})
    assert not Identity.objects.exists()
    env.collect(client, {**consent, "el": "python:true"})
    assert [row.title for row in rows()] == ["fs_consent"]


def test_a_batch_and_how_late_it_is(client, env):
    with freeze(NOON + timedelta(seconds=0)):
        response = env.collect(client, {**SCREEN, "qt": 90_000}, {**PAGE, "qt": 0})
    assert response.status_code == 204
    screen, page = rows()
    assert screen.happened_on == page.happened_on - timedelta(seconds=90)
    assert page.happened_on == page.received_on


def test_a_bad_one_of_a_batch_takes_no_other_along(client, env):
    bad = [
        None,
        1,
        {},
        {**SCREEN, "vid": None},
        {**SCREEN, "qt": -1},
        {**SCREEN, "qt": "x"},
        {**SCREEN, "cid": "other"},
        {"t": "NOPE", **VID},
        {"t": ["EVENT"], **VID},
    ]
    response = env.collect(client, *bad, SCREEN)
    assert (response.status_code, [row.type for row in rows()]) == (204, ["screen"])


def test_one_that_cannot_be_written_takes_no_other_along(client, env, monkeypatch, caplog):
    record = taking.hits.record

    def fail(prop, names, hit, **named):
        if hit.title == "bad":
            raise RuntimeError("gone")
        return record(prop, names, hit, **named)

    monkeypatch.setattr(taking.hits, "record", fail)
    env.collect(client, {**SCREEN, "dl": "bad"}, {**SCREEN, "dl": "good"})
    assert [row.title for row in rows()] == ["good"]
    assert "could not be written" in caplog.text


def test_the_children_may_say_the_environment(client, env):
    # So Flagship's own server posts it.
    child = {**SCREEN, "cid": env.id}
    env.post(client, "collect/", {"t": "BATCH", "ds": "APP", "h": [child], "cv": {}})
    assert len(rows()) == 1


BAD = [
    ({**PAGE, "dl": None}, "dl", "Field is mandatory."),
    ({**PAGE, "dl": "x" * 2049}, "dl", "must have at most 2048 characters"),
    ({**PAGE, "dl": "http://x/\0"}, "dl", "must be text without NUL and half letters"),
    ({**SCREEN, "dl": 1}, "dl", "must be text"),
    ({**EVENT, "ec": "Nope"}, "ec", "must be one of Action Tracking, User Engagement"),
    ({**EVENT, "ea": ""}, "ea", "Field is mandatory."),
    ({**EVENT, "ea": "x" * 501}, "ea", "must have at most 500 characters"),
    ({**EVENT, "ev": -1}, "ev", "must be a whole number that is not negative"),
    ({**EVENT, "ev": 1.5}, "ev", "must be a whole number that is not negative"),
    ({**EVENT, "ev": 2**63}, "ev", "must be a whole number that is not negative"),
    ({**ITEM, "ic": None}, "ic", "Field is mandatory."),
    ({**ITEM, "ip": "x"}, "ip", "must be a number"),
    ({**ITEM, "ip": True}, "ip", "must be a number"),
    ({**ORDER, "tid": None}, "tid", "Field is mandatory."),
    ({**ORDER, "tr": 1e300}, "tr", "is too large a number"),
    ({**ORDER, "tr": 10**18}, "tr", "is too large a number"),
    ({**ORDER, "tc": "EURO"}, "tc", "must be an ISO 4217 code"),
    ({**ORDER, "pm": "x" * 11}, "pm", "must have at most 10 characters"),
    ({"t": "SEGMENT", **VID}, "s", "Field is mandatory."),
    ({"t": "SEGMENT", "s": [], **VID}, "s", "must be an object"),
    ({"t": "SEGMENT", "s": {"a": "x" * 5000}, **VID}, "meta", "must have at most 4096 bytes"),
    ({"t": "PAGEVIEW", "dl": "x"}, "vid", "Field is mandatory."),
    (VID, "t", "Field is mandatory."),
    ({**SCREEN, "qt": 10**15}, "qt", "must be from 0 to 30 days"),
]


@pytest.mark.parametrize(("told", "field", "said"), BAD)
def test_one_that_cannot_be_says_which_field(client, env, told, field, said):
    response = env.collect(client, told)
    assert (response.status_code, response.json()) == (
        400,
        {"status": "error", "errors": {field: said}},
    )
    # Who would send it again for hours is not told so.
    assert env.collect(client, told, sdk="3.0.1").status_code == 204
    assert not Identity.objects.exists()


@pytest.mark.parametrize("cid", [None, "other", 1, [], {}])
@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("collect/", SCREEN),
        ("collect/", {"t": "BATCH", "h": []}),
        ("v2/activate", {"batch": []}),
    ],
)
def test_no_environment(client, env, cid, path, more):
    response = env.post(client, path, {**more, "cid": cid})
    said = "Field is mandatory." if cid is None else "Invalid cid."
    assert response.status_code == 400
    assert said in response.content.decode()


def test_a_long_batch_is_taken_and_a_long_hit_is_not(client, env):
    # Who was cut off for a while sends all they have.
    many = [{**SCREEN, "dl": f"screen {n}", "qt": n} for n in range(1000)]
    assert len(json.dumps(many)) > 65_536
    assert env.collect(client, *many).status_code == 204
    assert len(rows()) == 1000
    assert env.collect(client, {**SCREEN, "more": "x" * 65_536}).status_code == 413
    response = env.collect(client, *[{"t": "x"}] * 10_001)
    assert (response.status_code, response.json()["errors"]) == (
        413,
        {"h": "must have at most 10000"},
    )


# What is told again


def test_whoever_tells_it_again_is_known(client, env):
    batch = [{**SCREEN, "qt": 5_000}, {**SCREEN, "qt": 5_000}, {**EVENT, "qt": 4_000}]
    with freeze(NOON + timedelta(seconds=0.2)):
        env.collect(client, *batch, sdk="3.0.1")
    # Twice the same in one batch are two.
    assert [row.type for row in rows()] == ["screen", "screen", "event"]
    later = [{**each, "qt": each["qt"] + 10_000} for each in batch]
    with freeze(NOON + timedelta(seconds=10.1)):
        env.collect(client, *later, sdk="3.0.1")
    assert len(rows()) == 3
    # Seconds earlier it is another.
    with freeze(NOON + timedelta(seconds=20.1)):
        env.collect(
            client, {**SCREEN, "qt": 28_000}, {**SCREEN, "dl": "x", "qt": 25_000}, sdk="3.0.1"
        )
    assert len(rows()) == 5


def test_who_tells_nothing_again_is_taken_at_their_word(client, env):
    with freeze(NOON + timedelta(seconds=0)):
        for _ in range(2):
            env.collect(client, SCREEN, sdk="2.1.5")
    assert len(rows()) == 2


# What was seen


def test_one_that_was_seen(client, env, campaign):
    blue = Variation.objects.select_related("group").get(name="Blue")
    response = env.activate(client, "visitor-1", blue)
    assert (response.status_code, response.content) == (204, b"")
    [row] = Assignment.objects.all()
    assert (row.variation, row.group, row.campaign, row.version) == (blue, blue.group, campaign, 1)
    assert (row.identity.value, row.is_mixed) == ("visitor-1", False)


def test_again_and_again_changes_nothing(client, env, campaign, queries):
    name = {"red": "Original", "blue": "Blue"}[env.flags(client, "visitor-1")["color"]]
    theirs = Variation.objects.select_related("group").get(name=name)
    env.activate(client, "visitor-1", theirs)
    first = Assignment.objects.get().exposed_on
    with queries(0):
        env.activate(client, "visitor-1", theirs)
    taking.exposures.forget()
    env.activate(client, "visitor-1", theirs)
    assert Assignment.objects.get().exposed_on == first
    # One that comes late was seen earlier.
    taking.exposures.forget()
    env.activate(client, "visitor-1", theirs, qt=60_000)
    assert Assignment.objects.get().exposed_on < first - timedelta(seconds=59)


def test_whoever_has_seen_two_is_mixed(client, env, campaign):
    original, blue = Variation.objects.select_related("group").order_by("pk")
    env.activate(client, "visitor-1", blue)
    env.activate(client, "visitor-1", original)
    [row] = Assignment.objects.all()
    assert (row.variation, row.is_mixed) == (blue, True)


def test_whoever_was_given_one_and_saw_another_saw_that(client, env, campaign):
    original, blue = Variation.objects.select_related("group").order_by("pk")
    # As it is written of somebody who logs in, and is shown nothing yet.
    make_assignment(original, "visitor-1", exposed_on=None)
    env.activate(client, "visitor-1", blue)
    [row] = Assignment.objects.all()
    assert (row.variation, row.is_mixed, row.exposed_on is None) == (blue, False, False)


def test_a_batch_of_what_was_seen(client, env, campaign):
    blue = Variation.objects.select_related("group").get(name="Blue")
    one = {"caid": blue.group.uid, "vaid": blue.uid, "vid": "v", "aid": None, "qt": 343}
    other = {**one, "vid": "customer-1", "aid": "visitor-1", "qt": "5"}
    alias = {**one, "vid": "w", "vaid": f"{blue.uid}.1"}
    bad = [
        None,
        {},
        {**one, "vaid": "nope"},
        {**one, "vid": 1},
        {**one, "vid": ""},
        {**one, "aid": 1},
    ]
    response = env.post(client, "v2/activate", {"cid": env.id, "batch": [*bad, one, other, alias]})
    assert (response.status_code, response.content) == (204, b"")
    found = Assignment.objects.order_by("pk").values_list("identity__value", "variation__name")
    assert list(found) == [("v", "Blue"), ("customer-1", "Blue"), ("w", "Blue")]
    assert people(env.prop) == ["client:customer-1 client:visitor-1", "client:v", "client:w"]


def test_one_that_was_seen_cannot_be_like_this(client, env):
    response = env.post(client, "v2/activate", {})
    assert response.status_code == 400
    assert json.loads(response.json()["message"]) == {
        "status": "error",
        "errors": dict.fromkeys(("cid", "caid", "vaid", "vid"), "Field is mandatory."),
    }
    other = {"cid": "other", "caid": "a", "vaid": "b", "vid": "c"}
    response = env.post(client, "v2/activate", other)
    assert json.loads(response.json()["message"])["errors"] == {"cid": "Invalid cid."}


def test_one_that_was_seen_of_a_campaign_that_is_over(client, env, campaign):
    blue = Variation.objects.select_related("group").get(name="Blue")
    publishing.pause(campaign=campaign)
    env.activate(client, "visitor-1", blue, qt=60_000)
    assert Assignment.objects.get().variation == blue


def test_one_of_another_environment_was_not_seen(client, env):
    elsewhere = make_campaign()
    blue = Variation.objects.select_related("group").get(group__campaign=elsewhere, name="Blue")
    assert env.activate(client, "visitor-1", blue).status_code == 204
    assert not Assignment.objects.exists()


def test_whoever_tries_it_out_is_no_visitor(client, env, campaign):
    blue = Variation.objects.select_related("group").get(name="Blue")
    env.activate(client, "visitor-1", blue, qa=True)
    assert not Assignment.objects.exists()


def test_what_was_seen_comes_by_the_collector_too(client, env, campaign):
    blue = Variation.objects.select_related("group").get(name="Blue")
    seen = {"t": "CAMPAIGN", "caid": blue.group.uid, "vaid": blue.uid, "vid": "v", "qt": 10}
    env.collect(client, seen, SCREEN)
    assert Assignment.objects.get().exposed_on < timezone.now()


def test_the_answer_is_there_before_the_work_is_done(rf, env, campaign):
    body = json.dumps({"cid": env.id, "ds": "APP", **SCREEN})
    request = rf.post("/flagship/collect/", body, content_type="application/json")
    response = taking.universal(request)
    assert (response.status_code, rows()) == (204, [])
    # As Django's own client has it: the connection is the test's.
    request_finished.disconnect(close_old_connections)
    try:
        for _ in range(2):
            response.close()
            assert len(rows()) == 1
    finally:
        request_finished.connect(close_old_connections)
