"""The Flagship API in process: the names of the vendor's document, and what each does here."""

import inspect
import logging
import re
import threading
import time
from contextlib import nullcontext
from decimal import Decimal
from importlib import import_module

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError, connection, transaction
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from affiliations.context import current_request
from affiliations.exceptions import AffiliationsError
from affiliations.experiments import deciding, exposures, flagship, publishing, segments
from affiliations.experiments.flagship import (
    Config,
    Event,
    EventCategory,
    Flagship,
    FlagshipEventHandler,
    FlagshipVisitor,
    InitializationError,
    Item,
    Page,
    ParamError,
    PresetContext,
    Screen,
    Transaction,
    TypingError,
    VisitorCacheManager,
)
from affiliations.experiments.models import Assignment, Variation
from affiliations.tracking.models import Hit, Identity, Property
from tests.experiments.environment import Environment
from tests.experiments.factories import make_campaign
from tests.tracking.factories import make_event_type, people

VALUES = {"text": "é🦊", "int": 1, "float": 1.0, "on": True, "of": {"a": [1]}, "in": [1, "2"]}
ORIGINAL = {"name": "Original", "allocation": 0, "is_reference": True, "modifications": {"b": 2}}
NEW = {
    "name": "New",
    "allocation": 100,
    "modifications": (
        '{"text": "é🦊", "int": 1, "float": 1.0, "on": true, "of": {"a": [1]}, "in": [1, "2"], '
        '"nothing": null}'
    ),
}
GOLD = [[{"key": "plan", "operator": "EQUALS", "value": "gold"}]]


class Heard(FlagshipEventHandler):
    """Remembers what it is told."""

    def __init__(self, **options):
        super().__init__(**options)
        self.logs, self.raised = [], []

    def on_log(self, level, message):
        self.logs.append((level, message))

    def on_exception_raised(self, exception, traceback):
        self.raised.append((exception, traceback))

    def errors(self):
        return [message for level, message in self.logs if level >= logging.ERROR]


@pytest.fixture
def env(db):
    return Environment()


@pytest.fixture
def campaign(env):
    return make_campaign(env.prop, groups=[{"variations": [ORIGINAL, NEW]}])


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def start(env, heard):
    """Start one of its own; each has the configuration of a test."""

    def started(**options):
        made = Flagship()
        made.start(Config(**{"env_id": env.id, "event_handler": heard, **options}))
        return made

    return started


@pytest.fixture
def visitor(start):
    return start().create_visitor("visitor-1")


def synchronized(flagship, *args, **named):
    visitor = flagship.create_visitor(*args, **named)
    assert visitor.synchronize_modifications() == (True, "")
    return visitor


def new(campaign):
    return Variation.objects.select_related("group").get(group__campaign=campaign, name="New")


# Names

NO = inspect.Parameter.empty
#: All functions of the document, with their parameters and the defaults of these.
DOCUMENTED = [
    (Flagship.create_visitor, {"visitor_id": None, "authenticated": False, "context": None}),
    (FlagshipVisitor.update_context, {"context": NO, "synchronize": False}),
    (FlagshipVisitor.synchronize_modifications, {}),
    (FlagshipVisitor.get_modification, {"key": NO, "default_value": NO, "activate": False}),
    (FlagshipVisitor.get_modification_info, {"key": NO}),
    (FlagshipVisitor.activate_modification, {"key": NO}),
    (FlagshipVisitor.authenticate, {"visitor_id": NO, "context": None, "synchronize": False}),
    (FlagshipVisitor.unauthenticate, {"context": None, "synchronize": False}),
    (FlagshipVisitor.send_hit, {"hit": NO}),
    (Page.__init__, {"location": NO}),
    (Screen.__init__, {"location": NO}),
    (Transaction.__init__, {"transaction_id": NO, "affiliation": NO}),
    (Item.__init__, {"transaction_id": NO, "product_name": NO, "product_sku": NO}),
    (Event.__init__, {"category": NO, "action": NO}),
    (VisitorCacheManager.save, {"visitor_id": NO, "visitor_data": NO}),
    (VisitorCacheManager.lookup, {"visitor_id": NO}),
    # Of 2.1.5, by whose names the document's values are set.
    (Page.with_ip, {"ip": NO}),
    (Page.with_resolution, {"width": NO, "height": NO}),
    (Page.with_locale, {"locale": NO}),
    (Page.with_session_number, {"number": NO}),
    (Page.with_current_session_timestamp, {"timestamp": NO}),
    (Transaction.with_total_revenue, {"revenue": NO}),
    (Transaction.with_shipping_cost, {"shipping": NO}),
    (Transaction.with_shipping_method, {"shipping_method": NO}),
    (Transaction.with_taxes, {"taxes": NO}),
    (Transaction.with_currency, {"currency": NO}),
    (Transaction.with_payment_method, {"payment": NO}),
    (Transaction.with_item_count, {"item_nb": NO}),
    (Transaction.with_coupon_code, {"coupon": NO}),
    (Item.with_price, {"price": NO}),
    (Item.with_item_quantity, {"item_quantity": NO}),
    (Item.with_item_category, {"category": NO}),
    (Event.with_event_label, {"label": NO}),
    (Event.with_event_value, {"value": NO}),
]


@pytest.mark.parametrize(
    ("function", "parameters"), DOCUMENTED, ids=lambda each: getattr(each, "__qualname__", "")
)
def test_each_function_of_the_document(function, parameters):
    found = list(inspect.signature(function).parameters.values())[1:]
    assert {each.name: each.default for each in found} == parameters


