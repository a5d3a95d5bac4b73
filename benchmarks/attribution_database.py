"""Five rules computed by the site's own database, and by DuckDB, against a loop over the ORM.

The loop is what one writes first: for each conversion a query for what its person was touched by,
and the five rules in Python. It has the same touchpoints, and has to come to the same figures.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import floor
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone

from affiliations.attribution import attribute
from affiliations.attribution.engines import DIALECTS
from affiliations.models import Conversion, Partner, Visitor
from affiliations.money import apportion
from affiliations.tracking import partitions
from affiliations.tracking.models import Customer, Hit, Identity, Property

from .attribution import CHANNELS
from .links_at_scale import fill, moment, scattered
from .runner import Fact, Race, Variant
from .tracking import FIRST, empty, settle

TOUCHPOINTS, QUICK_TOUCHPOINTS = 10**6, 600
#: Touchpoints of each person on the average, and people of whom one has bought.
EACH, ONE_IN = 5, 20
DAYS = 90
BEGIN, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 4, 2, tzinfo=UTC)
RULES = ("last", "first", "linear", "position_based", "time_decay")
LOOKBACK, HALF_LIFE = timedelta(days=DAYS + 1), timedelta(days=7)
#: Of what the loop takes.
AT_MOST = 0.05


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield what our engines take, as a part of what the loop does."""
    number = QUICK_TOUCHPOINTS if quick else TOUCHPOINTS
    world(number)
    settle()
    engines = ["duckdb", *(["database"] if connection.vendor in DIALECTS else [])]
    wanted = loop()
    for engine in engines:
        same(ours(engine), wanted)
    yield Race(
        f"five rules, {number:,} touchpoints",
        [
            Variant("a loop over the ORM", loop),
            *(
                Variant(
                    f"ours, by {engine}",
                    lambda engine=engine: ours(engine),
                    "a loop over the ORM",
                    at_most=AT_MOST if engine == "database" else None,
                )
                for engine in engines
            ),
        ],
        max_rounds=5,
        max_calls=1,
    )
    # The ledger, which would have to be emptied along with them, is not emptied by anybody.
    Conversion.objects.all().delete()
    for each in (Visitor, Partner, get_user_model()):
        each.objects.all().delete()
    empty()


