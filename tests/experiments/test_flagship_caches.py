"""Visitor caches of the Flagship API: when they are asked, what is used, and the ready ones."""

import json
from importlib import import_module

import pytest
from django.core.cache import CacheKeyWarning, caches
from django.db import DatabaseError, connection, transaction
from django.test import RequestFactory

from affiliations.context import current_request
from affiliations.experiments import publishing
from affiliations.experiments.flagship import (
    Config,
    DatabaseCacheManager,
    DjangoCacheManager,
    Flagship,
    FlagshipEventHandler,
    VisitorCacheManager,
)
from affiliations.experiments.hashing import bucket
from affiliations.experiments.models import Assignment, Variation
from affiliations.experiments.models import Environment as Row
from affiliations.tracking.exceptions import UnknownProperty
from affiliations.tracking.models import Property
from tests.experiments.environment import Environment
from tests.experiments.factories import BLUE, ORIGINAL, make_assignment, make_campaign

pytestmark = pytest.mark.django_db

GOLD = [[{"key": "plan", "operator": "EQUALS", "value": "gold"}]]


class Kept(VisitorCacheManager):
    """An application's own manager, which says what it was asked."""

    def __init__(self, **kept):
        self.kept, self.calls = kept, []

    def save(self, visitor_id, visitor_data):
        self.calls.append(("save", visitor_id))
        self.kept[visitor_id] = visitor_data

    def lookup(self, visitor_id):
        self.calls.append(("lookup", visitor_id))
        return self.kept.get(visitor_id)


class Heard(FlagshipEventHandler):
    def __init__(self):
        super().__init__()
        self.raised, self.logs = [], []

    def on_log(self, level, message):
        self.logs.append(message)

    def on_exception_raised(self, exception, traceback):
        self.raised.append(exception)


@pytest.fixture
def env():
    return Environment()


@pytest.fixture
def campaign(env):
    return make_campaign(env.prop)


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def start(env, heard):
    def started(manager=None, **options):
        made = Flagship()
        config = Config(env.id, event_handler=heard, visitor_cache_manager=manager, **options)
        made.start(config)
        return made

    return started


def variation(campaign, name):
    return Variation.objects.select_related("group__campaign__property").get(
        group__campaign=campaign, name=name
    )


def data(visitor_id, *ids):
    return {"version": 1, "data": {"vId": visitor_id, "vaIds": [*ids]}}


def whose(campaign, color):
    """Return a visitor whose bucket has a color."""
    group = variation(campaign, "Blue").group.uid
    half = range(50) if color == "red" else range(50, 100)
    return next(
        each for each in map("visitor-{}".format, range(999)) if bucket(group, each) in half
    )


def color(flagship, visitor_id, **context):
    visitor = flagship.create_visitor(visitor_id, context=context)
    assert visitor.synchronize_modifications() == (True, "")
    return visitor.get_modification("color", "none")


# When they are asked


def test_before_and_after_each_synchronization(env, start, campaign):
    kept = Kept()
    visitor = start(kept).create_visitor("v", context={"a": 1})
    visitor.update_context(("plan", "gold"))
    assert kept.calls == []
    visitor.synchronize_modifications()
    visitor.get_modification("color", "none", activate=True)
    assert kept.calls == [("lookup", "v"), ("save", "v")]
    seen = visitor.get_modification_info("color")["variationId"]
    assert kept.kept == {"v": data("v", seen)}
    visitor.update_context(("plan", "gold"), synchronize=True)
    assert kept.calls == [("lookup", "v"), ("save", "v")] * 2
    visitor.authenticate("customer", synchronize=True)
    visitor.unauthenticate(synchronize=True)
    assert kept.calls[4:] == [
        *(("lookup", "customer"), ("save", "customer")),
        *(("lookup", "v"), ("save", "v")),
    ]
    assert kept.kept["customer"] == data("customer", seen)