def test_where_each_name_is():
    assert flagship.__all__ == sorted(flagship.__all__)
    assert all(hasattr(flagship, each) for each in flagship.__all__)
    package = "affiliations.experiments.flagship"
    assert import_module(f"{package}.app").Flagship is Flagship
    assert import_module(f"{package}.config").Config is Config
    assert [each.value for each in EventCategory] == ["Action Tracking", "User Engagement"]
    assert [each.name for each in EventCategory] == ["ACTION_TRACKING", "USER_ENGAGEMENT"]
    for each in (InitializationError, ParamError, TypingError):
        assert issubclass(each, AffiliationsError)
    assert issubclass(TypingError, TypeError)
    assert issubclass(ParamError, ValueError)


# Start


def test_the_defaults_of_a_configuration():
    config = Config()
    assert (config.env_id, config.api_key, config.debug) == (None, None, None)
    assert (config.mode, config.timeout) == (Config.Mode.API, 2.0)
    assert config.bucketing_refresh_interval == 60
    assert config.visitor_cache_manager is None
    assert type(config.event_handler) is FlagshipEventHandler
    assert config.event_handler.catch_all_exceptions is False
    assert config.decision_api_url == ""
    assert [each.name for each in Config.Mode] == ["API", "BUCKETING"]


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("env_id", 1, TypingError),
        ("api_key", b"key", TypingError),
        ("mode", "API", TypingError),
        ("timeout", "2", TypingError),
        ("timeout", True, TypingError),
        ("timeout", 0, ParamError),
        ("timeout", -1.0, ParamError),
        ("timeout", float("nan"), ParamError),
        ("timeout", 3601, ParamError),
        ("polling_interval", None, TypingError),
        ("polling_interval", float("nan"), ParamError),
        ("event_handler", print, TypingError),
        ("debug", 1, TypingError),
        ("visitor_cache_manager", {}, TypingError),
        ("decision_api_url", 1, TypingError),
        ("decision_api_url", "ftp://shop.example/", ParamError),
        ("decision_api_url", "shop.example", ParamError),
    ],
)
def test_what_no_configuration_can_have(argument, value, error):
    with pytest.raises(error, match=f"^{argument}: must "):
        Config(**{argument: value})


def test_what_a_configuration_can_have():
    Config(timeout=1, polling_interval=-1, debug=False)
    Config(timeout=3600, polling_interval=0.5, debug=True)
    assert "s3cr3t" not in repr(Config("env", "s3cr3t"))


def test_both_forms_of_a_start():
    for started in (
        lambda made, config: made.start(config),
        lambda made, config: made.start(config=config),
        lambda made, config: made.start("env", "key", config),
        lambda made, config: made.start("env", api_key="key", config=config),
        lambda made, config: made.start(env_id="env", api_key="key", config=config),
    ):
        made, config = Flagship(), Config("env", "key")
        assert not made.is_flagship_started()
        started(made, config)
        assert made.is_flagship_started()
        assert (config.env_id, config.api_key) == ("env", "key")
        made.close()
        assert not made.is_flagship_started()
    config = Config("other", "other")
    Flagship().start("env", "key", config)
    assert (config.env_id, config.api_key) == ("env", "key")


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        ([], TypeError, r"^start\(\) takes"),
        ([1, 2], TypeError, r"^start\(\) takes"),
        ([1, 2, 3, 4], TypeError, r"^start\(\) takes"),
        (["env"], TypingError, "^config: "),
        ([1, "key", Config()], TypingError, "^env_id: "),
        (["env", 1, Config()], TypingError, "^api_key: "),
        ([Config()], InitializationError, "^env_id: "),
        ([Config("")], InitializationError, "^env_id: "),
        ([Config("env", decision_api_url="http://x")], InitializationError, "^api_key: "),
    ],
)
def test_what_cannot_be_started(args, error, said):
    made = Flagship()
    with pytest.raises(error, match=said):
        made.start(*args)
    assert not made.is_flagship_started()


def test_before_the_start_there_are_no_visitors():
    with pytest.raises(InitializationError):
        Flagship().create_visitor("visitor-1")


def test_an_application_that_wants_no_exceptions(start):
    heard = Heard(catch_all_exceptions=True)
    made = start(event_handler=heard)
    made.close()
    assert made.create_visitor("visitor-1") is None
    [(error, text)] = heard.raised
    assert isinstance(error, InitializationError)
    assert "Traceback" in text
    # What the program itself does wrong it is told all the same.
    with pytest.raises(TypingError, match=r"^visitor_id: "):
        made.create_visitor(1)


@pytest.mark.parametrize("lock", [threading.Lock, nullcontext])
def test_there_is_one_in_a_process(lock):
    class Slow(Flagship):
        _instance, _making = None, lock()

        def __init__(self):
            time.sleep(0.05)
            super().__init__()

    found, together = [], threading.Barrier(8)

    def ask():
        together.wait()
        found.append(Slow.instance())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    # Without the lock there would be several: the test can tell.
    assert (len({id(each) for each in found}) == 1) == (lock is threading.Lock)
    assert Flagship.instance() is Flagship.instance()


def test_a_start_asks_no_database(env, django_assert_num_queries):
    with django_assert_num_queries(0):
        made = Flagship()
        made.start(Config(env.id, env.key))
        made.create_visitor("visitor-1")


