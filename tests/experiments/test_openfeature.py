"""OpenFeature's own conformance scenarios, and what else the provider does.

The flags, their types, variants and values are those of the canonical set of OpenFeature's provider
tests, and the tables are those of its scenarios: evaluation, errors, reasons and lifecycle.
"""

import threading

import pytest
from django.db import DatabaseError

pytest.importorskip("openfeature.provider")

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent
from openfeature.exception import ErrorCode, OpenFeatureError
from openfeature.provider import ProviderStatus
from openfeature.track import TrackingEventDetails

from affiliations.experiments import deciding, publishing
from affiliations.experiments.models import Assignment
from affiliations.experiments.openfeature import ExperimentsProvider
from affiliations.tracking.models import Hit, Identity
from tests.experiments.environment import Environment
from tests.experiments.factories import make_campaign
from tests.tracking.factories import known, make_event_type

pytestmark = pytest.mark.django_db
#: What other threads have to see.
SHARED = pytest.mark.django_db(transaction=True)

UUID, OTHER = "5c3d8535-f81a-4478-a6d3-afaa4d51199e", "f20bd32d-703b-48b6-bc8e-79d53c85134a"
PICTURES = {"showImages": True, "title": "Check out these pics!", "imagesPerPage": 100}
INSIDER = {"fn": "Sulisław", "ln": "Świętopełk", "age": 29, "customer": False}
FLAGS = {
    "boolean-flag": {"on": True, "off": False},
    "string-flag": {"greeting": "hi", "parting": "bye"},
    "integer-flag": {"ten": 10, "one": 1},
    "float-flag": {"half": 0.5, "tenth": 0.1},
    "large-integer-flag": {"max-int32": 2147483647, "one": 1},
    "huge-integer-flag": {"max-safe": 9007199254740991, "one": 1},
    "integral-float-flag": {"ten": 10.0, "tenth": 0.1},
    "boolean-zero-flag": {"zero": False, "non-zero": True},
    "integer-zero-flag": {"zero": 0, "non-zero": 1},
    "string-zero-flag": {"zero": "", "non-zero": "str"},
    "object-flag": {"template": PICTURES, "empty": {}},
    "wrong-flag": {"one": "uno", "two": "dos"},
}
DISABLED = {
    "disabled-boolean-flag": {"on": True, "off": False},
    "disabled-string-flag": {"greeting": "hi", "parting": "bye"},
    "disabled-integer-flag": {"ten": 10, "one": 1},
    "disabled-float-flag": {"half": 0.5, "tenth": 0.1},
}


def variations(flag, variants):
    """Return variations, of which everybody is given the first."""
    return [
        {"name": name, "allocation": 0 if position else 100, "modifications": {flag: value}}
        for position, (name, value) in enumerate(variants.items())
    ]


def condition(key, value):
    return {"key": key, "operator": "EQUALS", "value": value}


def seed(env, flag):
    """Make the campaign that sets a flag."""
    variants = {**FLAGS, **DISABLED}.get(flag)
    if variants is not None:
        groups = [{"variations": variations(flag, variants)}]
    elif flag == "targeting-key-flag":
        groups = [
            {
                "variations": variations(flag, {"hit": "hit"}),
                "targeting": [[condition("fs_users", UUID)]],
            },
            {"variations": variations(flag, {"miss": "miss"})},
        ]
    else:
        groups = [
            {
                "variations": variations(flag, {"internal": "INTERNAL"}),
                "targeting": [[condition(*each) for each in INSIDER.items()]],
            },
            {"variations": variations(flag, {"external": "EXTERNAL"})},
        ]
    campaign = make_campaign(env.prop, slug=flag, groups=groups)
    if flag in DISABLED:
        publishing.pause(campaign=campaign)


@pytest.fixture
def env():
    made = Environment()
    # Beside any other there is one.
    seed(made, "string-flag")
    return made


@pytest.fixture
def client(env):
    """A client with the provider, which is ready."""
    api.set_provider_and_wait(ExperimentsProvider(env.id))
    yield api.get_client()
    api.clear_providers()


def details(client, kind, flag, default, key=None, **attributes):
    context = EvaluationContext(key, attributes) if key or attributes else None
    return getattr(client, f"get_{kind}_details")(flag, default, context)


def said(found):
    return found.value, found.variant, found.reason, found.error_code, found.error_message