def test_each_variation_once_and_none_without_flags(env, start):
    both = [{"name": "Both", "allocation": 100, "modifications": {"a": 1, "b": 2}}]
    nothing = [{"name": "Nothing", "allocation": 100}]
    expected = []
    for variations in (both, nothing, both):
        campaign = make_campaign(env.prop, groups=[{"variations": variations}])
        expected.append(campaign.groups.get().variations.get().uid)
    kept = Kept()
    start(kept).create_visitor("v").synchronize_modifications()
    # The last campaign has the last word on both flags.
    assert kept.kept == {"v": data("v", expected[2])}


def test_what_is_saved_is_the_managers_own(start, campaign):
    kept = Kept()
    visitor = start(kept).create_visitor("v")
    visitor.synchronize_modifications()
    kept.kept["v"]["data"]["vaIds"].clear()
    assert len(visitor.get_selected_variations()) == 1
    assert json.loads(json.dumps(kept.kept)) == kept.kept


def test_nothing_is_saved_of_what_was_not_decided(env, start, campaign):
    kept = Kept()
    visitor = start(kept).create_visitor("v")
    publishing.set_panic(prop=env.prop, panic=True)
    visitor.synchronize_modifications()
    publishing.set_panic(prop=env.prop, panic=False)
    Property.objects.update(active=False)
    import_module("affiliations.tracking.properties").forget()
    visitor.synchronize_modifications()
    assert kept.calls == [("lookup", "v")] * 2


def test_a_manager_has_both_methods():
    class Half(VisitorCacheManager):
        def save(self, visitor_id, visitor_data):
            pass

    with pytest.raises(TypeError, match="lookup"):
        Half()


@pytest.mark.parametrize("method", ["lookup", "save"])
@pytest.mark.parametrize("in_transaction", [True, False])
def test_a_manager_that_fails(start, heard, campaign, method, in_transaction):
    class Fails(Kept):
        pass

    def fail(*args):
        Property.objects.issue(name="half done")
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    setattr(Fails, method, fail)
    with transaction.atomic():
        visitor = start(Fails()).create_visitor("v")
        assert visitor.synchronize_modifications() == (True, "")
        assert visitor.get_modification("color", "none") in ("red", "blue")
        # The transaction of the site's goes on, on each database, and nothing is done by halves.
        assert Property.objects.count() == 1
    [error] = heard.raised
    assert isinstance(error, DatabaseError)


# What is used of them


def test_what_is_cached_is_seen_again(env, start, client, campaign):
    who, blue = whose(campaign, "red"), variation(campaign, "Blue").uid
    assert color(start(), who) == "red"
    assert color(start(Kept(**{who: data(who, "nothing", blue)})), who) == "blue"
    # It is written down, so that a client of the server, and one without the cache, see it, too.
    [row] = Assignment.objects.all()
    assert (row.variation.uid, row.exposed_on, row.identity.value) == (blue, None, who)
    assert env.flags(client, who) == {"color": "blue"}
    assert color(start(), who) == "blue"
    assert start(Kept()).create_visitor(who).synchronize_modifications() == (True, "")


def test_an_id_of_the_bucketing_file(start, campaign):
    who, blue = whose(campaign, "red"), variation(campaign, "Blue").uid
    assert color(start(Kept(**{who: data(who, f"{blue}.1")})), who) == "blue"


def test_of_several_the_first_of_the_group(start, campaign):
    who = whose(campaign, "blue")
    ids = [variation(campaign, name).uid for name in ("Blue", "Original")]
    assert color(start(Kept(**{who: data(who, *ids)})), who) == "red"


def test_what_the_bucket_says_anyway_is_not_written_down(env, start, campaign):
    who, blue = whose(campaign, "blue"), variation(campaign, "Blue").uid
    assert color(start(Kept(**{who: data(who, blue)})), who) == "blue"
    assert not Assignment.objects.exists()
    assert not Row.objects.get(property=env.prop).keeps


def test_what_the_suite_knows_comes_first(env, start, campaign):
    who, blue = whose(campaign, "red"), variation(campaign, "Blue").uid
    make_assignment(variation(campaign, "Original"), who)
    assert not Row.objects.get(property=env.prop).keeps
    assert color(start(Kept(**{who: data(who, blue)})), who) == "red"
    assert Assignment.objects.count() == 1