def test_visitors_keep_what_they_were_made_with(env, campaign):
    made = Flagship()
    made.start(Config(env.id))
    visitor = made.create_visitor("visitor-1")
    made.start(Config("another"))
    assert visitor.synchronize_modifications() == (True, "")
    assert made.create_visitor("visitor-1").synchronize_modifications()[0] is False


# Visitors


def test_a_visitor_without_an_id_gets_one_of_their_own(start):
    made = start()
    ids = {made.create_visitor(each).visitor_id for each in [None, ""] * 50}
    assert len(ids) == 100
    assert all(ids)
    assert made.create_visitor().anonymous_id is None


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"visitor_id": 1}, "visitor_id: must be str or NoneType, not int"),
        ({"visitor_id": b"v"}, "visitor_id: must be str or NoneType, not bytes"),
        ({"authenticated": 1}, "authenticated: must be bool, not int"),
        ({"context": ("a", 1)}, "context: must be dict or NoneType, not tuple"),
    ],
)
def test_what_no_visitor_can_be_made_of(start, named, said):
    with pytest.raises(TypingError, match=f"^{re.escape(said)}$"):
        start().create_visitor(**named)


def test_the_context_begins_with_presets(start):
    context = start().create_visitor("v", context={"plan": "gold"}).get_context()
    assert context == {**PresetContext.load(), "plan": "gold"}
    assert len(context) == 24
    assert context["sdk_city"] == ""


def test_a_default_is_nobody_elses(start):
    made = start()
    made.create_visitor("v").update_context({"plan": "gold"})
    assert "plan" not in made.create_visitor("w").get_context()


def test_what_became_of_a_context(visitor):
    assert visitor.update_context({"a": "x", "b": 1, "c": True, "d": 1.5}) == (
        tuple((name, True, "", None) for name in "abcd"),
        None,
    )
    assert visitor.update_context(("e", "y")) == (("e", True, "", None), None)
    city = visitor.update_context({PresetContext.LOCATION_CITY: "Köln"})[0]
    assert city == (("sdk_city", True, "", None),)
    assert visitor.update_context({}) == ((), None)
    found = visitor.get_context()
    assert [found[name] for name in ("a", "b", "c", "d", "e", "sdk_city")] == [
        *("x", 1, True, 1.5, "y"),
        "Köln",
    ]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (1, "x", "context: the key '1' must be str, not int"),
        (None, "x", "context: the key 'None' must be str, not NoneType"),
        ("k", None, "context: the value of 'k' must be str, bool, int or float, not NoneType"),
        ("k", [1], "context: the value of 'k' must be str, bool, int or float, not list"),
        ("k", b"x", "context: the value of 'k' must be str, bool, int or float, not bytes"),
        ("k", Decimal(1), "context: the value of 'k' must be str, bool, int or float, not Decimal"),
        ("k", float("nan"), "context: the value of 'k' must be a number that a computer can hold"),
        ("k", float("-inf"), "context: the value of 'k' must be a number that a computer can hold"),
        ("k", 2**63, "context: the value of 'k' must be a number that a computer can hold"),
    ],
)
def test_what_cannot_be_in_a_context(visitor, heard, key, value, said):
    before = visitor.get_context()
    assert visitor.update_context({key: value, "good": 1})[0] == (
        (key, False, said, None),
        ("good", True, "", None),
    )
    assert visitor.update_context((key, value)) == ((key, False, said, None), None)
    assert visitor.get_context() == {**before, "good": 1}
    assert heard.errors() == [f"[update_context] {said}"] * 2


def test_numbers_at_the_border_of_a_context(visitor):
    for value in (2**63 - 1, -(2**63) + 1, 1.7976931348623157e308, 0, False, ""):
        assert visitor.update_context(("k", value))[0][1] is True


@pytest.mark.parametrize(
    ("context", "synchronize", "argument"),
    [
        ("plan", False, "context"),
        (["plan", "gold"], False, "context"),
        (("plan",), False, "context"),
        (("plan", "gold", "x"), False, "context"),
        ({}, 1, "synchronize"),
    ],
)
def test_what_updates_no_context(visitor, context, synchronize, argument):
    with pytest.raises(TypingError, match=f"^{argument}: "):
        visitor.update_context(context, synchronize)


def test_a_context_that_is_synchronized(env, start):
    make_campaign(env.prop, groups=[{"variations": [NEW], "targeting": GOLD}])
    visitor = synchronized(start(), "v")
    assert visitor.get_modification("int", 7) == 7
    assert visitor.update_context(("plan", "gold"), synchronize=True)[1] == (True, "")
    assert visitor.get_modification("int", 7) == 1
    # Whoever is not meant any more has it no more.
    assert visitor.update_context({"plan": "silver"}, synchronize=True)[1] == (True, "")
    assert visitor.get_modification("int", 7) == 7


def test_keys_that_the_suite_and_clients_keep_for_themselves(env, start):
    for key in ("aff_partner", "fs_city"):
        mine = [[{"key": key, "operator": "EQUALS", "value": "x"}]]
        make_campaign(env.prop, groups=[{"variations": [NEW], "targeting": mine}])
    context = {"aff_partner": "x", "fs_city": "x"}
    assert synchronized(start(), "v", context=context).get_modification_info("int") is None


# Flags


