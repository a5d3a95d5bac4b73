"""Campaigns are put into force, change, and end; each way in which they were in force is kept."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from affiliations.exceptions import InvalidTransition
from affiliations.experiments import live, publishing
from affiliations.experiments.allocation import shares
from affiliations.experiments.exceptions import InvalidCampaign
from affiliations.experiments.models import Campaign, CampaignVersion, Variation, VariationGroup
from affiliations.testing import freeze
from tests.core.factories import make_user
from tests.experiments.environment import Environment
from tests.experiments.factories import make_campaign, make_exclusion, make_group
from tests.tracking.factories import make_property

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def shown(prop):
    """Return the slugs of what is in force."""
    return [each.slug for each in live.of_property(prop.pk).now().campaigns]


def rules_of(campaign):
    campaign.refresh_from_db()
    return json.loads(campaign.current.rules)


def test_from_a_draft_to_its_end():
    prop, user = make_property(), make_user()
    campaign = make_campaign(prop, slug="one", live=False)
    assert (campaign.state, shown(prop)) == ("draft", [])
    publishing.start(campaign=campaign, by=user)
    assert (campaign.state, shown(prop), campaign.current.number) == ("live", ["one"], 1)
    assert campaign.current.created_by == user
    publishing.pause(campaign=campaign)
    assert (campaign.state, shown(prop)) == ("paused", [])
    publishing.start(campaign=campaign)
    # Nothing had changed, so it is the same version.
    assert (campaign.state, shown(prop), campaign.versions.count()) == ("live", ["one"], 1)
    publishing.archive(campaign=campaign)
    assert (campaign.state, shown(prop)) == ("archived", [])


@pytest.mark.parametrize(
    ("state", "verb"),
    [
        ("live", publishing.start),
        ("archived", publishing.start),
        ("draft", publishing.pause),
        ("paused", publishing.publish),
        ("archived", publishing.archive),
    ],
)
def test_what_cannot_be_done(state, verb):
    campaign = make_campaign()
    Campaign.objects.update(state=state)
    stamp = campaign.property.environment.stamp
    with pytest.raises(InvalidTransition):
        verb(campaign=campaign)
    campaign.property.environment.refresh_from_db()
    assert (campaign.property.environment.stamp, campaign.versions.count()) == (stamp, 1)


def test_a_change_is_in_force_once_it_is_published():
    campaign = make_campaign()
    Variation.objects.filter(name="Blue").update(modifications='{"color": "green"}')
    before = campaign.current
    assert rules_of(campaign)["groups"][0]["variations"][1]["value"] == {"color": "blue"}
    publishing.publish(campaign=campaign)
    assert rules_of(campaign)["groups"][0]["variations"][1]["value"] == {"color": "green"}
    # What was is kept as it was.
    kept = CampaignVersion.objects.get(number=1)
    assert (kept.rules, campaign.current.number) == (before.rules, 2)


def test_numbers_stay_what_was_typed():
    typed = '{"one": 1, "float": 1.0, "large": 1.5e3, "big": 12345678901234567890, "s": "1"}'
    variations = [{"name": "A", "allocation": 100, "modifications": typed}]
    campaign = make_campaign(groups=[{"variations": variations}])
    [value] = [each["value"] for each in rules_of(campaign)["groups"][0]["variations"]]
    assert [repr(each) for each in value.values()] == [
        "1",
        "1.0",
        "1500.0",
        "12345678901234567890",
        "'1'",
    ]


def test_whose_bucket_changes_hands_is_noted():
    campaign = make_campaign()
    group = rules_of(campaign)["groups"][0]
    original, blue = [each["id"] for each in group["variations"]]
    assert (group["runs"], group["has_moved"]) == ([[original, 50], [blue, 50]], False)
    Variation.objects.filter(name="Blue").update(allocation=30)
    publishing.publish(campaign=campaign)
    group = rules_of(campaign)["groups"][0]
    assert (group["runs"], group["has_moved"]) == ([[original, 50], [blue, 30]], True)
    Variation.objects.filter(name="Original").update(allocation=70)
    publishing.publish(campaign=campaign)
    group = rules_of(campaign)["groups"][0]
    assert group["runs"] == [[original, 50], [blue, 30], [original, 20]]


def test_a_share_that_was_nobodys_is_no_move():
    half = [{"name": "A", "allocation": 20}, {"name": "B", "allocation": 20}]
    campaign = make_campaign(groups=[{"variations": half}])
    Variation.objects.update(allocation=50)
    publishing.publish(campaign=campaign)
    assert rules_of(campaign)["groups"][0]["has_moved"] is False


BAD = [
    ([], "groups: there must be one at least"),
    ([{"variations": []}], "variations: Everybody must have one at least"),
    (
        [{"variations": [{"name": "A", "allocation": 60}, {"name": "B", "allocation": 41}]}],
        "allocation: the shares of Everybody come to 101 %, and there are 100",
    ),
    (
        [{"variations": [{"is_reference": True}, {"is_reference": True}]}],
        "is_reference: only one variation of Everybody can be it",
    ),
    ([{"targeting": []}], "targeting: Everybody: must be a list of lists"),
    (
        [{"variations": [{"modifications": '{"a": NaN}'}]}],
        "modifications: Everybody: NaN is no number of JSON",
    ),
]


@pytest.mark.parametrize(("groups", "said"), BAD)
def test_what_cannot_be_shown(groups, said):
    campaign = make_campaign(live=False, groups=groups)
    with pytest.raises(InvalidCampaign) as error:
        publishing.start(campaign=campaign)
    assert str(error.value).startswith(said)
    campaign.refresh_from_db()
    assert (campaign.state, campaign.current) == ("draft", None)


# Excluding each other


def buckets(campaign):
    exclusion = rules_of(campaign)["exclusion"]
    return set(exclusion["buckets"]) if exclusion else None


def test_campaigns_of_a_group_share_nobody():
    prop = make_property()
    group = make_exclusion(prop)
    one = make_campaign(prop, exclusion=group, exclusion_share=40)
    other = make_campaign(prop, exclusion=group, exclusion_share=60)
    assert (len(buckets(one)), len(buckets(other))) == (40, 60)
    assert not buckets(one) & buckets(other)
    with pytest.raises(InvalidCampaign, match="exclusion_share: "):
        make_campaign(prop, exclusion=group, exclusion_share=1)


def test_who_ends_leaves_its_share_and_nobody_else_moves():
    prop = make_property()
    group = make_exclusion(prop)
    one, other = (make_campaign(prop, exclusion=group, exclusion_share=50) for _ in range(2))
    before = buckets(other)
    publishing.pause(campaign=one)
    with pytest.raises(InvalidCampaign):
        make_campaign(prop, exclusion=group, exclusion_share=50)
    publishing.archive(campaign=one)
    third = make_campaign(prop, exclusion=group, exclusion_share=50)
    publishing.publish(campaign=other)
    assert (buckets(other), buckets(third)) == (before, set(range(100)) - before)


def test_who_goes_to_another_group_leaves_its_share():
    prop = make_property()
    group, elsewhere = make_exclusion(prop), make_exclusion(prop)
    campaign = make_campaign(prop, exclusion=group, exclusion_share=100)
    Campaign.objects.filter(pk=campaign.pk).update(exclusion=elsewhere)
    publishing.publish(campaign=campaign)
    group.refresh_from_db()
    elsewhere.refresh_from_db()
    assert (shares(group.runs), shares(elsewhere.runs)) == ({}, {campaign.uid: 100})


def test_what_is_not_in_force_yet_gives_nobody_a_share():
    prop = make_property()
    group = make_exclusion(prop)
    one = make_campaign(prop, exclusion=group, exclusion_share=60)
    # Its row says so, and nobody has published it.
    Campaign.objects.filter(pk=one.pk).update(exclusion_share=10)
    with pytest.raises(InvalidCampaign, match="has 40 % left, and 50 % are wanted"):
        make_campaign(prop, exclusion=group, exclusion_share=50)
    other = make_campaign(prop, exclusion=group, exclusion_share=40)
    Campaign.objects.filter(pk=one.pk).update(exclusion=None)
    publishing.publish(campaign=other)
    assert not buckets(one) & buckets(other)


def test_anybody_can_end_whatever_others_rows_say():
    prop = make_property()
    group, elsewhere = make_exclusion(prop), make_exclusion(prop)
    one, other, third = (
        make_campaign(prop, exclusion=group, exclusion_share=share) for share in (40, 20, 10)
    )
    Campaign.objects.filter(pk=one.pk).update(exclusion_share=90)
    Campaign.objects.filter(pk=other.pk).update(exclusion=elsewhere)
    publishing.archive(campaign=third)
    publishing.archive(campaign=other)
    group.refresh_from_db()
    assert shares(group.runs) == {one.uid: 40}


def test_whoever_has_seen_one_takes_part_in_that_and_in_no_other(client):
    env = Environment()
    group = make_exclusion(env.prop)
    one = make_campaign(env.prop, slug="one", exclusion=group, exclusion_share=100)
    found = {f"visitor-{n}": env.flags(client, f"visitor-{n}") for n in range(20)}
    for who, flags in found.items():
        name = {"red": "Original", "blue": "Blue"}[flags["color"]]
        env.activate(client, who, Variation.objects.select_related("group").get(name=name))
    Campaign.objects.filter(pk=one.pk).update(exclusion_share=10)
    publishing.publish(campaign=one)
    flags = [{"name": "New", "allocation": 100, "modifications": {"other": 1}}]
    make_campaign(env.prop, groups=[{"variations": flags}], exclusion=group, exclusion_share=90)
    assert {who: env.flags(client, who) for who in found} == found
    new = [env.flags(client, f"new-{n}") for n in range(60)]
    assert all(len(each) == 1 for each in new)
    assert {next(iter(each)) for each in new} == {"color", "other"}


def test_a_group_of_which_all_is_retired_is_left_out():
    campaign = make_campaign(groups=[{"name": "First"}, {"name": "Second"}])
    first = VariationGroup.objects.get(name="First")
    first.variations.update(retired=True)
    publishing.publish(campaign=campaign)
    assert [each["name"] for each in rules_of(campaign)["groups"]] == ["Second"]
    Variation.objects.update(retired=True)
    with pytest.raises(InvalidCampaign, match="groups: there must be one at least"):
        publishing.publish(campaign=campaign)


# When


def test_it_begins_and_ends_by_itself():
    prop = make_property()
    with freeze(NOON) as clock:
        make_campaign(prop, slug="one", starts_on=NOON + HOUR, ends_on=NOON + 2 * HOUR)
        found = []
        for moment in (NOON, NOON + HOUR, NOON + 2 * HOUR):
            clock.now = moment - timedelta(seconds=1)
            before = shown(prop)
            clock.now = moment
            found.append((before, shown(prop)))
    assert found == [([], []), ([], ["one"]), (["one"], [])]


def stamps(prop, moments, clock):
    found = []
    for each in moments:
        clock.now = each
        live.forget()
        found.append(live.of_property(prop.pk).now().stamp)
    return found


def test_whatever_changes_is_at_another_second():
    prop = make_property()
    with freeze(NOON) as clock:
        campaign = make_campaign(prop, starts_on=NOON + HOUR, ends_on=NOON + 2 * HOUR)
        noon = int(NOON.timestamp())
        first = live.of_property(prop.pk).now().stamp
        # Several changes within one second, so that the last is in the future.
        for _ in range(5):
            publishing.set_panic(prop=prop, panic=True)
        assert live.of_property(prop.pk).now().stamp == first + 5
        found = stamps(prop, [NOON + HOUR, NOON + 1.5 * HOUR, NOON + 2 * HOUR], clock)
        assert found == [noon + 3600, noon + 3600, noon + 7200]
        publishing.pause(campaign=campaign)
        assert live.of_property(prop.pk).now().stamp == noon + 7201


def test_what_begins_right_after_many_changes_is_at_another_second_too():
    prop = make_property()
    with freeze(NOON) as clock:
        make_campaign(prop, starts_on=NOON + timedelta(seconds=2))
        for _ in range(10):
            publishing.set_panic(prop=prop, panic=False)
        before = live.of_property(prop.pk).now().stamp
        [after] = stamps(prop, [NOON + timedelta(seconds=2)], clock)
        assert after == before + 1


def test_others_know_of_a_change_within_a_second(queries):
    prop = make_property()
    make_campaign(prop, slug="one")
    shown(prop)
    with queries(0):
        shown(prop)
    # As if another process had done it: this one was not told.
    remembered = live._known._known
    kept = dict(remembered), dict(live._compiled)
    make_campaign(prop, slug="two")
    remembered.update(kept[0])
    live._compiled.update(kept[1])
    assert shown(prop) == ["one"]
    remembered.clear()
    assert shown(prop) == ["one", "two"]
    # Where nothing has changed only that is asked.
    remembered.clear()
    with queries(1):
        shown(prop)


def test_groups_are_asked_in_their_order():
    campaign = make_campaign(live=False, groups=[])
    make_group(campaign, name="Second", position=2)
    make_group(campaign, name="First", position=1)
    publishing.start(campaign=campaign)
    assert [each["name"] for each in rules_of(campaign)["groups"]] == ["First", "Second"]
    assert VariationGroup.objects.count() == 2
