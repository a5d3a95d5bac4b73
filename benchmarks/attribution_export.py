"""What it takes to export a day into a history: it should be proportional to the day alone.

The history is of a tenth of a year's touchpoints and of all of them, and the day of some and of ten
times as many; days are written into a copy of the history, by what `export_touchpoints` calls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from django.utils import timezone

from affiliations.attribution import exports
from affiliations.tracking import partitions
from affiliations.tracking.models import Customer, Hit, Identity, Property

from .links_at_scale import fill, moment
from .runner import Fact, Race, progress, spread
from .tracking import FIRST, empty, settle

#: Touchpoints of the whole history, and of the day that is exported.
HISTORIES, QUICK_HISTORIES = (10**5, 10**6), (100, 1000)
DAYS, QUICK_DAYS = (3000, 30_000), (10, 100)
SPAN = 300 * 86_400
EACH = 5
SAMPLES, QUICK_SAMPLES = 9, 1
FLAT = 1.5


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield the time for each history and day, and of who is one person with whom."""
    histories, days = (QUICK_HISTORIES, QUICK_DAYS) if quick else (HISTORIES, DAYS)
    taken: dict[tuple[int, int], list[float]] = defaultdict(list)
    everybody: dict[int, list[float]] = defaultdict(list)
    for history in histories:
        for day in days:
            world(history, day)
            settle()
            with TemporaryDirectory(prefix="affiliations-") as directory:
                root = Path(directory)
                today = timezone.now().date()
                exports.export(root, since=today)
                for _ in progress(range(QUICK_SAMPLES if quick else SAMPLES), "exports"):
                    begun = perf_counter()
                    done = exports.export(root, since=today)
                    taken[history, day].append(perf_counter() - begun)
                    if done is None or done.touchpoints != day:
                        raise RuntimeError("the day is not the one that was meant")
                    begun = perf_counter()
                    with exports.DuckDB() as engine:
                        exports._people(engine, root)
                    everybody[history].append(perf_counter() - begun)
            empty()
    for history in histories:
        for day in days:
            low, middle, high = spread(taken[history, day])
            title = f"a day of {day:,} into a history of {history:,}"
            yield Fact(title, middle, "s", None, (low, high))
        yield Fact(f"of which the people of {history:,}", median(everybody[history]), "s")
    few, many = histories
    ratio = median(taken[many, days[0]]) / median(taken[few, days[0]])
    yield Fact(f"the same day, {many:,} over {few:,}", ratio, "×", FLAT)


def world(history: int, day: int) -> None:
    """Have people be touched over ten months, and some of them today."""
    if partitions.are_there("default"):
        wanted = partitions.months(FIRST, 12)
        for month in partitions.missing(wanted, "default"):
            partitions.make(month, "default")
    prop, _ = Property.objects.issue(name="Shop", public_key="SHOP")
    people = max(history // EACH, 1)
    whose = {"property_id": f"{prop.pk}", "created_on": moment("0")}
    fill(Customer, people, whose)
    first = Customer.objects.order_by("pk").values_list("pk", flat=True)[0] - 1
    named = {"customer_id": f"{first} + n", "kind": "'cookie'", "value": "'c' || n"}
    fill(Identity, people, {**whose, **named})
    begin = Identity.objects.order_by("pk").values_list("pk", flat=True)[0]
    # A little after midnight, so that the day has begun whenever this is run.
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    seconds = int((midnight - FIRST) / timedelta(seconds=1))
    for number, at in (
        (history, f"CAST(n * 1.0 * {SPAN} / {history} AS integer)"),
        (day, f"{seconds} + n * 0"),
    ):
        fill(
            Hit,
            number,
            {
                "property_id": f"{prop.pk}",
                "identity_id": f"{begin} + n % {people}",
                "type": f"'{Hit.Type.PAGEVIEW}'",
                **dict.fromkeys(("happened_on", "received_on"), moment(at)),
                "url": "'https://shop.example/course/7?page=2'",
                "referrer": "'https://elsewhere.example/'",
                "title": "'Course 7'",
                "channel": "'referral'",
                **dict.fromkeys(
                    ("source", "medium", "campaign", "term", "content", "link", "currency"), "''"
                ),
                "transaction_id": "''",
                **dict.fromkeys(("click_ids", "meta"), "'{}'"),
                "is_informational": "FALSE",
            },
        )