STATIC = [
    ("boolean", "boolean-flag", False, True, "on"),
    ("string", "string-flag", "bye", "hi", "greeting"),
    ("integer", "integer-flag", 1, 10, "ten"),
    ("float", "float-flag", 0.1, 0.5, "half"),
    ("integer", "large-integer-flag", 1, 2147483647, "max-int32"),
    ("integer", "huge-integer-flag", 1, 9007199254740991, "max-safe"),
    ("boolean", "boolean-zero-flag", True, False, "zero"),
    ("integer", "integer-zero-flag", 1, 0, "zero"),
    ("string", "string-zero-flag", "fallback", "", "zero"),
    ("object", "object-flag", {}, PICTURES, "template"),
    # Nothing is lost by it either way.
    ("integer", "integral-float-flag", 1, 10, "ten"),
    ("float", "integer-flag", 0.1, 10.0, "ten"),
]


@pytest.mark.parametrize(("kind", "flag", "default", "value", "variant"), STATIC)
def test_a_value_its_variant_and_why(env, client, kind, flag, default, value, variant):
    if flag != "string-flag":
        seed(env, flag)
    found = details(client, kind, flag, default)
    assert said(found) == (value, variant, "STATIC", None, None)
    assert type(found.value) is type(value)


WRONG = [
    ("boolean", "string-flag", False),
    ("integer", "string-flag", 1),
    ("float", "string-flag", 0.1),
    ("boolean", "wrong-flag", False),
    ("integer", "wrong-flag", 13),
    ("string", "boolean-flag", "fallback"),
    ("integer", "boolean-flag", 1),
    ("float", "boolean-flag", 0.1),
    ("boolean", "integer-flag", False),
    ("string", "integer-flag", "fallback"),
    ("boolean", "float-flag", False),
    ("string", "float-flag", "fallback"),
    ("integer", "float-flag", 1),
    ("boolean", "object-flag", False),
    ("string", "object-flag", "fallback"),
    ("integer", "object-flag", 1),
    ("float", "object-flag", 0.1),
    ("object", "string-flag", {}),
]


@pytest.mark.parametrize(("kind", "flag", "default"), WRONG)
def test_of_another_type_it_is_the_default_and_an_error(env, client, kind, flag, default):
    if flag != "string-flag":
        seed(env, flag)
    found = details(client, kind, flag, default)
    assert (found.value, found.reason, found.error_code) == (
        default,
        "ERROR",
        ErrorCode.TYPE_MISMATCH,
    )


def test_a_whole_number_that_no_float_can_hold(env, client):
    number = int("9" * 400)
    make_campaign(env.prop, groups=[{"variations": variations("long", {"long": number})}])
    assert details(client, "integer", "long", 1).value == number
    found = details(client, "float", "long", 0.1)
    assert (found.value, found.error_code) == (0.1, ErrorCode.TYPE_MISMATCH)


def test_an_unknown_flag(client):
    found = details(client, "string", "missing-flag", "uh-oh")
    assert (found.value, found.reason, found.error_code) == (
        "uh-oh",
        "ERROR",
        ErrorCode.FLAG_NOT_FOUND,
    )


@pytest.mark.parametrize(
    ("kind", "flag", "default"),
    [
        ("boolean", "disabled-boolean-flag", False),
        ("string", "disabled-string-flag", "bye"),
        ("integer", "disabled-integer-flag", 1),
        ("float", "disabled-float-flag", 0.1),
    ],
)
def test_a_disabled_flag(env, client, kind, flag, default):
    seed(env, flag)
    found = details(client, kind, flag, default)
    assert said(found) == (default, None, "DISABLED", None, None)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [(UUID, "hit", "TARGETING_MATCH"), (OTHER, "miss", "DEFAULT"), (None, "miss", "DEFAULT")],
)
def test_a_targeting_key(env, client, key, value, reason):
    seed(env, "targeting-key-flag")
    found = details(client, "string", "targeting-key-flag", "fallback", key)
    assert said(found) == (value, value, reason, None, None)


def test_a_context_does_no_harm(client):
    assert details(client, "string", "string-flag", "bye", OTHER).value == "hi"


def test_what_is_known_of_somebody(env, client):
    seed(env, "context-aware")
    found = details(client, "string", "context-aware", "EXTERNAL", **INSIDER)
    assert (found.value, found.reason) == ("INTERNAL", "TARGETING_MATCH")
    assert details(client, "string", "context-aware", "none").value == "EXTERNAL"


def test_it_is_ready_where_it_reaches_its_flags(client):
    assert client.get_provider_status() == ProviderStatus.READY
    assert api.get_provider_metadata().name == "affiliations"


