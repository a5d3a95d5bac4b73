"""The real Flagship SDKs, as their users have them, against this server: every scenario there is.

Both versions, and both ways: deciding here, and by the file that they are given.
"""

import json
import random
import time
from collections import Counter

import pytest
from django.core.signals import request_finished, request_started

from affiliations.experiments import deciding, live, publishing, taking
from affiliations.experiments.models import Assignment, Variation, VariationGroup
from affiliations.tracking.models import Hit
from tests.experiments.environment import Environment
from tests.experiments.factories import make_campaign, make_exclusion
from tests.experiments.flagship_sdks import MODES, VERSIONS, Sdk, SdkFailed
from tests.tracking.factories import known, people

pytestmark = pytest.mark.django_db(transaction=True)

OLD, NEW = VERSIONS
API, BUCKETING = MODES
EACH = pytest.mark.parametrize(("version", "mode"), [(v, m) for v in VERSIONS for m in MODES])
VERSION = pytest.mark.parametrize("version", VERSIONS)
CONTEXT = {"plan": "gold", "age": 30, "vip": True, "ratio": 1.5}
VALUES = {
    "text": "red",
    "number": 12,
    "share": 1.5,
    "one": 1.0,
    "on": True,
    "off": False,
    "of": {"a": [1, "ü", None]},
    "in": [1, "2", 3.0],
    "emoji": "\U0001f600",
}


@pytest.fixture
def env():
    return Environment()


@pytest.fixture
def start(live_server, env):
    """Return what starts an SDK here."""
    running = []

    def start(version, mode, **options):
        options = {"polling_interval": 0.2, **options}
        base = f"{live_server.url}/flagship"
        sdk = Sdk(version, base, env_id=env.id, api_key=env.key, mode=mode, **options)
        running.append(sdk)
        return sdk.__enter__()

    open_requests = Counter()

    def begin(**kwargs):
        open_requests["now"] += 1

    def end(**kwargs):
        open_requests["now"] -= 1

    request_started.connect(begin)
    request_finished.connect(end)
    yield start
    for each in running:
        each.__exit__(None, None, None)
    # What was acknowledged is still being written: the tables must not be emptied meanwhile.
    until(lambda: open_requests["now"] <= 0)
    request_started.disconnect(begin)
    request_finished.disconnect(end)


def until(found, seconds=15):
    """Wait until something is so, for it is answered first and written then; return it."""
    end = time.monotonic() + seconds
    while not (said := found()):
        if time.monotonic() > end:
            pytest.fail("it has not come")
        time.sleep(0.05)
    return said


def all_of(prop, value=VALUES, **fields):
    """Return a campaign that shows everybody the same."""
    whole = [{"name": "New", "allocation": 100, "modifications": value}]
    return make_campaign(prop, groups=[{"variations": whole, **fields}])


def written(number):
    return until(lambda: len(rows := list(Hit.objects.order_by("pk"))) >= number and rows)


# What somebody sees


@EACH
def test_flags_of_every_kind(start, env, version, mode):
    all_of(env.prop)
    who = start(version, mode).new_visitor("visitor-1", context=CONTEXT)
    who.synchronize()
    for name, value in VALUES.items():
        default = type(value)()
        found = who.value(name, default)
        assert (found, type(found)) == (value, type(value))
    assert who.value("nothing", "default") == "default"


@EACH
def test_what_a_flag_comes_from(start, env, version, mode):
    campaign = all_of(env.prop)
    who = start(version, mode).new_visitor("visitor-1")
    who.synchronize()
    found = who.info("text")
    new = Variation.objects.select_related("group").get()
    assert {**found, "campaignId": campaign.uid} == found
    assert (found["variationGroupId"], found["variationId"]) == (new.group.uid, new.uid)
    assert found["isReference"] is False
    # Of what there is not one knows nothing, the other knows that it is empty.
    assert not any((who.info("nothing") or {}).values())


@EACH
def test_who_is_meant_changes_with_what_is_known_of_them(start, env, version, mode):
    gold = [{"key": "plan", "operator": "EQUALS", "value": "gold"}]
    old = [{"key": "age", "operator": "GREATER_THAN", "value": 60}]
    all_of(env.prop, {"text": "for you"}, targeting=[gold, old])
    who = start(version, mode).new_visitor("visitor-1", context={"plan": "none", "age": 30})
    who.synchronize()
    assert who.value("text", "") == ""
    who.update_context({"plan": "gold"}, synchronize=True)
    assert who.value("text", "") == "for you"
    if version == NEW or mode == BUCKETING:
        # By the API the older one never takes back what is not there any more.
        who.update_context(("plan", "none"), synchronize=True)
        assert who.value("text", "") == ""
    who.update_context({"plan": "none", "age": 61}, synchronize=True)
    assert who.value("text", "") == "for you"


