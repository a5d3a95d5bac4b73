"""What would be put into force, without doing so; and when campaigns begin and end."""

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from affiliations.experiments import live, publishing
from affiliations.experiments.exceptions import InvalidCampaign
from affiliations.experiments.models import Environment, Variation
from tests.experiments.factories import make_campaign, make_exclusion, make_group
from tests.tracking.factories import make_property

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", ["draft", "live"])
def test_a_preview_is_what_becomes_of_it(state):
    prop = make_property()
    exclusion = make_exclusion(prop)
    make_campaign(prop, exclusion=exclusion, exclusion_share=25)
    campaign = make_campaign(prop, live=state == "live")
    campaign.exclusion = exclusion
    campaign.save()
    make_group(campaign, name="Another")
    Variation.objects.filter(group__campaign=campaign, name="Blue").update(allocation=13)
    told = json.dumps(publishing.preview(campaign))
    service = publishing.publish if state == "live" else publishing.start
    assert service(campaign=campaign).current.rules == told
    # And nothing more would.
    assert json.dumps(publishing.preview(campaign)) == told


def test_it_writes_nothing():
    prop = make_property()
    campaign = make_campaign(prop, exclusion=make_exclusion(prop), live=False)
    with CaptureQueriesContext(connection) as asked:
        publishing.preview(campaign)
    assert all(each["sql"].startswith("SELECT") for each in asked)
    assert not any("FOR UPDATE" in each["sql"] for each in asked)


def test_what_cannot_be_shown():
    prop = make_property()
    exclusion = make_exclusion(prop)
    make_campaign(prop, exclusion=exclusion, exclusion_share=80)
    campaign = make_campaign(prop, exclusion=exclusion, exclusion_share=30, live=False)
    with pytest.raises(InvalidCampaign, match=r"exclusion_share: .* 20 % left"):
        publishing.preview(campaign)


def test_another_schedule_holds_at_once():
    campaign = make_campaign()
    before = Environment.objects.get().stamp
    later = timezone.now() + timedelta(days=1)
    assert live.of_property(campaign.property_id).now().campaigns
    publishing.reschedule(campaign=campaign, starts_on=later, ends_on=None)
    assert campaign.starts_on == later
    assert Environment.objects.get().stamp > before
    assert not live.of_property(campaign.property_id).now().campaigns
    publishing.reschedule(campaign=campaign, starts_on=None, ends_on=None)
    assert live.of_property(campaign.property_id).now().campaigns
    assert campaign.current.number == 1