@pytest.mark.parametrize("failure", ["unknown", "database"])
def test_it_is_not_where_it_does_not(env, monkeypatch, failure):
    def fail(key):
        raise DatabaseError("gone")

    if failure == "database":
        monkeypatch.setattr("affiliations.tracking.properties.find", fail)
    with pytest.raises(OpenFeatureError):
        api.set_provider_and_wait(ExperimentsProvider("nope"))
    client = api.get_client()
    assert client.get_provider_status() == ProviderStatus.ERROR
    found = details(client, "boolean", "boolean-flag", False)
    assert (found.value, found.reason) == (False, "ERROR")
    api.clear_providers()


@SHARED
def test_it_becomes_ready_where_nobody_waits(env):
    ready = threading.Event()
    api.set_provider(ExperimentsProvider(env.id))
    api.get_client().add_handler(ProviderEvent.PROVIDER_READY, lambda details: ready.set())
    assert ready.wait(10)
    api.clear_providers()


# Beyond the scenarios


def test_whoever_it_is_evaluated_for_has_seen_it(env, client):
    found = details(client, "string", "string-flag", "bye", "visitor-1")
    [row] = Assignment.objects.all()
    assert (row.identity.value, row.variation.name) == ("visitor-1", "greeting")
    assert row.exposed_on is not None
    assert found.flag_metadata["variationId"] == row.variation.uid
    details(client, "integer", "string-flag", 1, "visitor-2")
    details(client, "string", "string-flag", "bye")
    assert Assignment.objects.count() == 1


def test_if_it_is_said_so(env):
    api.set_provider_and_wait(ExperimentsProvider(env.id, exposes=False))
    details(api.get_client(), "string", "string-flag", "bye", "visitor-1")
    api.clear_providers()
    assert not Assignment.objects.exists()


def test_it_decides_as_clients_of_flagship_are_told(env, client):
    campaign = make_campaign(env.prop)
    for number in range(20):
        who = f"visitor-\U0001f600{number}"
        found = details(client, "string", "color", "none", who)
        assert found.reason == "SPLIT"
        visitor = deciding.Visitor(who)
        choices = deciding.decide(known(env.prop), visitor, known={}).choices
        assert [each.value["color"] for each in choices if each.slug == campaign.slug] == [
            found.value
        ]


def test_whoever_is_not_meant_is_given_the_default(env, client):
    gold = {
        "variations": variations("gold", {"yes": True}),
        "targeting": [[condition("plan", "gold")]],
    }
    make_campaign(env.prop, groups=[gold])
    found = details(client, "boolean", "gold", False, "visitor-1")
    assert said(found) == (False, None, "DEFAULT", None, None)


def test_while_there_is_panic(env, client):
    publishing.set_panic(prop=env.prop, panic=True)
    found = details(client, "string", "string-flag", "bye")
    assert said(found) == ("bye", None, "DISABLED", None, None)


@SHARED
async def test_in_asynchronous_code(env, client):
    found = await client.get_string_details_async("string-flag", "bye")
    assert found.value == "hi"


def test_what_is_tracked_is_a_hit(env, client):
    declared = make_event_type(env.prop, "purchase")
    context = EvaluationContext("visitor-1")
    client.track("purchase", context, TrackingEventDetails(19.9, {"currency": "EUR", "sku": "S1"}))
    client.track("opened", context, TrackingEventDetails(3.0))
    client.track("opened", context)
    client.track("nobody", EvaluationContext())
    client.track("", context)
    money, number, bare = Hit.objects.order_by("pk")
    assert (money.event_type_id, money.minor, money.currency) == (declared.pk, 1990, "EUR")
    assert (money.meta["sku"], number.title, number.meta) == ("S1", "opened", {"value": 3.0})
    assert bare.meta == {}
    assert Identity.objects.get().value == "visitor-1"


def test_what_cannot_be_tracked_harms_nobody(client):
    context = EvaluationContext("visitor-1")
    for details in (
        TrackingEventDetails(1.234, {"currency": "EUR"}),
        TrackingEventDetails(float("nan"), {"currency": "EUR"}),
        TrackingEventDetails(float("inf")),
        TrackingEventDetails(1, {"currency": "NOPE"}),
        TrackingEventDetails(1, {"x": "\0"}),
        TrackingEventDetails(1, {"x": "y" * 5000}),
    ):
        client.track("purchase", context, details)
    assert not Hit.objects.exists()