@pytest.mark.usefixtures("campaign")
def test_the_values_of_flags(visitor):
    assert visitor.get_modification("text", "none") == "none"
    assert visitor.synchronize_modifications() == (True, "")
    for name, value in VALUES.items():
        found = visitor.get_modification(name, None)
        assert (found, type(found)) == (value, type(value))
    # Whatever the default is; as in 2.1.5.
    assert visitor.get_modification("int", "text") == 1
    assert visitor.get_modification("nothing", "as it was") == "as it was"
    # Another variation of the group has it.
    assert visitor.get_modification("b", "as it was") == "as it was"
    assert visitor.get_modification("no such flag", [1]) == [1]
    assert visitor.get_modification_with_results("int", 0) == (1, True, "", None)
    assert visitor.get_modification_with_results("b", 0) == (0, True, "", None)
    said = "key: there is no flag 'x'"
    assert visitor.get_modification_with_results("x", 0, activate=True) == (0, False, said, None)


@pytest.mark.usefixtures("campaign")
def test_what_an_application_does_to_a_value_is_its_own_matter(start):
    made = start()
    visitor = synchronized(made, "v")
    visitor.get_modification("of", {})["a"].append(2)
    visitor.get_modification("in", []).clear()
    for each in (visitor, synchronized(made, "w")):
        assert (each.get_modification("of", {}), each.get_modification("in", [])) == (
            VALUES["of"],
            VALUES["in"],
        )


@pytest.mark.usefixtures("campaign")
@pytest.mark.parametrize(
    ("args", "argument"),
    [((1, "x"), "key"), (("int", (1,)), "default_value"), (("int", 1, "yes"), "activate")],
)
def test_what_no_flag_is_asked_with(visitor, args, argument):
    with pytest.raises(TypingError, match=f"^{argument}: must be "):
        visitor.get_modification(*args)


def test_where_a_flag_is_from(visitor, campaign):
    assert visitor.get_modification_info("int") is None
    visitor.synchronize_modifications()
    expected = {
        "campaignId": campaign.uid,
        "variationGroupId": new(campaign).group.uid,
        "variationId": new(campaign).uid,
        "isReference": False,
    }
    assert visitor.get_modification_info("int") == visitor.get_modification_info("b") == expected
    assert visitor.get_modification_info("no such flag") is None
    assert visitor.get_selected_variations() == [new(campaign).uid]
    with pytest.raises(TypingError, match=r"^key: must be str, not int"):
        visitor.get_modification_info(1)


def test_the_reference(env, start):
    only = [{**ORIGINAL, "allocation": 100}]
    make_campaign(env.prop, groups=[{"variations": only}])
    assert synchronized(start(), "v").get_modification_info("b")["isReference"] is True


def test_what_was_seen_is_written_down_once(visitor, campaign):
    visitor.synchronize_modifications()
    assert not Assignment.objects.exists()
    assert visitor.activate_modification("int") == (True, "")
    assert visitor.get_modification("text", "none", activate=True) == "é🦊"
    found = visitor.get_modification_with_results("nothing", 7, activate=True)
    assert found == (7, True, "", (True, ""))
    [row] = Assignment.objects.all()
    assert (row.variation, row.version, row.identity.value) == (new(campaign), 1, "visitor-1")
    assert row.exposed_on is not None
    assert visitor.activate_modification("x") == (False, "key: there is no flag 'x'")
    with pytest.raises(TypingError, match=r"^key: "):
        visitor.activate_modification(None)


@pytest.mark.usefixtures("campaign")
@pytest.mark.django_db(transaction=True)
def test_nothing_is_asked_or_written_twice(start, django_assert_num_queries):
    made = start()
    first = synchronized(made, "visitor-1", context={"plan": "gold"})
    first.activate_modification("int")
    with django_assert_num_queries(0):
        again = synchronized(made, "visitor-1", context={"plan": "gold"})
        again.activate_modification("int")
    assert (Assignment.objects.count(), Hit.objects.count()) == (1, 1)


@pytest.mark.usefixtures("campaign")
@pytest.mark.django_db(transaction=True)
def test_what_is_taken_back_is_not_known_for_written(env, start):
    visitor = start().create_visitor("visitor-1", context={"plan": "gold"})

    def tell():
        visitor.synchronize_modifications()
        visitor.activate_modification("int")

    with transaction.atomic():
        tell()
        transaction.set_rollback(True)
    assert not Identity.objects.exists()
    tell()
    assert (Assignment.objects.count(), Hit.objects.count()) == (1, 1)


@pytest.mark.usefixtures("campaign")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_final", [True, False])
def test_without_waiting_for_the_commit_it_would_be_lost(monkeypatch, env, start, is_final):
    for module, name in ((exposures, "record"), (segments, "tell")):
        real = getattr(module, name)

        def call(*args, real=real, **named):
            return real(*args, **{**named, "is_final": is_final})

        monkeypatch.setattr(module, name, call)
    visitor = start().create_visitor("visitor-1", context={"plan": "gold"})
    for is_taken_back in (True, False):
        with transaction.atomic():
            visitor.synchronize_modifications()
            visitor.activate_modification("int")
            transaction.set_rollback(is_taken_back)
    assert Assignment.objects.exists() is Hit.objects.exists() is not is_final


def test_what_is_known_of_a_visitor_is_a_hit(start):
    visitor = synchronized(start(), "v", context={"plan": "gold", "age": 30, "on": True})
    [row] = Hit.objects.all()
    assert (row.type, row.identity.value) == ("segment", "v")
    assert row.meta == {"plan": "gold", "age": 30, "on": True}
    visitor.update_context({"plan": "\0"}, synchronize=True)
    assert Hit.objects.count() == 1


