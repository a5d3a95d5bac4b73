"""What it takes to make one person of two, one of whom has done much: it should be flat.

A request to the collector says by a cookie and a client id that two customers are one person. The
cookie's has a thousand hits, up to a million, and is the one that goes; then they are parted again,
by changes of rows that a merge does not make, for the next one. All sizes take turns.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter

from affiliations.tracking.identities import Name, find_customer, identify
from affiliations.tracking.models import Customer, Hit, Identity, Property

from .runner import Fact, Race, progress, spread
from .stack import OURS, default_stack, environ, serve, wsgi
from .tracking import empty, hits, settle

SIZES, QUICK_SIZES = (10**3, 10**4, 10**5, 10**6), (10, 100)
SAMPLES, QUICK_SAMPLES = 100, 2
#: Milliseconds of the request, and how much longer it may take with a thousand times as much.
AT_MOST, FLAT = 20.0, 1.5


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield the time of a merge for each size."""
    sizes = QUICK_SIZES if quick else SIZES
    prop, _ = Property.objects.issue(name="Shop", public_key="SHOP")
    for size in sizes:
        identify(prop, [Name("client", f"{size}")])
        identify(prop, [Name("cookie", f"{size}")])
        hits(Identity.objects.get(kind="cookie", value=f"{size}"), size)
    settle()
    calls = {size: saying(size) for size in sizes}
    for size, call in calls.items():
        call()
        part(prop, size)
    taken = defaultdict(list)
    for _ in progress(range(QUICK_SAMPLES if quick else SAMPLES), "merges"):
        for size, call in calls.items():
            begun = perf_counter()
            call()
            taken[size].append((perf_counter() - begun) * 1000)
            part(prop, size)
    for size, call in calls.items():
        call()
        one = find_customer(prop, f"{size}")
        if one is None or Hit.objects.filter(identity__customer=one).count() != size:
            raise RuntimeError("not all of it is the one's")
        low, middle, high = spread(taken[size])
        yield Fact(f"merge, {size:,} hits", middle, "ms", AT_MOST, (low, high))
    ratio = median(taken[sizes[-1]]) / median(taken[sizes[0]])
    yield Fact(f"merge, {sizes[-1]:,} hits over {sizes[0]:,}", ratio, "×", FLAT)
    empty()


def saying(size: int) -> Callable[[], None]:
    """Return a request that says that a cookie and a client id are one person's."""
    told = {"public_key": "SHOP", "aliases": [f"{size}"], "client_id": f"{size}"}
    body = json.dumps({"identity": told}).encode()
    asked = environ("/attribution/identities", body)
    return serve(wsgi(default_stack(OURS)), asked, "201", body)


def part(prop: Property, size: int) -> None:
    """Make two of somebody again, the younger one of whom has the hits."""
    client, cookie = Identity.objects.filter(property=prop, value=f"{size}").order_by("kind")
    if client.customer_id != cookie.customer_id:
        raise RuntimeError("they were not made one")
    Identity.objects.filter(pk=cookie.pk).update(customer=Customer.objects.create(property=prop))
