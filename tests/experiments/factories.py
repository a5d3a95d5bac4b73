"""Campaigns and what belongs to them, for tests, as plain functions."""

import json
from itertools import count

from django.utils import timezone

from affiliations.experiments import publishing
from affiliations.experiments.models import (
    Assignment,
    Campaign,
    Exclusion,
    Variation,
    VariationGroup,
)
from affiliations.tracking.identities import identify, name
from affiliations.tracking.models import Identity
from tests.tracking.factories import make_property

numbers = count(1)

ORIGINAL = {
    "name": "Original",
    "allocation": 50,
    "is_reference": True,
    "modifications": {"color": "red"},
}
BLUE = {"name": "Blue", "allocation": 50, "modifications": {"color": "blue"}}


def make_campaign(prop=None, *, slug=None, groups=None, live=True, **fields):
    """Return a new campaign with its groups and variations, in force unless it is not `live`.

    `groups` are dicts as `make_group` takes them; without any there is one for everybody, half of
    whom see red, and half blue.
    """
    number = next(numbers)
    campaign = Campaign.objects.create(
        property=prop or make_property(),
        slug=slug or f"campaign-{number}",
        **{"name": f"Campaign {number}", **fields},
    )
    for position, each in enumerate([{}] if groups is None else groups):
        make_group(campaign, **{"position": position, **each})
    return publishing.start(campaign=campaign) if live else campaign


def make_group(campaign, *, variations=None, **fields):
    """Return a new group of a campaign; `variations` are dicts as `make_variation` takes them."""
    group = VariationGroup.objects.create(campaign=campaign, **{"name": "Everybody", **fields})
    for position, each in enumerate([ORIGINAL, BLUE] if variations is None else variations):
        make_variation(group, **{"position": position, **each})
    return group


def make_variation(group, *, modifications="{}", **fields):
    """Return a new variation of a group; modifications are a dict, or JSON as it was typed."""
    text = modifications if isinstance(modifications, str) else json.dumps(modifications)
    values = {"name": f"Variation {next(numbers)}", **fields}
    return Variation.objects.create(group=group, modifications=text, **values)


def make_exclusion(prop=None, **fields):
    """Return a new exclusion group."""
    values = {"name": f"Exclusion {next(numbers)}", **fields}
    return Exclusion.objects.create(property=prop or make_property(), **values)


def make_assignment(variation, visitor_id="visitor-1", **fields):
    """Return what somebody, whom clients call by an id, has been given, and seen now."""
    group = variation.group
    campaign = group.campaign
    who = name("client", visitor_id)
    identify(campaign.property, [who])
    values = {
        "version": campaign.current.number if campaign.current else 1,
        "exposed_on": timezone.now(),
        **fields,
    }
    return Assignment.objects.create(
        identity=Identity.objects.get(property=campaign.property, kind=who.kind, value=who.value),
        campaign=campaign,
        group=group,
        variation=variation,
        **values,
    )