def test_a_visitor_without_a_context_is_no_hit(start):
    synchronized(start(), "v")
    assert not Identity.objects.exists()


# Experience continuity


def ids(visitor):
    return visitor.visitor_id, visitor.anonymous_id


def test_who_logs_in_and_out(visitor):
    assert visitor.authenticate("customer") is None
    assert ids(visitor) == ("customer", "visitor-1")
    visitor.authenticate("another")
    assert ids(visitor) == ("another", "visitor-1")
    assert visitor.unauthenticate() is None
    assert ids(visitor) == ("visitor-1", None)
    visitor.unauthenticate()
    assert ids(visitor) == ("visitor-1", None)


def test_who_comes_logged_in(start):
    one, other = (start().create_visitor("v", authenticated=True) for _ in range(2))
    assert one.anonymous_id != other.anonymous_id
    before = one.anonymous_id
    one.authenticate("w")
    assert ids(one) == ("w", before)
    one.unauthenticate()
    assert ids(one) == (before, None)


def test_the_context_of_who_logs_in(visitor):
    visitor.update_context(("plan", "gold"))
    visitor.authenticate("customer")
    assert visitor.get_context()["plan"] == "gold"
    visitor.authenticate("customer", {"plan": "silver"})
    assert visitor.get_context() == {"plan": "silver"}
    visitor.unauthenticate({})
    assert visitor.get_context() == {}


@pytest.mark.parametrize("nobody", ["", None])
def test_nobody_logs_in(visitor, heard, nobody):
    visitor.authenticate(nobody)
    assert ids(visitor) == ("visitor-1", None)
    assert heard.logs[-1][0] == logging.WARNING


def test_what_nobody_logs_in_with(visitor):
    for call, argument in (
        (lambda: visitor.authenticate(1), "visitor_id"),
        (lambda: visitor.authenticate("v", ("a", 1)), "context"),
        (lambda: visitor.authenticate("v", None, 1), "synchronize"),
        (lambda: visitor.unauthenticate("x"), "context"),
        (lambda: visitor.unauthenticate(None, "x"), "synchronize"),
    ):
        with pytest.raises(TypingError, match=f"^{argument}: "):
            call()
    assert ids(visitor) == ("visitor-1", None)


def test_who_logs_in_goes_on_with_what_they_have_seen(env, start):
    make_campaign(env.prop)
    made = start()
    for number in range(20):
        visitor = synchronized(made, f"visitor-{number}")
        before = visitor.get_modification("color", "none", activate=True)
        visitor.authenticate(f"customer-{number}", synchronize=True)
        assert visitor.get_modification("color", "none") == before
        # On another device, too.
        assert synchronized(made, f"customer-{number}").get_modification("color", "x") == before
        visitor.unauthenticate(synchronize=True)
        assert visitor.get_modification("color", "none") == before
    plain = [synchronized(made, f"visitor-{n}").get_modification("color", "x") for n in range(20)]
    assert set(plain) == {"red", "blue"}


def test_in_bucketing_mode_nobody_is_carried_over(start, heard):
    made = start(mode=Config.Mode.BUCKETING)
    visitor = made.create_visitor("v", authenticated=True)
    assert ids(visitor) == ("v", None)
    visitor.authenticate("customer", {"a": 1})
    visitor.unauthenticate({"a": 1})
    assert ids(visitor) == ("v", None)
    assert "a" not in visitor.get_context()
    assert [level for level, _ in heard.logs if level > logging.DEBUG] == [logging.WARNING] * 2


# Panic


@pytest.mark.usefixtures("campaign")
def test_while_panicking(env, visitor):
    visitor.synchronize_modifications()
    publishing.set_panic(prop=env.prop, panic=True)
    said = " while panic mode is enabled"
    # As in 2.1.5, a visitor hears of it when they are decided for again.
    assert visitor.get_modification("int", 7) == 1
    done, why = visitor.synchronize_modifications()
    assert (done, why.endswith(said)) == (False, True)
    before = visitor.get_context()
    assert visitor.get_modification("int", 7, activate=True) == 7
    assert visitor.get_modification_with_results("int", 7)[:2] == (7, False)
    assert visitor.get_modification_info("int") is None
    assert visitor.activate_modification("int")[0] is False
    assert visitor.send_hit(Screen("home"))[0] is False
    assert visitor.update_context({"plan": "gold"}, synchronize=True) == ((), None)
    assert visitor.get_context() == before
    assert not Identity.objects.exists()
    # Another person's context is not kept for it.
    visitor.authenticate("customer", {"plan": "gold"})
    assert (ids(visitor), visitor.get_context()) == (
        ("customer", "visitor-1"),
        {"plan": "gold"},
    )
    publishing.set_panic(prop=env.prop, panic=False)
    assert visitor.get_modification("int", 7) == 7
    assert visitor.synchronize_modifications() == (True, "")
    assert visitor.get_modification("int", 7) == 1


# Hits