def world(number: int) -> None:
    """Have people come by some channel, and one in twenty buy."""
    if partitions.are_there("default"):
        for month in partitions.missing(partitions.months(FIRST, 4), "default"):
            partitions.make(month, "default")
    prop, _ = Property.objects.issue(name="Shop", public_key="SHOP")
    people = max(number // EACH, ONE_IN)
    fill(Customer, people, {"property_id": f"{prop.pk}", "created_on": moment("0")})
    first = Customer.objects.order_by("pk").values_list("pk", flat=True)[0] - 1
    whose = {"property_id": f"{prop.pk}", "created_on": moment("0")}
    fill(
        Identity,
        people,
        {**whose, "customer_id": f"{first} + n", "kind": "'cookie'", "value": "'c' || n"},
    )
    cookie = Identity.objects.order_by("pk").values_list("pk", flat=True)[0] - 1
    user = get_user_model()
    buyers = people // ONE_IN
    fill(
        user,
        buyers,
        {
            "username": "'user-' || n",
            "date_joined": moment("n"),
            **dict.fromkeys(("password", "first_name", "last_name", "email"), "''"),
            **dict.fromkeys(("is_staff", "is_superuser"), "FALSE"),
            "is_active": "TRUE",
        },
    )
    begin = user.objects.order_by("pk").values_list("pk", flat=True)[0] - 1
    fill(
        Identity,
        buyers,
        {
            **whose,
            "customer_id": f"{first} + n * {ONE_IN}",
            "kind": "'user'",
            "value": f"CAST({begin} + n AS varchar(20))",
        },
    )
    names = " ".join(f"WHEN {place} THEN '{each}'" for place, each in enumerate(CHANNELS))
    channel = f"CASE {scattered('n')} % {len(CHANNELS)} {names} END"
    empty_ones = ("source", "medium", "campaign", "term", "content", "link", "currency")
    at = moment(f"{scattered('n + 77')} % {DAYS * 86_400}")
    fill(
        Hit,
        number,
        {
            "property_id": f"{prop.pk}",
            "identity_id": f"{cookie + 1} + {scattered('n + 5')} % {people}",
            "type": f"'{Hit.Type.PAGEVIEW}'",
            **dict.fromkeys(("happened_on", "received_on"), at),
            "url": "'https://shop.example/course/7?page=2'",
            "referrer": "'https://elsewhere.example/'",
            "title": "'Course 7'",
            "channel": channel,
            **dict.fromkeys((*empty_ones, "transaction_id"), "''"),
            **dict.fromkeys(("click_ids", "meta"), "'{}'"),
            "is_informational": "FALSE",
        },
    )
    # Whoever converts has to have been sent by somebody; this one long ago.
    visitor = Visitor.objects.create(partner=Partner.objects.create(name="Anna", active=True))
    past = timezone.now() - timedelta(days=3000)
    Visitor.objects.filter(pk=visitor.pk).update(referred_on=past, clicked_on=past)
    fill(
        Conversion,
        buyers,
        {
            "visitor_id": f"{visitor.pk}",
            "trigger": "'Order placed'",
            "reference": "'order-' || n",
            "key": "'key-' || n",
            "user_id": f"{begin} + n",
            "amount_minor": "1000 + n",
            "currency": "'EUR'",
            "created_on": moment(f"{DAYS * 86_400} + n % 3600"),
            "reversed_minor": "0",
            "decision": "'{}'",
        },
    )


def ours(engine: str) -> dict[tuple[str, str], tuple[float, int]]:
    """Return the credits by rule and channel, and their worth, as the suite has them."""
    table = attribute(
        RULES, since=BEGIN, until=UNTIL, by="channel", lookback=LOOKBACK, engine=engine
    )
    return {
        (row["model"], row["label"]): (row["conversions"], row["amount_minor"])
        for row in table.to_pylist()
    }


def loop() -> dict[tuple[str, str], tuple[float, int]]:
    """Return the same, a query for each conversion."""
    credit: dict[tuple[str, str], float] = defaultdict(float)
    worth: dict[tuple[str, str], int] = defaultdict(int)
    prop = Property.objects.get()
    for won in Conversion.objects.filter(created_on__gte=BEGIN, created_on__lt=UNTIL):
        path = list(
            Hit.objects.filter(
                # All three, or else there is no index for it.
                identity__customer__identities__property=prop,
                identity__customer__identities__kind="user",
                identity__customer__identities__value=str(won.user_id),
                happened_on__lte=won.created_on,
                happened_on__gt=won.created_on - LOOKBACK,
            )
            .exclude(channel="")
            .order_by("happened_on", "pk")
            .values_list("channel", "happened_on")
        )
        for model, weights in _weights(path).items():
            total = sum(weights)
            parts = apportion(won.amount_minor, [floor(w / total * 1e9 + 0.501) for w in weights])
            for (channel, _), weight, part in zip(path, weights, parts, strict=True):
                credit[model, channel] += weight / total
                worth[model, channel] += part
    return {key: (value, worth[key]) for key, value in credit.items()}


def _weights(path: list[Any]) -> dict[str, list[float]]:
    if not path:
        return {}
    count, end = len(path), path[-1][1]
    ends = [0.4, *([0.2 / max(count - 2, 1)] * (count - 2)), 0.4] if count > 1 else [1.0]
    return {
        "last": [0.0] * (count - 1) + [1.0],
        "first": [1.0] + [0.0] * (count - 1),
        "linear": [1.0] * count,
        "position_based": ends,
        "time_decay": [2 ** ((at - end) / HALF_LIFE) for _, at in path],
    }


def same(
    ours: dict[tuple[str, str], tuple[float, int]], wanted: dict[tuple[str, str], tuple[float, int]]
) -> None:
    """Make sure that both have come to the same figures, and to the same amounts to the unit."""
    for key, (value, minor) in wanted.items():
        its_value, its_minor = ours.get(key, (0.0, 0))
        if minor != its_minor or not math.isclose(its_value, value, rel_tol=1e-9, abs_tol=1e-9):
            raise RuntimeError(f"{key}: {ours.get(key)}, not {value, minor}")
    if not wanted:
        raise RuntimeError("nobody has bought")