@EACH
def test_nothing_at_all_harms_nobody(start, env, version, mode):
    who = start(version, mode).new_visitor("visitor-1")
    who.synchronize()
    assert who.flags() == {}


@VERSION
def test_the_wrong_key_harms_nobody(start, env, version, live_server):
    all_of(env.prop)
    env.key = "wrong"
    who = start(version, API).new_visitor("visitor-1")
    who.synchronize()
    assert who.value("text", "default") == "default"


@VERSION
def test_an_unknown_environment_harms_nobody(start, env, version):
    env.id = "nope"
    who = start(version, API).new_visitor("visitor-1")
    who.synchronize()
    assert who.value("text", "default") == "default"


@EACH
def test_panic(start, env, version, mode):
    all_of(env.prop)
    sdk = start(version, mode)
    who = sdk.new_visitor("visitor-1")
    who.synchronize()
    publishing.set_panic(prop=env.prop, panic=True)
    if mode == BUCKETING:
        until(lambda: sdk.poll() or who.panics())
    who.synchronize()
    assert who.panics()
    assert who.value("text", "default") == "default"
    publishing.set_panic(prop=env.prop, panic=False)
    if mode == BUCKETING:
        until(lambda: sdk.poll() or not who.panics())
    who.synchronize()
    assert who.value("text", "default") == "red"


@VERSION
def test_one_that_is_started_in_panic_comes_out_of_it(start, env, version):
    all_of(env.prop)
    publishing.set_panic(prop=env.prop, panic=True)
    sdk = start(version, BUCKETING)
    # It has to be told once more, which it would not be by 304.
    sdk.poll()
    publishing.set_panic(prop=env.prop, panic=False)

    def shows():
        sdk.poll()
        # A new one: of one that was made in panic the older SDK knows nothing at all.
        who = sdk.new_visitor("visitor-1")
        who.synchronize()
        return who.value("text", "default") == "red"

    until(shows)


@VERSION
def test_a_change_comes_with_the_next_look(start, env, version):
    campaign = all_of(env.prop)
    sdk = start(version, BUCKETING)
    who = sdk.new_visitor("visitor-1")
    who.synchronize()
    Variation.objects.update(modifications='{"text": "green"}')
    publishing.publish(campaign=campaign)

    def shows():
        sdk.poll()
        who.synchronize()
        return who.value("text", "default") == "green"

    until(shows)
    publishing.pause(campaign=campaign)

    def hides():
        sdk.poll()
        who.synchronize()
        return who.value("text", "default") == "default"

    until(hides)


# What somebody has seen and done


@EACH
@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_seen_is_known(start, env, version, mode, at_once):
    all_of(env.prop)
    sdk = start(version, mode)
    who = sdk.new_visitor("visitor-1")
    who.synchronize()
    assert who.value("text", "", activate=at_once) == "red"
    if not at_once:
        assert not Assignment.objects.exclude(exposed_on=None).exists()
        who.activate("text")
    sdk.flush()
    [row] = until(lambda: list(Assignment.objects.exclude(exposed_on=None)))
    assert (row.variation, row.identity.value) == (Variation.objects.get(), "visitor-1")


def of_type(rows, kind):
    """Return the hits of a type, but for those by which 3.0.1 says that somebody agrees."""
    return [each for each in rows if each.type == kind and each.title != "fs_consent"]