def test_what_a_visitor_does_is_a_hit(env, visitor):
    purchase = make_event_type(env.prop)
    visitor.authenticate("customer")
    common = {"meta": {}, "url": "", "minor": None, "transaction_id": "", "event_type": None}
    for hit, expected in (
        (
            Page("https://shop.example/a?b=c#d")
            .with_ip("93.184.216.34")
            .with_resolution(1024, 768)
            .with_locale("fr")
            .with_session_number(3)
            .with_current_session_timestamp(1_700_000_000),
            {
                "type": "pageview",
                "url": "https://shop.example/a?b=c#d",
                "title": "",
                "meta": {
                    "resolution": "1024x768",
                    "language": "fr",
                    "session": 3,
                    "session_timestamp": 1_700_000_000,
                },
            },
        ),
        (Screen("home"), {"type": "screen", "title": "home"}),
        (
            Event(EventCategory.USER_ENGAGEMENT, "click").with_event_label("l").with_event_value(1),
            {
                "type": "event",
                "title": "click",
                "meta": {"category": "User Engagement", "label": "l", "value": 1},
            },
        ),
        (
            Item("T1", "Shoes", "S1")
            .with_price(19.99)
            .with_item_quantity(2)
            .with_item_category("cat"),
            {
                "type": "item",
                "title": "Shoes",
                "transaction_id": "T1",
                "meta": {"sku": "S1", "price": "19.99", "quantity": 2, "category": "cat"},
            },
        ),
        (
            Transaction("T1", "purchase")
            .with_total_revenue(Decimal("59.97"))
            .with_shipping_cost(5.5)
            .with_shipping_method("post")
            .with_taxes(3)
            .with_currency("EUR")
            .with_payment_method("card")
            .with_item_count(2)
            .with_coupon_code("PROMO"),
            {
                "type": "transaction",
                "title": "purchase",
                "transaction_id": "T1",
                "minor": 5997,
                "currency": "EUR",
                "event_type": purchase,
                "meta": {
                    "shipping": "5.5",
                    "tax": "3",
                    "payment_method": "card",
                    "shipping_method": "post",
                    "items": 2,
                    "coupon": "PROMO",
                },
            },
        ),
    ):
        assert visitor.send_hit(hit) == (True, "")
        row = Hit.objects.latest("pk")
        expected = {**common, **expected}
        assert {name: getattr(row, name) for name in expected} == expected
        assert row.identity.value == "customer"
    assert people(env.prop) == ["client:customer client:visitor-1"]
    visitor.send_hit(Transaction("T1", "purchase"))
    assert Hit.objects.filter(type="transaction").count() == 1


def test_whoever_has_not_logged_in(env, visitor):
    visitor.send_hit(Screen("home"))
    assert people(env.prop) == ["client:visitor-1"]


@pytest.mark.parametrize("hit", [None, "hit", {"t": "PAGEVIEW"}, Page])
def test_what_is_no_hit(visitor, hit):
    with pytest.raises(TypingError, match=r"^hit: must be Hit, not "):
        visitor.send_hit(hit)


@pytest.mark.parametrize(
    "location",
    [
        *("", "/home", "home", "ftp://a.example/", "http://", "https://a b.example/"),
        *("http://a..example/", "http://256.256.256.256/", "javascript:alert(1)"),
        "https://a.example/\nb",
    ],
)
def test_a_page_that_has_no_address_is_not_sent(visitor, heard, location):
    done, said = visitor.send_hit(Page(location))
    assert (done, said) == (False, f"location: {location[:100]!r} is not a valid URL")
    assert not Hit.objects.exists()
    assert heard.errors() == [f"[send_hit] {said}"]


@pytest.mark.parametrize(
    "location",
    [
        *("http://localhost:8000/a", "https://a.example", "http://127.0.0.1/?x=1#y"),
        *("http://[::1]:80/", "https://köln.example/ö?é=🦊", "HTTPS://A.EXAMPLE/"),
    ],
)
def test_a_page_that_has_an_address(visitor, location):
    assert visitor.send_hit(Page(location)) == (True, "")
    assert Hit.objects.get().url == location


URL = "https://a.example/"
ACTION = EventCategory.ACTION_TRACKING


def of_length(name, most, make, *, needed=True):
    """Return what may and may not be given where there is room for so many characters."""
    good = ["é", "x" * most, "🦊" * most, *([] if needed else [""])]
    bad = [("x" * (most + 1), ParamError), ("a\0", ParamError), ("\ud800", ParamError)]
    bad += [("", ParamError)] if needed else []
    bad += [(1, TypingError), (None, TypingError), (b"x", TypingError), (["x"], TypingError)]
    return name, make, good, bad


def of_amount(name, make):
    good = [0, 1, -1, 0.01, -5.5, 10**18, Decimal("19.90")]
    bad = [(True, TypingError), ("1", TypingError), (None, TypingError)]
    bad += [(each, ParamError) for each in (float("nan"), float("inf"), 10**19, -1e300)]
    return name, make, good, [*bad, (Decimal("sNaN"), ParamError)]


def of_count(name, make, *, least=0, most=2**63 - 1):
    good = [least, least + 1, most]
    bad = [(least - 1, ParamError), (most + 1, ParamError), (-(10**30), ParamError)]
    return name, make, good, [*bad, *((each, TypingError) for each in (1.0, True, "1", None))]


def transaction_of():
    return Transaction("T", "purchase")


def item_of():
    return Item("T", "Shoes", "S")


