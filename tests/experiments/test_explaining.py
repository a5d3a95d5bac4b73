"""Why somebody sees what they see: always what decisions say, in every state of a campaign."""

from datetime import timedelta

import pytest
from django.utils import timezone

from affiliations.experiments import deciding, publishing
from affiliations.experiments.deciding import Visitor, names_of
from affiliations.experiments.explaining import Because, explain
from affiliations.experiments.models import Assignment, Campaign, Environment, Variation
from tests.experiments.factories import (
    BLUE,
    ORIGINAL,
    make_assignment,
    make_campaign,
    make_exclusion,
    make_group,
)
from tests.tracking.factories import known, make_property

pytestmark = pytest.mark.django_db

GOLD = [[{"key": "plan", "operator": "EQUALS", "value": "gold"}]]
VISITORS = [f"visitor-{number}" for number in range(60)]


def decided(campaign, visitor_id, context, anonymous_id=""):
    """Return the id of the variation that is decided, if there is one."""
    visitor = Visitor(visitor_id, names_of(visitor_id), anonymous_id, names_of(anonymous_id))
    found = deciding.decide(
        known(campaign.property), visitor, known=context, only=campaign.uid
    ).choices
    return found[0].variation_id if found else None


def explained(campaign, visitor_id, context, anonymous_id=""):
    found = explain(visitor_id, campaign, context=context, anonymous_id=anonymous_id)
    return found.sees.variation_id if found.sees else None


@pytest.fixture
def campaign():
    """One that has been changed, in an exclusion group, with what people have seen."""
    prop = make_property()
    exclusion = make_exclusion(prop)
    make_campaign(prop, exclusion=exclusion, exclusion_share=30)
    few = [{**ORIGINAL, "allocation": 30}, {**BLUE, "allocation": 30}]
    campaign = make_campaign(
        prop,
        exclusion=exclusion,
        exclusion_share=60,
        groups=[{"name": "Gold", "targeting": GOLD, "variations": few}, {"variations": few}],
    )
    original, blue = campaign.groups.last().variations.all()
    for number, visitor in enumerate(VISITORS[:20]):
        make_assignment(original if number % 2 else blue, visitor)
    original.allocation = 10
    original.save()
    blue.allocation = 80
    blue.save()
    Variation.objects.filter(group__name="Gold", name="Blue").update(retired=True)
    return publishing.publish(campaign=campaign)


@pytest.mark.parametrize("context", [{}, {"plan": "gold"}])
def test_it_says_what_is_decided(campaign, context):
    found = {each: explained(campaign, each, context) for each in VISITORS}
    assert found == {each: decided(campaign, each, context) for each in VISITORS}
    assert len(set(found.values())) > 1


def test_it_says_what_is_decided_of_whoever_logs_in(campaign):
    for number, visitor in enumerate(VISITORS):
        anonymous = VISITORS[-1 - number] + "-a" * (number % 2)
        # First, as a decision would write down what was given.
        found = explained(campaign, visitor, {}, anonymous)
        assert found == decided(campaign, visitor, {}, anonymous), visitor
        assert explained(campaign, visitor, {}, anonymous) == found


def test_what_was_carried_over_is_kept(campaign):
    Assignment.objects.all().delete()
    other = make_campaign(campaign.property)
    Environment.objects.update(keeps=True)
    for each in (campaign, other):
        make_assignment(each.groups.last().variations.last(), "visitor-1")
        publishing.publish(campaign=each)
    found = explain("visitor-1", other)
    assert found.is_kept
    assert found.sees.variation_name == "Blue"


def test_what_is_stored_and_by_which_version(campaign):
    found = explain(VISITORS[0], campaign)
    [stored] = found.stored
    assert (found.version, stored.row.version, stored.by.version) == (2, 1, 1)
    assert stored.is_own
    [stored] = explain("somebody", campaign, anonymous_id=VISITORS[0]).stored
    assert not stored.is_own
    assert explain("somebody", campaign).stored == []
    # Who is nobody has no name, and none of anybody's.
    assert explain("anonymous", campaign).stored == []


def test_a_version_that_is_not_known(campaign):
    Assignment.objects.update(version=99)
    [stored] = explain(VISITORS[0], campaign).stored
    assert stored.by is None


def test_nobody_elses_is_told(campaign):
    elsewhere = make_campaign()
    make_assignment(elsewhere.groups.get().variations.first(), "stranger")
    assert explain("stranger", campaign).stored == []


@pytest.mark.parametrize(
    ("fields", "because"),
    [
        ({}, Because.SHOWN),
        ({"state": "draft"}, Because.DRAFT),
        ({"state": "paused"}, Because.PAUSED),
        ({"state": "archived"}, Because.ARCHIVED),
        ({"starts_on": timezone.now() + timedelta(days=9)}, Because.EARLY),
        ({"ends_on": timezone.now() - timedelta(days=9)}, Because.LATE),
    ],
)
def test_why_nobody_sees_it(fields, because):
    campaign = make_campaign()
    Campaign.objects.update(**fields)
    found = explain("visitor-1", campaign)
    assert found.because == because
    assert found.choice is not None
    assert (found.sees is not None) == (because == Because.SHOWN)


def test_panic():
    campaign = make_campaign()
    publishing.set_panic(prop=campaign.property, panic=True)
    assert explain("visitor-1", campaign).because == Because.PANIC
    assert decided(campaign, "visitor-1", {}) is None


def test_a_draft_is_explained_as_it_would_be():
    prop = make_property()
    draft = make_campaign(prop, exclusion=make_exclusion(prop), exclusion_share=50, live=False)
    before = [explain(each, draft) for each in VISITORS]
    assert {each.because for each in before} == {Because.DRAFT}
    assert {each.version for each in before} == {None}
    publishing.start(campaign=draft)
    after = [explain(each, draft) for each in VISITORS]
    assert [each.choice and each.choice.variation_id for each in before] == [
        each.choice and each.choice.variation_id for each in after
    ]
    assert {each.takes_part for each in after} == {True, False}


def test_what_cannot_be_shown_is_no_failure():
    draft = make_campaign(groups=[], live=False)
    found = explain("visitor-1", draft)
    assert (found.because, found.campaign, found.sees) == (Because.INVALID, None, None)
    assert found.problem == "groups: there must be one at least"


def test_rows_that_changed_since_are_not_what_is_explained():
    campaign = make_campaign()
    make_group(campaign, name="New")
    Variation.objects.update(allocation=0)
    assert explain("visitor-1", campaign).sees is not None


def test_queries(campaign, django_assert_max_num_queries):
    with django_assert_max_num_queries(8):
        explain(VISITORS[0], campaign, anonymous_id="anonymous-1")