def test_a_variation_that_is_no_more(start, campaign):
    who, blue = whose(campaign, "red"), variation(campaign, "Blue")
    manager = Kept(**{who: data(who, blue.uid)})
    Variation.objects.filter(pk=blue.pk).update(retired=True)
    publishing.publish(campaign=campaign)
    assert color(start(manager), who) == "red"
    assert manager.kept[who] == data(who, variation(campaign, "Original").uid)


def test_a_group_that_means_somebody_else_now(env, start):
    groups = [
        {"variations": [ORIGINAL, BLUE], "targeting": GOLD},
        {"variations": [{"name": "Green", "allocation": 100, "modifications": {"color": "green"}}]},
    ]
    campaign = make_campaign(env.prop, groups=groups)
    who, blue = whose(campaign, "red"), variation(campaign, "Blue").uid
    made = start(Kept(**{who: data(who, blue)}))
    assert color(made, who, plan="silver") == "green"
    made = start(Kept(**{who: data(who, blue)}))
    assert color(made, who, plan="gold") == "blue"


def test_of_a_browser_that_is_not_recorded_nothing_is_written(env, start, campaign):
    who, blue = whose(campaign, "red"), variation(campaign, "Blue").uid
    token = current_request.set(RequestFactory().get("/", headers={"sec-gpc": "1"}))
    try:
        assert color(start(Kept(**{who: data(who, blue)})), who) == "blue"
        assert color(start(DatabaseCacheManager(env.id)), who) == "red"
    finally:
        current_request.reset(token)
    assert not Assignment.objects.exists()


@pytest.mark.parametrize(
    "shape",
    [
        lambda who, ids: None,
        lambda who, ids: {},
        lambda who, ids: [],
        lambda who, ids: json.dumps(data(who, *ids)),
        lambda who, ids: {**data(who, *ids), "version": 0},
        lambda who, ids: {**data(who, *ids), "version": 2},
        lambda who, ids: {**data(who, *ids), "version": "1"},
        lambda who, ids: {**data(who, *ids), "version": True},
        lambda who, ids: {**data(who, *ids), "version": 1.0},
        lambda who, ids: {"data": {"vId": who, "vaIds": ids}},
        lambda who, ids: {"version": 1, "vId": who, "vaIds": ids},
        lambda who, ids: {"version": 1, "data": [who, ids]},
        lambda who, ids: {"version": 1, "data": {"vaIds": ids}},
        lambda who, ids: data("", *ids),
        lambda who, ids: data("another", *ids),
        lambda who, ids: data(1, *ids),
        lambda who, ids: {"version": 1, "data": {"vId": who}},
        lambda who, ids: {"version": 1, "data": {"vId": who, "vaIds": ids[0]}},
        lambda who, ids: {"version": 1, "data": {"vId": who, "vaIds": {ids[0]: 1}}},
        lambda who, ids: data(who),
        lambda who, ids: data(who, None, 1, [ids[0]], {"id": ids[0]}),
    ],
)
def test_any_other_form_is_ignored(start, heard, campaign, shape):
    who, blue = whose(campaign, "red"), variation(campaign, "Blue").uid
    assert color(start(Kept(**{who: shape(who, [blue])})), who) == "red"
    assert heard.raised == []


# On Django's cache

STRANGE = ["visitor-1", "a b", "\x7f", "é🦊", "x" * 10_000, "\ud800", "a:b"]


def test_on_a_cache_of_django(start, campaign):
    who, blue = whose(campaign, "red"), variation(campaign, "Blue").uid
    manager = DjangoCacheManager()
    assert manager.lookup(who) is None
    assert color(start(manager), who) == "red"
    assert manager.lookup(who) == data(who, variation(campaign, "Original").uid)
    manager.save(who, data(who, blue))
    assert color(start(DjangoCacheManager()), who) == "blue"
    caches["default"].clear()


def test_keys_that_a_cache_takes(settings):
    # It complains of what others would refuse, and a warning is an error here.
    with pytest.raises(CacheKeyWarning):
        caches["default"].set("a b", 1)
    manager = DjangoCacheManager()
    for each in STRANGE:
        manager.save(each, data(each, "va"))
    assert [manager.lookup(each) for each in STRANGE] == [data(each, "va") for each in STRANGE]
    caches["default"].clear()