RULES = [
    of_length("location", 2048, Page, needed=False),
    of_length("location", 2048, Screen),
    of_length("transaction_id", 500, lambda each: Transaction(each, "a")),
    of_length("affiliation", 500, lambda each: Transaction("t", each)),
    of_length("transaction_id", 500, lambda each: Item(each, "n", "s")),
    of_length("product_name", 500, lambda each: Item("t", each, "s")),
    of_length("product_sku", 500, lambda each: Item("t", "n", each)),
    of_length("action", 500, lambda each: Event(ACTION, each)),
    of_length("locale", 20, lambda each: Page(URL).with_locale(each), needed=False),
    of_length(
        "shipping_method",
        10,
        lambda each: transaction_of().with_shipping_method(each),
        needed=False,
    ),
    of_length("payment", 10, lambda each: transaction_of().with_payment_method(each), needed=False),
    of_length("coupon", 10, lambda each: transaction_of().with_coupon_code(each), needed=False),
    of_length("category", 500, lambda each: item_of().with_item_category(each), needed=False),
    of_length("label", 500, lambda each: Event(ACTION, "a").with_event_label(each), needed=False),
    of_amount("revenue", lambda each: transaction_of().with_total_revenue(each)),
    of_amount("shipping", lambda each: transaction_of().with_shipping_cost(each)),
    of_amount("taxes", lambda each: transaction_of().with_taxes(each)),
    of_amount("price", lambda each: item_of().with_price(each)),
    of_count("item_nb", lambda each: transaction_of().with_item_count(each)),
    of_count("item_quantity", lambda each: item_of().with_item_quantity(each)),
    of_count("number", lambda each: Page(URL).with_session_number(each)),
    of_count("timestamp", lambda each: Page(URL).with_current_session_timestamp(each)),
    of_count("value", lambda each: Event(ACTION, "a").with_event_value(each), least=1),
    of_count("width", lambda each: Page(URL).with_resolution(each, 1), most=9_999_999_999),
    of_count("height", lambda each: Page(URL).with_resolution(1, each), most=9_999_999_999),
    (
        "category",
        lambda each: Event(each, "a"),
        [*EventCategory],
        [(each, TypingError) for each in ("ACTION_TRACKING", "Action Tracking", None, 1)],
    ),
    (
        "currency",
        lambda each: transaction_of().with_currency(each),
        ["EUR", "eur", "JPY", "USD"],
        [
            *((each, ParamError) for each in ("", "EU", "EURO", "XYZ", "€", "EUR ", "XAU")),
            *((each, TypingError) for each in (None, 978, b"EUR")),
        ],
    ),
    (
        "ip",
        lambda each: Page(URL).with_ip(each),
        ["93.184.216.34", "::1", "2001:db8::1"],
        [
            *((each, ParamError) for each in ("", "1.2.3", "1.2.3.256", "localhost", "::1/64")),
            *((each, TypingError) for each in (None, 16_909_060)),
        ],
    ),
]


@pytest.mark.parametrize(
    ("argument", "make", "good", "bad"), RULES, ids=[each[0] for each in RULES]
)
def test_the_rules_of_hits_at_their_borders(argument, make, good, bad):
    for each in good:
        assert isinstance(make(each), flagship.Hit)
    for each, error in bad:
        with pytest.raises(error, match=f"^{argument}: ") as raised:
            make(each)
        assert type(raised.value) is error


@pytest.mark.parametrize(
    ("argument", "make", "good", "bad"), RULES, ids=[each[0] for each in RULES]
)
def test_what_a_hit_may_have_is_recorded(visitor, argument, make, good, bad):
    for each in good:
        hit = make(each)
        if hit.problem():
            continue
        done = visitor.send_hit(hit)
        # No currency has so much money in it; its smallest unit is counted.
        assert done == (True, "") or (each, done) == (10**18, (False, "tr: is too large a number"))


def test_the_fields_of_a_hit_are_its_own():
    hit = Page(URL)
    hit.get_data()["dl"] = "x"
    assert hit.get_data() == {"t": "PAGEVIEW", "ds": "APP", "dl": URL}
    assert str(hit) == 'Hit : {"t": "PAGEVIEW", "ds": "APP", "dl": "https://a.example/"}'


# Who may, and what fails


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"env_id": "nope"}, "env_id: no property has the public key 'nope'"),
        ({"api_key": "wrong"}, "api_key: is not the property's secret"),
        ({"api_key": ""}, "api_key: is not the property's secret"),
    ],
)
def test_the_wrong_environment(start, heard, campaign, named, said):
    visitor = start(**named).create_visitor("v", context={"plan": "gold"})
    assert visitor.synchronize_modifications() == (False, said)
    assert visitor.send_hit(Screen("x")) == (False, said)
    assert heard.errors() == [f"[synchronize_modifications] {said}", f"[send_hit] {said}"]
    assert not Identity.objects.exists()


@pytest.mark.usefixtures("campaign")
def test_the_right_key(env, start):
    assert synchronized(start(api_key=env.key), "v").get_modification("int", 7) == 1


@pytest.mark.usefixtures("campaign")
def test_a_property_that_is_disabled(env, visitor):
    visitor.synchronize_modifications()
    Property.objects.update(active=False)
    import_module("affiliations.tracking.properties").forget()
    said = (False, "env_id: the property is disabled")
    assert visitor.synchronize_modifications() == said
    assert visitor.activate_modification("int") == said
    assert visitor.send_hit(Screen("x")) == said
    # What they had they keep, as when a server does not answer.
    assert visitor.get_modification("int", 7) == 1
    assert not Identity.objects.exists()


@pytest.mark.usefixtures("campaign")
@pytest.mark.parametrize("nobody", ["null", "undefined", "\0", "x" * 501])
def test_who_cannot_be_known_is_decided_for(start, nobody):
    visitor = synchronized(start(), nobody, context={"plan": "gold"})
    assert visitor.get_modification("int", 7) == 1
    for done, said in (visitor.activate_modification("int"), visitor.send_hit(Screen("x"))):
        assert (done, said.partition(":")[0]) == (False, "visitor_id")
    assert not Identity.objects.exists()


