"""Who has seen what, and what they did then, for tests, as plain functions."""

from datetime import UTC, datetime, timedelta
from itertools import count

from affiliations.experiments.models import Assignment, Variation
from affiliations.models import Conversion
from affiliations.tracking.models import Customer, Hit, Identity
from tests.core.factories import make_visitor
from tests.tracking.factories import names

numbers = count(1)
START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
THREE = [
    {"name": "Original", "allocation": 40, "is_reference": True},
    {"name": "Blue", "allocation": 30},
    {"name": "Green", "allocation": 30},
]


def saw(variation, who, day, **fields):
    """Write down that somebody, by that name of theirs, has seen a variation on a day."""
    campaign = variation.group.campaign
    [(kind, value)] = names(who)
    return Assignment.objects.create(
        identity=Identity.objects.get(property=campaign.property, kind=kind, value=value),
        campaign=campaign,
        group=variation.group,
        variation=variation,
        **{"exposed_on": START + day * DAY, "version": 1, **fields},
    )


def did(prop, who, day, kind="transaction", **fields):
    """Write down that somebody has done something on a day."""
    [(name, value)] = names(who)
    return Hit.objects.create(
        property=prop,
        identity=Identity.objects.get(property=prop, kind=name, value=value),
        type=kind,
        happened_on=START + day * DAY,
        **fields,
    )


def converted(day, *, user=None, trigger="Order placed", visitor=None, **fields):
    """Write down a conversion of the core."""
    number = next(numbers)
    return Conversion.objects.create(
        visitor=visitor or make_visitor(),
        user=user,
        trigger=trigger,
        reference=f"{number}",
        created_on=START + day * DAY,
        **fields,
    )


def variations_of(campaign):
    rows = Variation.objects.filter(group__campaign=campaign).select_related("group__campaign")
    return {each.name: each for each in rows}


def crowd(shop, campaign, sums, *, day=1, version=1):
    """Let so many people see each variation, and so many of them spend so much each, a day later.

    `sums` are triples of these three numbers by the names of variations.
    """
    people = people_of(shop, sum(each[0] for each in sums.values()))
    variations = variations_of(campaign)
    seen, hits = [], []
    for name, (number, buyers, minor) in sums.items():
        for place in range(number):
            identity_id = people.pop()
            seen.append(
                Assignment(
                    identity_id=identity_id,
                    campaign=campaign,
                    group=variations[name].group,
                    variation=variations[name],
                    version=version,
                    exposed_on=START + day * DAY,
                )
            )
            if place < buyers:
                hits.append(
                    Hit(
                        property=shop,
                        identity_id=identity_id,
                        type="transaction",
                        happened_on=START + (day + 1) * DAY,
                        minor=minor or None,
                        currency="EUR" if minor else "",
                    )
                )
    Assignment.objects.bulk_create(seen)
    Hit.objects.bulk_create(hits)


def people_of(shop, number):
    """Return the keys of the names of so many new people."""
    before = Customer.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    Customer.objects.bulk_create(Customer(property=shop) for _ in range(number))
    made = Customer.objects.filter(pk__gt=before).values_list("pk", flat=True)
    Identity.objects.bulk_create(
        Identity(property=shop, customer_id=each, kind="client", value=f"crowd-{each}")
        for each in made
    )
    return list(Identity.objects.filter(customer__gt=before).values_list("pk", flat=True))
