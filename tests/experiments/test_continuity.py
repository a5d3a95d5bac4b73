"""Whoever has seen a variation sees it again: the table of the documentation, row by row."""

import pytest

from affiliations import privacy
from affiliations.experiments import carrying, deciding, publishing
from affiliations.experiments.exposures import Seen, record
from affiliations.experiments.hashing import bucket
from affiliations.experiments.models import Assignment, Variation, VariationGroup
from affiliations.experiments.models import Environment as Row
from affiliations.tracking.models import Identity
from tests.core.factories import make_user
from tests.experiments.environment import Environment
from tests.experiments.factories import make_campaign
from tests.tracking.factories import known, names

pytestmark = pytest.mark.django_db


@pytest.fixture
def env():
    return Environment()


@pytest.fixture
def campaign(env):
    return make_campaign(env.prop)


def somebody(campaign, color, prefix="visitor"):
    """Return an id, of those that nobody has had, whose bucket is one colour's."""
    group = VariationGroup.objects.get(campaign=campaign)
    wanted = range(50) if color == "red" else range(50, 100)
    return next(
        each for each in (f"{prefix}-{n}" for n in range(100)) if bucket(group.uid, each) in wanted
    )


def see(client, env, visitor_id, color, **fields):
    name = {"red": "Original", "blue": "Blue"}[color]
    variation = Variation.objects.select_related("group").get(name=name)
    env.activate(client, visitor_id, variation, **fields)


def color(client, env, visitor_id, **fields):
    return env.flags(client, visitor_id, **fields).get("color")


def share(campaign, **allocations):
    for name, allocation in allocations.items():
        Variation.objects.filter(group__campaign=campaign, name=name).update(allocation=allocation)
    publishing.publish(campaign=campaign)


def test_an_anonymous_visitor_comes_back(client, env, campaign):
    anna = somebody(campaign, "blue")
    assert {color(client, env, anna) for _ in range(5)} == {"blue"}
    assert not Assignment.objects.exists()


def test_a_client_of_its_own_mind_shows_another(client, env, campaign):
    anna, bert = somebody(campaign, "red"), somebody(campaign, "blue")
    see(client, env, bert, "blue")
    assert not Row.objects.get(property=env.prop).keeps
    see(client, env, anna, "blue")
    assert (color(client, env, anna), color(client, env, bert)) == ("blue", "blue")


def test_shares_change_after_they_saw_it(client, env, campaign):
    anna, bert = somebody(campaign, "blue"), somebody(campaign, "blue", "other")
    see(client, env, anna, "blue")
    share(campaign, Blue=0, Original=100)
    # Whoever has seen it keeps it, and nobody else gets it any more.
    assert (color(client, env, anna), color(client, env, bert)) == ("blue", "red")


def test_shares_change_and_it_is_not_theirs(client, env, campaign):
    anna = somebody(campaign, "red")
    share(campaign, Blue=20)
    assert color(client, env, anna) == "red"


def test_the_variation_is_retired(client, env, campaign):
    anna = somebody(campaign, "blue")
    see(client, env, anna, "blue")
    Variation.objects.filter(name="Blue").update(retired=True)
    share(campaign, Original=100)
    assert color(client, env, anna) is None
    assert color(client, env, somebody(campaign, "blue", "other")) == "red"


def test_the_variation_is_retired_that_they_were_given_and_never_saw(client, env, campaign):
    anna, user = somebody(campaign, "blue"), somebody(campaign, "red", "customer")
    assert color(client, env, user, anonymousId=anna) == "blue"
    Variation.objects.filter(name="Blue").update(retired=True)
    share(campaign, Original=100)
    assert color(client, env, user) == "red"


def test_they_are_not_meant_any_more(client, env, campaign):
    anna = somebody(campaign, "blue")
    see(client, env, anna, "blue")
    gold = [[{"key": "plan", "operator": "EQUALS", "value": "gold"}]]
    VariationGroup.objects.update(targeting=gold)
    publishing.publish(campaign=campaign)
    assert color(client, env, anna) is None
    assert color(client, env, anna, context={"plan": "gold"}) == "blue"


def test_an_anonymous_visitor_logs_in(client, env, campaign):
    anna, user = somebody(campaign, "blue"), somebody(campaign, "red", "customer")
    assert color(client, env, anna) == "blue"
    # By the customer's own bucket it would be red; and nothing was told to be seen.
    assert color(client, env, user, anonymousId=anna) == "blue"


def test_they_go_on_without_their_anonymous_name(client, env, campaign):
    anna, user = somebody(campaign, "blue"), somebody(campaign, "red", "customer")
    color(client, env, user, anonymousId=anna)
    assert color(client, env, user) == "blue"