@pytest.mark.usefixtures("campaign")
@pytest.mark.parametrize("why", ["gpc", "consent", "agreed", "no request"])
def test_the_browser_of_the_request_in_progress(start, settings, why):
    headers = {"sec-gpc": "1"} if why == "gpc" else {}
    settings.AFFILIATE_CONSENT = lambda request: why != "consent"
    request = None if why == "no request" else RequestFactory().get("/", headers=headers)
    token = current_request.set(request)
    try:
        visitor = synchronized(start(), "v", context={"plan": "gold"})
        assert visitor.get_modification("int", 7) == 1
        visitor.authenticate("customer", synchronize=True)
        done = {visitor.activate_modification("int")[0], visitor.send_hit(Screen("x"))[0]}
    finally:
        current_request.reset(token)
    is_recorded = why in ("agreed", "no request")
    assert done == {is_recorded}
    assert Identity.objects.exists() is Hit.objects.exists() is is_recorded


@pytest.mark.usefixtures("campaign")
def test_a_database_that_fails(env, visitor, heard, monkeypatch):
    visitor.synchronize_modifications()

    def fail(*args, **named):
        Property.objects.issue(name="half done")
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    for module, name in ((deciding, "decide"), (exposures, "record")):
        monkeypatch.setattr(module, name, fail)
    with transaction.atomic():
        done, said = visitor.synchronize_modifications()
        assert (done, said.partition(":")[0]) == (False, "the database could not be asked")
        assert visitor.activate_modification("int")[0] is False
        # The transaction of the site's goes on, on each database, and nothing is done by halves.
        assert Property.objects.get().pk == env.prop.pk
        with pytest.raises(DatabaseError):
            fail()
        transaction.set_rollback(True)
    assert visitor.get_modification("int", 7) == 1
    assert len(heard.errors()) == 2


@pytest.mark.usefixtures("campaign")
def test_a_context_that_cannot_be_written_takes_no_flag_along(visitor, monkeypatch):
    def fail(*args, **named):
        raise DatabaseError("read only")

    monkeypatch.setattr(segments, "tell", fail)
    assert visitor.synchronize_modifications() == (True, "")
    assert visitor.get_modification("int", 7) == 1


def test_a_decision_asks_the_database_only_now_and_then(start, campaign):
    made = start()
    with CaptureQueriesContext(connection) as queries:
        synchronized(made, "v")
    assert len(queries) > 0
    with CaptureQueriesContext(connection) as queries:
        for number in range(50):
            synchronized(made, f"visitor-{number}").get_modification("int", 7)
    assert len(queries) == 0


@pytest.mark.usefixtures("campaign")
@pytest.mark.django_db(transaction=True)
async def test_from_asynchronous_code(env):
    made = await sync_to_async(Flagship)()
    await sync_to_async(made.start)(Config(env.id))
    visitor = made.create_visitor("v")
    with pytest.raises(SynchronousOnlyOperation):
        visitor.synchronize_modifications()
    assert await sync_to_async(visitor.synchronize_modifications)() == (True, "")
    # What asks no database may be called as it is.
    assert visitor.get_modification("int", 7) == 1
    assert await sync_to_async(visitor.activate_modification)("int") == (True, "")
    assert await Assignment.objects.acount() == 1


@pytest.mark.django_db(transaction=True)
def test_threads_that_share_a_visitor(start, campaign):
    made, failed = start(), []
    shared, together = made.create_visitor("shared"), threading.Barrier(8)

    def act(number):
        try:
            together.wait()
            for turn in range(3):
                shared.update_context({f"key-{number}": turn}, synchronize=True)
                own = made.create_visitor("shared")
                for visitor in (shared, own):
                    visitor.synchronize_modifications()
                    assert visitor.get_modification("int", 7, activate=True) == 1
                    assert visitor.send_hit(Screen(f"{number} {turn}")) == (True, "")
        except Exception as error:  # noqa: BLE001 # it is told by the test
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=act, args=[number]) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failed == []
    # Nothing that one has put there is lost by another's.
    context = shared.get_context()
    assert [context[f"key-{number}"] for number in range(8)] == [2] * 8
    [row] = Assignment.objects.all()
    assert (row.variation, row.is_mixed) == (new(campaign), False)
    assert Hit.objects.filter(type="screen").count() == 8 * 3 * 2


# What is said of it


@pytest.mark.parametrize(("debug", "is_told"), [(None, True), (True, True), (False, False)])
def test_debugging(start, heard, debug, is_told):
    synchronized(start(debug=debug), "v")
    assert any(level == logging.DEBUG for level, _ in heard.logs) is is_told


def test_by_default_it_is_logged(env, caplog):
    made = Flagship()
    with caplog.at_level(logging.DEBUG, logger="affiliations.experiments.flagship"):
        made.start(Config(env.id, env.key))
        visitor = synchronized(made, "v", context={"plan": "gold 100%s"})
        visitor.get_modification("x", 1)
        with pytest.raises(TypingError):
            visitor.get_modification(1, 1)
    levels = {each.levelno for each in caplog.records}
    assert levels == {logging.DEBUG, logging.ERROR, logging.CRITICAL}
    # Neither who it is nor what is known of them, nor the key.
    for secret in ("gold", env.key):
        assert secret not in caplog.text
