"""What it takes to let hits go through Redis: to collect them, and to write them from there.

To collect: the beacon of a page, in a browser whose cookie is known, against a bare view that reads
nothing and answers 204, in the same stack without our middleware. First the whole handler in this
process, then over HTTP, by two sync workers of gunicorn, where the figure to reach is.

To write: hits of people who are known, as many in one transaction as `manage.py write_hits` takes,
against a save of one by the ORM, committed by itself as a view does. They are put into the stream
before; what that takes is told beside.

Needs a Redis, at AFFILIATIONS_REDIS or on this machine. There its stream has the one name that
nobody else has, and is deleted in the end.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import cycle, islice
from time import perf_counter_ns
from typing import Any

from django.db import connection

from affiliations.tracking import hits, properties, stream
from affiliations.tracking.identities import Name, introduce
from affiliations.tracking.models import Hit, Identity, Property
from affiliations.tracking.writing import Writer

from . import server
from .redis import URL, sink
from .runner import Fact, Race, Variant, progress, spread
from .stack import OURS, count, default_stack, environ, serve, wsgi
from .tracking import PAGE, empty
from .tracking_collect import TITLE, as_wsgi, beacon

#: As ratios of time: the throughput is to be 0.6 of the bare view's, and 50 times that of the ORM.
COLLECTED, AT_MOST = 1 / 0.6, 1 / 50
REQUESTS, QUICK_REQUESTS = 1000, 20
EMPTY, REDIS = "bare view that answers 204", "collected, Redis"
SAVED, PUT, WRITTEN = "saved", "put", "written"


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield what a hit takes, where there is a Redis."""
    with sink() as name:
        if not name:
            yield Fact("hits through Redis are measured: it is there", False)
            return
        prop, _ = Property.objects.issue(name="Shop", public_key="SHOP")
        yield from collected(name, quick)
        yield from written(prop, quick)
    empty()


def collected(name: str, quick: bool) -> Iterator[Race | Fact]:
    """Yield what it takes to collect a hit, in this process and over HTTP."""
    body, headers = beacon(secrets.token_urlsafe(16))
    as_beacon = as_wsgi(headers)
    calls = {
        EMPTY: serve(wsgi(default_stack()), environ("/empty", body, **as_beacon), "204", body),
        REDIS: serve(wsgi(default_stack(OURS)), environ(EVENTS, body, **as_beacon), "201", body),
    }
    calls[REDIS]()
    properties.find("SHOP")
    yield Fact(f"{TITLE}, {REDIS}: queries", len(count(calls[REDIS])), "queries", 0)
    if stream.waiting() != 2:
        raise RuntimeError("nothing went through Redis")
    yield race(TITLE, calls)
    if not find_spec("gunicorn"):
        yield Fact("hits over HTTP are measured: gunicorn is installed", False)
        return
    number = QUICK_REQUESTS if quick else REQUESTS
    with server.running(BENCHMARKS_SINK=URL, BENCHMARKS_STREAM=name) as address:
        told = {EMPTY: ("/empty", 204), REDIS: (EVENTS, 201)}
        over_http: dict[str, Callable[[], Any]] = {
            each: partial(
                server.ask, address, [server.post(target, body, headers)] * number, status
            )
            for each, (target, status) in told.items()
        }
        before = stream.waiting()
        over_http[REDIS]()
        if stream.waiting() != before + number:
            raise RuntimeError("the processes that serve do not let hits go through Redis")
        title = f"{number} beacons, {server.AT_ONCE} at a time, {server.WORKERS} workers"
        yield race(title, over_http, COLLECTED, max_calls=1, max_rounds=30)


EVENTS = "/attribution/events"


def race(
    title: str, calls: dict[str, Callable[[], Any]], figure: float | None = None, **options: int
) -> Race:
    """Return the race of the view with the bare one."""
    variants = [
        Variant(EMPTY, calls[EMPTY]),
        Variant(f"{EMPTY}, again", calls[EMPTY], EMPTY),
        Variant(REDIS, calls[REDIS], EMPTY, at_most=figure),
    ]
    return Race(title, variants, prepare=lambda calls: properties.find("SHOP"), **options)


def written(prop: Property, quick: bool) -> Iterator[Fact]:
    """Yield what it takes to write a hit from Redis."""
    Writer().run(loop=False)
    people, number, saves = (20, 100, 10) if quick else (2000, 40_000, 400)
    introduce(
        [(prop.pk, Name("cookie", f"visitor-{each:030}")) for each in range(people)], "default"
    )
    known = properties.find("SHOP")
    if known is None:
        raise RuntimeError("the property is not there")
    rows = list(Identity.objects.order_by("pk"))
    told: dict[str, Any] = {"type": "pageview", "url": PAGE, "referrer": PAGE, "title": "Course 7"}
    took: dict[str, list[float]] = {SAVED: [], PUT: [], WRITTEN: []}
    for _ in progress(range(2 if quick else 7), "hits through Redis"):
        Hit.objects.all()._raw_delete("default")
        made = [
            Hit(
                property=prop,
                identity=row,
                **{**hits.new_hit(known, **told)._asdict(), "click_ids": {}, "meta": {}},
            )
            for row in islice(cycle(rows), saves)
        ]
        begun = perf_counter_ns()
        for each in made:
            each.save(force_insert=True)
        took[SAVED].append((perf_counter_ns() - begun) / saves / 1000)
        whose = [[Name(row.kind, row.value)] for row in rows]
        all_told = [(who, hits.new_hit(known, **told)) for who in islice(cycle(whose), number)]
        begun = perf_counter_ns()
        for who, each in all_told:
            hits.record(known, who, each)
        took[PUT].append((perf_counter_ns() - begun) / number / 1000)
        writer = Writer()
        begun = perf_counter_ns()
        writer.run(loop=False)
        took[WRITTEN].append((perf_counter_ns() - begun) / number / 1000)
        if Hit.objects.count() != saves + number:
            raise RuntimeError(f"{Hit.objects.count()} hits were written, not {saves + number}")
    for title, each in (
        ("a hit saved by the ORM, committed", SAVED),
        ("a hit put into Redis, one after the other", PUT),
        ("a hit written from Redis, committed", WRITTEN),
    ):
        low, middle, high = spread(took[each])
        yield Fact(title, middle, "µs", None, (low, high))
    for title, figures, figure in (
        (
            "a hit written from Redis, over one saved by the ORM",
            [b / a for a, b in zip(took[SAVED], took[WRITTEN], strict=True)],
            # By COPY, which only PostgreSQL has.
            AT_MOST if connection.vendor == "postgresql" else None,
        ),
        (
            "a hit put into Redis and written from there, over one saved by the ORM",
            [(b + c) / a for a, b, c in zip(*took.values(), strict=True)],
            None,
        ),
    ):
        low, middle, high = spread(figures)
        yield Fact(title, middle, "×", figure, (low, high))