def test_they_log_in_on_another_device(client, env, campaign):
    anna, user = somebody(campaign, "blue"), somebody(campaign, "red", "customer")
    phone = somebody(campaign, "red", "phone")
    color(client, env, user, anonymousId=anna)
    see(client, env, phone, "red")
    assert color(client, env, phone) == "red"
    # What they have had by their own name wins.
    assert color(client, env, user, anonymousId=phone) == "blue"


def test_they_log_out(client, env, campaign):
    anna, user = somebody(campaign, "blue"), somebody(campaign, "red", "customer")
    phone = somebody(campaign, "red", "phone")
    color(client, env, user, anonymousId=anna)
    color(client, env, user, anonymousId=phone)
    assert (color(client, env, anna), color(client, env, phone)) == ("blue", "red")


def test_two_people_share_a_browser(client, env, campaign):
    shared, anna = somebody(campaign, "blue"), somebody(campaign, "red", "customer")
    bert = somebody(campaign, "red", "bert")
    color(client, env, bert, anonymousId=somebody(campaign, "red", "phone"))
    assert color(client, env, anna, anonymousId=shared) == "blue"
    assert color(client, env, bert, anonymousId=shared) == "red"


def test_they_do_not_agree(client, env, campaign):
    anna, user = somebody(campaign, "blue"), somebody(campaign, "red", "customer")
    told = {"anonymousId": anna, "visitor_consent": False}
    # Nothing is kept of them, so they go by the name that stays.
    assert color(client, env, user, **told) == "red"
    assert not Identity.objects.exists()


def test_a_new_campaign_after_they_have_logged_in(client, env, campaign):
    anna, user = somebody(campaign, "blue"), somebody(campaign, "red", "customer")
    color(client, env, user, anonymousId=anna)
    second = make_campaign(env.prop, groups=[{"name": "All"}])
    found = env.decide(client, user, anonymousId=anna).json()["campaigns"]
    again = env.decide(client, user).json()["campaigns"]
    assert [each["id"] for each in found] == [campaign.uid, second.uid]
    assert found == again


def test_two_devices_log_in_at_once_and_come_to_the_same(client, env, campaign, monkeypatch):
    anna, user = somebody(campaign, "blue"), somebody(campaign, "red", "customer")
    keep = deciding.keep

    def late(*args):
        monkeypatch.setattr(deciding, "keep", keep)
        color(client, env, user, anonymousId=somebody(campaign, "red", "phone"))
        keep(*args)

    monkeypatch.setattr(deciding, "keep", late)
    assert color(client, env, user, anonymousId=anna) == "red"
    assert color(client, env, user) == "red"


# In the site itself, by its own cookie and users


@pytest.fixture
def own(env, settings):
    settings.AFFILIATE_TRACKING_PROPERTY = env.id
    return env


def seen_by(env, name):
    rows = Assignment.objects.filter(identity__property=env.prop, identity__value=name)
    return list(rows.values_list("variation__name", flat=True))


def saw(env, campaign, text, variation):
    [who] = names(text)
    prop = known(env.prop)
    visitor = deciding.Visitor(who.value, [who])
    choice = next(
        each
        for each in deciding.live.of_property(prop.id).now().choices.values()
        if each.variation_name == variation
    )
    record(prop, visitor, [Seen(choice.keys, choice.version, campaign.created_on)])


def test_a_browser_becomes_a_user(own, campaign):
    user = make_user()
    saw(own, campaign, "cookie:c00kie", "Blue")
    carrying.carry(ident="c00kie", user=user)
    assert seen_by(own, str(user.pk)) == ["Blue"]
    other = deciding.Visitor(str(user.pk), names(f"user:{user.pk}"))
    found = deciding.decide(known(own.prop), other, known={})
    assert [each.variation_name for each in found.choices] == ["Blue"]


def test_what_a_user_has_had_wins_over_another_browsers(own, campaign):
    user = make_user()
    saw(own, campaign, f"user:{user.pk}", "Original")
    saw(own, campaign, "cookie:c00kie", "Blue")
    carrying.carry(ident="c00kie", user=user)
    assert seen_by(own, str(user.pk)) == ["Original"]
    assert seen_by(own, "c00kie") == ["Blue"]


def test_a_browser_that_saw_nothing_is_one_query(own, campaign, queries):
    user = make_user()
    carrying.carry(ident="c00kie", user=user)
    with queries(1):
        carrying.carry(ident="c00kie", user=user)
    assert not Assignment.objects.exists()


def test_whoever_is_erased_takes_what_they_saw_along(own, campaign):
    user, other = make_user(), make_user()
    saw(own, campaign, f"user:{user.pk}", "Original")
    saw(own, campaign, f"user:{other.pk}", "Blue")
    shown = privacy.export_user(user)["tracking"]
    assert [each["variation"] for each in shown[0]["variations"]] == ["Original"]
    assert privacy.forget_user(user)["assignments"] == 1
    assert [row.variation.name for row in Assignment.objects.all()] == ["Blue"]