def test_how_long_and_where_it_is_kept(settings):
    backend = "django.core.cache.backends.locmem.LocMemCache"
    settings.CACHES = {
        "default": {"BACKEND": backend, "LOCATION": "one", "TIMEOUT": 0},
        "other": {"BACKEND": backend, "LOCATION": "two", "TIMEOUT": 0},
    }
    DjangoCacheManager().save("v", data("v", "va"))
    # For ever, whatever the cache's own time is.
    assert DjangoCacheManager().lookup("v") == data("v", "va")
    assert DjangoCacheManager("other").lookup("v") is None
    assert DjangoCacheManager(prefix="another").lookup("v") is None
    DjangoCacheManager("other", timeout=0).save("v", data("v", "va"))
    assert DjangoCacheManager("other").lookup("v") is None
    DjangoCacheManager(alias="other", timeout=60).save("v", data("v", "va"))
    assert DjangoCacheManager("other").lookup("v") == data("v", "va")


# On the database


def test_on_the_database(env, start, campaign):
    who = whose(campaign, "red")
    manager = DatabaseCacheManager(env.id)
    assert manager.lookup(who) == data(who)
    assert color(start(manager), who) == "red"
    [row] = Assignment.objects.all()
    assert (row.variation.name, row.exposed_on, row.version) == ("Original", None, 1)
    assert manager.lookup(who) == data(who, row.variation.uid)
    color(start(manager), who)
    assert Assignment.objects.count() == 1


@pytest.mark.parametrize("has_manager", [True, False])
def test_whoever_was_given_something_keeps_it(env, start, campaign, has_manager):
    who = whose(campaign, "blue")
    made = start(DatabaseCacheManager(env.id) if has_manager else None)
    assert color(made, who) == "blue"
    Variation.objects.filter(group__campaign=campaign, name="Blue").update(allocation=0)
    Variation.objects.filter(group__campaign=campaign, name="Original").update(allocation=100)
    publishing.publish(campaign=campaign)
    # Without it, only what somebody has seen is known.
    assert color(made, who) == ("blue" if has_manager else "red")


def test_what_was_seen_stays_seen(env, start, campaign):
    who = whose(campaign, "blue")
    visitor = start(DatabaseCacheManager(env.id)).create_visitor(who)
    visitor.synchronize_modifications()
    visitor.activate_modification("color")
    visitor.synchronize_modifications()
    [row] = Assignment.objects.all()
    assert row.exposed_on is not None
    assert not row.is_mixed
    DatabaseCacheManager(env.id).save(who, data(who, variation(campaign, "Original").uid))
    assert Assignment.objects.get().variation.name == "Blue"


def test_what_the_database_does_not_keep(env, campaign):
    manager = DatabaseCacheManager(env.id)
    blue = variation(campaign, "Blue").uid
    manager.save("v", data("v", "no such variation"))
    manager.save("v", data("another", blue))
    manager.save("v", {"version": 2})
    manager.save("null", data("null", blue))
    assert not Assignment.objects.exists()
    manager.save("v", data("v", f"{blue}.2", blue))
    assert Assignment.objects.get().variation.uid == blue


def test_the_property_that_the_site_is(env, campaign, settings):
    settings.AFFILIATE_TRACKING_PROPERTY = env.id
    manager = DatabaseCacheManager()
    manager.save("v", data("v", variation(campaign, "Blue").uid))
    assert manager.lookup("v") == data("v", variation(campaign, "Blue").uid)


def test_a_property_that_there_is_not(start, heard, campaign):
    with pytest.raises(UnknownProperty, match=r"^env_id: "):
        DatabaseCacheManager("nope").lookup("v")
    assert color(start(DatabaseCacheManager("nope")), "v") in ("red", "blue")
    assert [type(each) for each in heard.raised] == [UnknownProperty] * 2


@pytest.mark.django_db(transaction=True)
def test_its_queries(env, start, campaign, django_assert_num_queries):
    made = start(DatabaseCacheManager(env.id))
    color(made, "v")
    # What was kept, what is known here, and that it is all kept.
    with django_assert_num_queries(3):
        color(made, "v")
