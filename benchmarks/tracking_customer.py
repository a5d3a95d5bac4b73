"""What it takes to ask for somebody who has done a hundred thousand things.

A program asks the private API with each of its flags, by a request through the whole handler.
Whoever it asks for goes by ten names, has come through partners and campaigns, and bought in two
currencies; another one like that, of a tenth of the hits, shows that the answer does not grow.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

from affiliations.models import Partner
from affiliations.tracking import properties
from affiliations.tracking.identities import Name, identify
from affiliations.tracking.models import EventType, Hit, Identity, Property

from .runner import Fact, Race, progress, spread
from .stack import OURS, count, default_stack, environ, look_at, serve, wsgi
from .tracking import empty, hits, settle

SIZES, QUICK_SIZES = (10**4, 10**5), (2000, 4000)
SAMPLES, QUICK_SAMPLES = 30, 2
NAMES = 10
FLAGS = ("pageviews", "touchpoints", "events", "identities", "all")
#: Queries, and how many times the bytes of a customer's of a tenth of the hits.
QUERIES, BOUNDED = 6, 1.1


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield queries, bytes and time for each flag."""
    few, many = sizes = QUICK_SIZES if quick else SIZES
    prop, secret = Property.objects.issue(name="Shop", public_key="SHOP")
    kinds = [EventType.objects.create(property=prop, key=f"e{n}", name="Event") for n in range(2)]
    partner = Partner.objects.create(name="Anna", active=True)
    for size in sizes:
        does(prop, size, kinds, partner)
    settle()
    handler = wsgi(default_stack(OURS))
    asked = {
        (size, flag): environ(
            f"/attribution/api/v1/SHOP/customers/{size}?show_{flag}=true",
            HTTP_AUTHORIZATION=f"Bearer {secret}",
        )
        for flag in FLAGS
        for size in sizes
    }
    calls: dict[tuple[int, str], Callable[[], None]] = {
        each: serve(handler, request) for each, request in asked.items()
    }
    taken = defaultdict(list)
    for _ in progress(range(QUICK_SAMPLES if quick else SAMPLES), "customers"):
        for each, call in calls.items():
            begun = time.perf_counter()
            call()
            taken[each].append((time.perf_counter() - begun) * 1000)
    for flag in FLAGS:
        title = f"customer of {many:,} hits, show_{flag}"
        # Which is looked up once in a second.
        properties.forget()
        made = count(calls[many, flag])
        yield Fact(f"{title}: queries", len(made), "queries", QUERIES)
        small, large = (len(see(look_at(handler, asked[size, flag]), flag)) for size in sizes)
        yield Fact(f"{title}: answer", large / 1024, "KiB")
        yield Fact(f"{title}: answer over that of {few:,} hits", large / small, "×", BOUNDED)
        low, middle, high = spread(taken[many, flag])
        yield Fact(title, middle, "ms", None, (low, high))
    empty()
    partner.delete()


def does(prop: Property, size: int, kinds: list[EventType], partner: Partner) -> None:
    """Let somebody go by ten names, and have done a tenth of it all by each of them."""
    others = [Name("cookie", f"{size}-{number}") for number in range(NAMES - 1)]
    one = identify(prop, [Name("client", f"{size}"), *others])
    # Half of the hits tell of what is no page, and half of what has brought them here.
    event, bought, brought = "n % 10 < 4", "n % 10 = 9", "n % 2 = 0"
    for identity in Identity.objects.filter(customer=one):
        hits(
            identity,
            size // NAMES,
            type=f"CASE WHEN {event} THEN '{Hit.Type.EVENT}' WHEN {bought} "
            f"THEN '{Hit.Type.TRANSACTION}' ELSE '{Hit.Type.PAGEVIEW}' END",
            event_type_id=f"CASE WHEN {event} AND n % 4 = 0 THEN {kinds[0].pk} "
            f"WHEN {event} THEN {kinds[1].pk} END",
            channel=f"CASE WHEN {brought} THEN 'affiliate' ELSE '' END",
            source=f"CASE WHEN {brought} THEN 'anna' ELSE '' END",
            partner_id=f"CASE WHEN {brought} THEN {partner.pk} END",
            minor=f"CASE WHEN {bought} THEN 4900 END",
            currency=f"CASE WHEN {bought} AND n % 20 = 9 THEN 'EUR' "
            f"WHEN {bought} THEN 'USD' ELSE '' END",
        )


def see(answer: bytes, flag: str) -> bytes:
    """Return the answer; raises RuntimeError where it has not what was asked for."""
    told = json.loads(answer)["customer"]
    lists = FLAGS[:-1] if flag == "all" else (flag,)
    if len(told["revenue"]) != 2 or not all(told[each] for each in lists):
        raise RuntimeError(f"{flag}: something is missing")
    return answer