@EACH
def test_every_kind_of_hit(start, env, version, mode):
    sdk = start(version, mode)
    who = sdk.new_visitor("visitor-1")
    common = {"with_ip": "10.0.0.1", "with_resolution": [1024, 768], "with_session_number": 3}
    who.send_hit("Page", "https://example.org/p", **common, with_locale="fr")
    who.send_hit("Screen", "home")
    who.send_hit("Event", "ACTION_TRACKING", "click", with_event_label="lbl", with_event_value=10)
    who.send_hit(
        "Transaction",
        "T1",
        "purchase",
        with_total_revenue=59.97,
        with_shipping_cost=5.5,
        with_shipping_method="post",
        with_taxes=3.2,
        with_currency="EUR",
        with_payment_method="card",
        with_item_count=2,
        with_coupon_code="PROMO",
    )
    who.send_hit(
        "Item",
        "T1",
        "Shoes",
        "SKU1",
        with_price=19.99,
        with_item_quantity=2,
        with_item_category="c",
    )
    sdk.flush()
    found = until(lambda: of_type(rows := list(Hit.objects.all()), "item") and rows)
    [page], [screen], [event] = (of_type(found, each) for each in ("pageview", "screen", "event"))
    [order], [item] = (of_type(found, each) for each in ("transaction", "item"))
    assert page.url == "https://example.org/p"
    assert page.meta == {"resolution": "1024x768", "language": "fr", "session": 3}
    assert (screen.title, event.title) == ("home", "click")
    assert event.meta == {"category": "Action Tracking", "label": "lbl", "value": 10}
    assert (order.title, order.minor, order.currency) == ("purchase", 5997, "EUR")
    assert order.meta == {
        "shipping": "5.5",
        "tax": "3.2",
        "shipping_method": "post",
        "payment_method": "card",
        "items": 2,
        "coupon": "PROMO",
    }
    assert (item.title, item.transaction_id) == ("Shoes", "T1")
    assert item.meta == {"sku": "SKU1", "price": "19.99", "quantity": 2, "category": "c"}
    assert people(env.prop) == ["client:visitor-1"]


@EACH
def test_what_is_known_of_somebody_is_kept(start, env, version, mode):
    sdk = start(version, mode)
    who = sdk.new_visitor("visitor-1", context=CONTEXT)
    who.synchronize()
    sdk.flush()
    [row] = until(lambda: list(Hit.objects.filter(type="segment")))
    said = {name: str(value) for name, value in CONTEXT.items()}
    assert {name: str(value) for name, value in row.meta.items() if name in said} == said


@pytest.mark.parametrize("strategy", [None, "_NO_BATCHING_CONTINUOUS_CACHING"])
def test_whoever_does_not_agree_is_not_written_of(start, env, strategy):
    all_of(env.prop)
    options = {"strategy": strategy} if strategy else {}
    sdk = start(NEW, API, **options)
    who = sdk.new_visitor("visitor-1", consent=False)
    who.synchronize()
    assert who.value("text", "", activate=True) == "red"
    who.send_hit("Screen", "home")
    sdk.flush()
    assert people(env.prop) == []


def seen_by_a_slow_server(start, monkeypatch):
    """Return the screens that are written where the first answers come too late, of twenty."""
    slow = iter([0.6, 0.6])
    body = taking.wire.body

    def late(request, **options):
        found = body(request, **options)
        # It waits a fifth of a second, and sends all of it again.
        if any(each["t"] == "SCREENVIEW" for each in found.get("h", ())):
            time.sleep(next(slow, 0))
        return found

    monkeypatch.setattr(taking.wire, "body", late)
    sdk = start(NEW, API, hit_timeout=200)
    who = sdk.new_visitor("visitor-1")
    for number in range(20):
        who.send_hit("Screen", f"screen {number}")
    until(lambda: sdk.flush() == 0)
    assert next(slow, None) is None
    written(21)
    return [each.title for each in of_type(Hit.objects.order_by("pk"), "screen")]


def test_a_slow_answer_makes_nothing_twice(start, env, monkeypatch):
    found = seen_by_a_slow_server(start, monkeypatch)
    assert sorted(found) == sorted(f"screen {number}" for number in range(20))


def test_that_would_notice_what_is_made_twice(start, env, monkeypatch):
    monkeypatch.setattr(taking.collect, "once_of", lambda *args: [])
    assert len(seen_by_a_slow_server(start, monkeypatch)) > 20


# Who logs in


def of_color(campaign, color, prefix):
    group = VariationGroup.objects.get(campaign=campaign)
    wanted = range(50) if color == "red" else range(50, 100)
    return next(
        each
        for each in (f"{prefix}-{n}" for n in range(100))
        if deciding.rules.digest(f"{group.uid}{each}".encode()) % 100 in wanted
    )


