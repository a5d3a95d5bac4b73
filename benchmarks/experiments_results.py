"""What it takes to say what a campaign has led to, against a plain join written by hand.

A million people have seen it, and a hundred thousand transactions were told, most of them before or
of others. The join is what one would ask a database first: it knows nothing of people's several
names, of who has seen two variations, of currencies, caps or buyers by what they have spent, and it
counts rows, not people. It has to come to the same revenue here, where everybody goes by one name.
BENCHMARKS_EXPOSURES in the environment says how many people instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from django.db import connection
from django.test.utils import CaptureQueriesContext

from affiliations.experiments import publishing
from affiliations.experiments.models import (
    Assignment,
    Campaign,
    CampaignVersion,
    Environment,
    Variation,
    VariationGroup,
)
from affiliations.experiments.results import Results, results
from affiliations.tracking import partitions
from affiliations.tracking.models import Customer, Hit, Identity, Property

from .links_at_scale import fill, moment, scattered
from .runner import Fact, Race, Variant
from .tracking import FIRST, empty, settle

EXPOSURES, QUICK_EXPOSURES = int(os.environ.get("BENCHMARKS_EXPOSURES", "1000000")), 1000
#: Exposures of each hit.
EACH = 10
DAY = 86_400
QUERIES = 3
TABLES = [
    each._meta.db_table
    for each in (Assignment, CampaignVersion, Variation, VariationGroup, Campaign, Environment)
]


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield how many queries it takes, and how long, as a multiple of the join's time."""
    number = QUICK_EXPOSURES if quick else EXPOSURES
    campaign = world(number)
    settle()
    with CaptureQueriesContext(connection) as queries:
        found = results(campaign, "transaction")
    same(found, joined(campaign), number)
    yield Fact(f"queries for {number:,} exposures", len(queries), "", QUERIES)
    yield Race(
        f"results, {number:,} exposures and {number // EACH:,} transactions",
        [
            Variant("a join by hand", lambda: joined(campaign)),
            Variant(
                "ours",
                lambda: results(campaign, "transaction"),
                "a join by hand",
            ),
        ],
        max_rounds=7,
        max_calls=1,
    )
    Campaign.objects.update(current=None)
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"DELETE FROM {table}")
    empty()


def world(number: int) -> Campaign:
    """Have so many people see one of two variations, and tell of a tenth as many transactions."""
    if partitions.are_there("default"):
        for month in partitions.missing(partitions.months(FIRST, 3), "default"):
            partitions.make(month, "default")
    prop, _ = Property.objects.issue(name="Shop", public_key="SHOP")
    campaign = Campaign.objects.create(property=prop, slug="checkout", name="Checkout")
    group = VariationGroup.objects.create(campaign=campaign, name="Everybody")
    first, _second = (
        Variation.objects.create(group=group, name=name, allocation=50, is_reference=not place)
        for place, name in enumerate(("Original", "Blue"))
    )
    publishing.start(campaign=campaign)
    whose = {"property_id": f"{prop.pk}", "created_on": moment("0")}
    fill(Customer, number, whose)
    customer = Customer.objects.order_by("pk").values_list("pk", flat=True)[0] - 1
    names = {"customer_id": f"{customer} + n", "kind": "'client'", "value": "'v' || n"}
    if connection.vendor == "mysql":
        names["value"] = "CONCAT('v', n)"
    fill(Identity, number, {**whose, **names})
    identity = Identity.objects.order_by("pk").values_list("pk", flat=True)[0] - 1
    seen = moment(f"{scattered('n')} % {40 * DAY}")
    fill(
        Assignment,
        number,
        {
            "identity_id": f"{identity} + n",
            "campaign_id": f"{campaign.pk}",
            "group_id": f"{group.pk}",
            "variation_id": f"{first.pk} + {scattered('n + 7')} % 2",
            "version": "1",
            **dict.fromkeys(("assigned_on", "exposed_on"), seen),
            "is_mixed": "FALSE",
        },
    )
    texts = ("url", "referrer", "title", "channel", "source", "medium", "campaign", "term")
    at = moment(f"{scattered('n + 99')} % {50 * DAY}")
    fill(
        Hit,
        number // EACH,
        {
            "property_id": f"{prop.pk}",
            "identity_id": f"{identity + 1} + {scattered('n + 5')} % {number}",
            "type": f"'{Hit.Type.TRANSACTION}'",
            **dict.fromkeys(("happened_on", "received_on"), at),
            **dict.fromkeys((*texts, "content", "link", "transaction_id"), "''"),
            **dict.fromkeys(("click_ids", "meta"), "'{}'"),
            "minor": f"100 + {scattered('n + 3')} % 20000",
            "currency": "'EUR'",
            "is_informational": "FALSE",
        },
    )
    with connection.cursor() as cursor:
        for each in (Assignment, Identity, Customer):
            if connection.vendor == "postgresql":
                cursor.execute(f"VACUUM ANALYZE {each._meta.db_table}")
    return campaign


def joined(campaign: Campaign) -> dict[int, tuple[int, int]]:
    """Return how often each variation was seen or bought, and what was spent in all."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.variation_id, COUNT(*), SUM(h.minor) "
            f"FROM {Assignment._meta.db_table} a "
            f"JOIN {Identity._meta.db_table} i ON i.id = a.identity_id "
            f"LEFT JOIN {Hit._meta.db_table} h ON h.identity_id = i.id "
            "AND h.type = 'transaction' AND h.happened_on >= a.exposed_on "
            "WHERE a.campaign_id = %s GROUP BY a.variation_id",
            [campaign.pk],
        )
        return {pk: (rows, int(spent or 0)) for pk, rows, spent in cursor.fetchall()}


def same(found: Results, wanted: dict[int, tuple[int, int]], number: int) -> None:
    """Make sure that everybody counts once, and that both have come to the same revenue."""
    [group] = found.groups
    ours = [each.revenue.total if each.revenue else 0 for each in group.variations]
    theirs = [spent for _, (_, spent) in sorted(wanted.items())]
    if ours != theirs or group.visitors != number or not all(theirs):
        raise RuntimeError(f"{ours} of {group.visitors}, not {theirs} of {number}")