@VERSION
def test_whoever_logs_in_goes_on_with_what_they_saw(start, env, version):
    campaign = make_campaign(env.prop)
    anna = of_color(campaign, "blue", "visitor")
    customer = of_color(campaign, "red", "customer")
    phone = of_color(campaign, "red", "phone")
    sdk = start(version, API)
    who = sdk.new_visitor(anna)
    who.synchronize()
    assert who.value("color", "", activate=True) == "blue"
    who.authenticate(customer, synchronize=True)
    assert who.value("color", "", activate=True) == "blue"
    who.send_hit("Screen", "home")
    who.unauthenticate(synchronize=True)
    assert who.value("color", "") == "blue"
    other = sdk.new_visitor(phone)
    other.synchronize()
    assert other.value("color", "") == "red"
    # On another device what they have had by their own name wins.
    other.authenticate(customer, synchronize=True)
    assert other.value("color", "") == "blue"
    other.unauthenticate(synchronize=True)
    assert other.value("color", "") == "red"
    sdk.flush()
    until(lambda: f"client:{customer} client:{anna}" in people(env.prop))


@VERSION
def test_whoever_is_logged_in_from_the_beginning(start, env, version):
    campaign = make_campaign(env.prop)
    customer = of_color(campaign, "red", "customer")
    sdk = start(version, API)
    first = sdk.new_visitor(customer, authenticated=True)
    first.synchronize()
    saw = first.value("color", "", activate=True)
    for _ in range(5):
        # Each time by another anonymous name, which the SDK makes up.
        again = sdk.new_visitor(customer, authenticated=True)
        again.synchronize()
        assert again.value("color", "") == saw


@VERSION
def test_whoever_has_seen_one_keeps_it_when_shares_change(start, env, version):
    campaign = make_campaign(env.prop)
    anna = of_color(campaign, "blue", "visitor")
    sdk = start(version, API)
    who = sdk.new_visitor(anna)
    who.synchronize()
    assert who.value("color", "", activate=True) == "blue"
    sdk.flush()
    until(Assignment.objects.exists)
    Variation.objects.filter(name="Blue").update(allocation=0)
    Variation.objects.filter(name="Original").update(allocation=100)
    publishing.publish(campaign=campaign)
    live.forget()
    again = sdk.new_visitor(anna)
    again.synchronize()
    assert again.value("color", "") == "blue"


def test_what_somebody_was_given_is_kept_by_the_client(start, env):
    campaign = make_campaign(env.prop)
    anna = of_color(campaign, "blue", "visitor")
    blue = Variation.objects.get(name="Blue")
    kept = {anna: {"version": 1, "data": {"vId": anna, "vaIds": [blue.uid]}}}
    Variation.objects.filter(name="Blue").update(allocation=0)
    Variation.objects.filter(name="Original").update(allocation=100)
    publishing.publish(campaign=campaign)
    who = start(OLD, BUCKETING, visitors=kept).new_visitor(anna)
    who.synchronize()
    assert who.value("color", "") == "blue"


# Both decide as we do


def visitors(number):
    """Return ids of many kinds: of all of Unicode, long ones and short ones."""
    draw = random.Random(20261129)
    letters = [
        *("abcXYZ019-_.@ "),
        *("éüßñ"),
        *("北京日本"),
        *("\U0001f600\U0001f680\U00010000\U0010ffff"),
        *("e\u0301\u200d\ufe0f"),
    ]
    found = {"".join(draw.choices(letters, k=draw.randint(1, 20))) for _ in range(number // 2)}
    found |= {f"visitor-{n}" for n in range(number - len(found))}
    return sorted(each for each in found if each.strip())


def alike(flag, share):
    """Return three variations of the same share, each with a letter for its flag."""
    return [
        {"name": each, "allocation": share, "modifications": {flag: each}}
        for each in ("a", "b", "c")
    ]


def worlds(prop):
    """Campaigns of every kind, and some of which shares have changed."""
    shares = {"targeting": [[{"key": "plan", "operator": "EQUALS", "value": "gold"}]]}
    text = {"targeting": [[{"key": "zip", "operator": "EQUALS", "value": "18"}]]}
    several = [[{"key": "plan", "operator": "STARTS_WITH", "value": ["si", "go"]}]]
    thirds = [
        {"name": name, "allocation": 33, "modifications": {"third": name}}
        for name in ("a", "b", "c")
    ]
    make_campaign(prop)
    make_campaign(prop, groups=[{"variations": thirds, **shares}])
    make_campaign(prop, groups=[{"variations": thirds[:1], **text}])
    quarter = [{"name": "q", "allocation": 25, "modifications": {"quarter": 1}}]
    rest = [{"name": "r", "allocation": 100, "modifications": {"quarter": 0}}]
    make_campaign(
        prop, groups=[{"variations": quarter, "targeting": several}, {"variations": rest}]
    )
    grown = [
        {"name": name, "allocation": 20, "modifications": {"grown": name}}
        for name in ("a", "b", "c")
    ]
    campaign = make_campaign(prop, groups=[{"variations": grown}])
    for wanted in ((10, 40, 20), (30, 30, 40)):
        rows = Variation.objects.filter(group__campaign=campaign).order_by("pk")
        for row, share in zip(rows, wanted, strict=True):
            Variation.objects.filter(pk=row.pk).update(allocation=share)
        publishing.publish(campaign=campaign)
    # Of which the file has nothing, and so nobody is given anything by it.
    hidden = [{"name": "h", "allocation": 100, "modifications": {"hidden": 1}}]
    make_campaign(prop, groups=[{"variations": hidden}], exclusion=make_exclusion(prop))


WORLD = {"plan": "gold", "zip": "18", "age": 30}


def decided(prop, ids):
    """Return what we ourselves decide."""
    found = {}
    for each in ids:
        who = deciding.Visitor(each)
        flags = {}
        for choice in deciding.decide(known(prop), who, known=WORLD).choices:
            flags |= choice.value
        found[each] = flags
    return found


def differing(ours, theirs, *, without=()):
    return {
        each: (flags, theirs.get(each))
        for each, flags in ours.items()
        if {name: value for name, value in flags.items() if name not in without}
        != {name: value for name, value in (theirs.get(each) or {}).items() if value is not None}
    }


@VERSION
def test_ten_thousand_visitors_decide_by_themselves_as_we_do(start, env, version):
    worlds(env.prop)
    ids = visitors(10_000)
    ours = decided(env.prop, ids)
    theirs = start(version, BUCKETING, quiet=True).decide(ids, WORLD)
    assert differing(ours, theirs, without=("hidden",)) == {}
    # It is no test of nothing: all that there is has come up.
    seen = {(name, value) for flags in ours.values() for name, value in flags.items()}
    assert len(seen) == 2 + 3 + 2 + 3 + 1
    # One who hashes as everybody else does would be found out.
    assert differing({**ours, ids[0]: {"color": "none"}}, theirs, without=("hidden",))


def asked_of_the_server(start, env, version, number):
    worlds(env.prop)
    ids = visitors(number)
    ours = decided(env.prop, ids)
    theirs = start(version, API, quiet=True).decide(ids, WORLD, at_once=1, within=1500)
    assert differing(ours, theirs) == {}


@VERSION
def test_some_visitors_are_decided_for_as_we_do(start, env, version):
    asked_of_the_server(start, env, version, 300)


@pytest.mark.long
@VERSION
def test_ten_thousand_visitors_are_decided_for_as_we_do(start, env, version):
    asked_of_the_server(start, env, version, 10_000)


def test_who_is_decided_for_by_the_file_is_known_by_its_ids(start, env):
    campaign = make_campaign(env.prop)
    Variation.objects.update(allocation=25)
    publishing.publish(campaign=campaign)
    Variation.objects.filter(name="Original").update(allocation=75)
    publishing.publish(campaign=campaign)
    group = VariationGroup.objects.get()
    late = next(
        each
        for each in (f"visitor-{n}" for n in range(1000))
        if deciding.rules.digest(f"{group.uid}{each}".encode()) % 100 >= 75
    )
    sdk = start(NEW, BUCKETING)
    who = sdk.new_visitor(late)
    who.synchronize()
    assert who.value("color", "", activate=True) == "red"
    assert "." in who.info("color")["variationId"]
    sdk.flush()
    [row] = until(lambda: list(Assignment.objects.all()))
    assert row.variation.name == "Original"


def test_json_of_the_file_has_the_kinds_of_numbers(client, env):
    all_of(env.prop)
    text = client.get(f"/flagship/{env.id}/bucketing.json").content.decode()
    assert '"one":1.0' in text
    assert json.loads(text)["campaigns"]


def test_the_harness_notices_what_goes_wrong(start, env):
    all_of(env.prop)
    who = start(OLD, API).new_visitor("visitor-1")
    with pytest.raises(SdkFailed):
        who.send_hit("Nope", "x")
