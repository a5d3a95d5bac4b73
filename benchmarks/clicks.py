"""What a click on a link costs, against a bare view that redirects, and pinax-referrals' redirect.

The bare view is in the same stack without our middleware, and so is the redirect of
pinax-referrals, which records a response and a session. Clicks come through the network: they carry
its transaction id, but for those that the gate keeps out. A new browser has no cookie at any
request, so each of its clicks is a row of its own; one that returns sends the cookie back, and
refreshes its row. A click through a partner's link makes a visitor and a session besides. All links
are remembered, as they are at every click on a busy site but one in a second.

First the whole handler in this process, the sharper figure; then over HTTP, by two sync workers of
gunicorn, where the figures to reach are. Both as ratios of time. Needs the extra `benchmarks`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle, islice, starmap
from typing import Any

from django.apps import apps
from django.contrib.sessions.models import Session
from django.core.signing import Signer
from django.db import connection
from django.db.models import Sum

from affiliations import ident
from affiliations.conf import settings
from affiliations.links import routing
from affiliations.links.models import Link, Transaction
from affiliations.models import Partner, Visitor

from . import server
from .runner import Fact, Race, Variant
from .stack import OURS, count, default_stack, environ, serve, wsgi

#: As ratios of time: the speed is to be 0.75 of the bare redirect's on SQLite, and so on.
SQLITE, OTHERS, NOT_RECORDED, PINAX = 1 / 0.75, 1 / 0.4, 1 / 0.9, 1 / 4
REQUESTS, QUICK_REQUESTS = 1000, 20
#: Different browsers, and as many clicks of the network's.
BROWSERS = 64
QUERY = "offer_id=17&aff_id=1042&aff_sub2=newsletter&utm_campaign=spring"
PEER = "pinax-referrals"
BARE, UNRECORDED, NEW, RETURNING, PARTNERS = (
    "bare redirect",
    "click not recorded",
    "click of a new browser",
    "click of a browser that returns",
    "click of a new browser, partner's link",
)

#: What a browser asks for, and its cookie.
Requests = dict[str, list[tuple[str, str]]]


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield what clicks cost, in this process and over HTTP."""
    partner = Partner.objects.create(name="Anna", active=True)
    page = {"item_id": "course-7", "landing_page": "https://shop.example/course/7?utm_medium=aff"}
    links = [Link.objects.create(**page), Link.objects.create(**page, partner=partner)]
    requests = of_browsers(*links)
    yield from in_process(requests, links)
    referral = referral_to(page["landing_page"])
    if referral is None:
        yield Fact("clicks of a peer are measured: pinax is installed", False)
    if find_spec("gunicorn"):
        yield from over_http(requests, referral, quick)
    else:
        yield Fact("clicks over HTTP are measured: gunicorn is installed", False)
    for model in (Transaction, Visitor, Session):
        model.objects.all().delete()
    for each in filter(None, [referral, *links, partner]):
        each.delete()


def of_browsers(link: Link, partners: Link) -> Requests:
    """Return the requests of each kind of click."""
    clicks = [f"{QUERY}&transaction_id=102{secrets.token_hex(13)}" for _ in range(BROWSERS)]
    signer = Signer(salt=ident.SALT)
    cookies = [
        f"{settings.COOKIE_NAME}={signer.sign(secrets.token_urlsafe(16))}" for _ in range(BROWSERS)
    ]
    return {
        BARE: [(f"/bare/{link.path}?{click}", "") for click in clicks],
        UNRECORDED: [(f"/router/{link.path}?{QUERY}", "")],
        NEW: [(f"/router/{link.path}?{click}", "") for click in clicks],
        RETURNING: [
            (f"/router/{link.path}?{click}", cookie)
            for click, cookie in zip(clicks, cookies, strict=True)
        ],
        PARTNERS: [(f"/router/{partners.path}?{click}", "") for click in clicks],
    }


def in_process(requests: Requests, links: list[Link]) -> Iterator[Race | Fact]:
    """Yield what the whole handler takes, and the queries."""

    def remember(calls: int) -> None:
        for link in links:
            routing.find(link.path)

    ours, bare = wsgi(default_stack(OURS)), wsgi(default_stack())
    calls: dict[str, Callable[[], Any]] = {}
    for name, [(target, cookie), *_] in requests.items():
        extra = {"HTTP_COOKIE": cookie} if cookie else {}
        calls[name] = serve(bare if name == BARE else ours, environ(target, **extra), "302")
    remember(1)
    for name, queries in ((UNRECORDED, 0), (NEW, 1), (RETURNING, 1), (PARTNERS, None)):
        see_recorded(name, calls[name], 1)
        yield Fact(f"{name}: queries", len(count(calls[name])), "queries", queries)
    yield Race(
        "click, in this process",
        [
            Variant(BARE, calls[BARE]),
            Variant(f"{BARE} again", calls[BARE], BARE),
            *(Variant(name, calls[name], BARE) for name in calls if name != BARE),
        ],
        prepare=remember,
        max_calls=200,
    )


def over_http(requests: Requests, referral: Any, quick: bool) -> Iterator[Race]:
    """Yield the races of the clicks by the time that a number of them takes."""
    number = QUICK_REQUESTS if quick else REQUESTS

    def asking(each: list[tuple[str, str]]) -> Callable[[], None]:
        return partial(server.ask, address, list(islice(cycle(starmap(server.get, each)), number)))

    with server.running() as address:
        calls = {name: asking(each) for name, each in requests.items()}
        for name in (UNRECORDED, NEW, RETURNING, PARTNERS):
            see_recorded(name, calls[name], number)
        recorded = SQLITE if connection.vendor == "sqlite" else OTHERS
        title = f"{number} requests, {server.AT_ONCE} at a time, {server.WORKERS} workers"
        yield Race(
            title,
            [
                Variant(BARE, calls[BARE]),
                Variant(UNRECORDED, calls[UNRECORDED], BARE, at_most=NOT_RECORDED),
                Variant(NEW, calls[NEW], BARE, at_most=recorded),
                Variant(RETURNING, calls[RETURNING], BARE),
                Variant(PARTNERS, calls[PARTNERS], BARE),
            ],
            max_calls=1,
            max_rounds=30,
        )
        if referral is None:
            return
        yield Race(
            f"{title}, against pinax-referrals",
            [
                Variant(PEER, asking([(f"/pinax/{referral.code}/?{QUERY}", "")])),
                Variant(NEW, calls[NEW], PEER, at_most=PINAX),
            ],
            max_calls=1,
            max_rounds=15,
        )


def see_recorded(name: str, call: Callable[[], None], number: int) -> None:
    """Make a number of clicks; raises RuntimeError where not all of them are recorded, or any."""
    before = recorded_clicks()
    call()
    recorded = recorded_clicks() - before
    if recorded != (0 if name == UNRECORDED else number):
        raise RuntimeError(f"{name}: {recorded} of {number} were recorded")


def recorded_clicks() -> int:
    """Return how many clicks the transactions hold."""
    return Transaction.objects.aggregate(clicks=Sum("clicks", default=0))["clicks"]


def referral_to(page: str) -> Any:
    """Return a referral of pinax-referrals' to a page, or None where that is not installed."""
    if not apps.is_installed("pinax.referrals"):
        return None
    return import_module("pinax.referrals.models").Referral.create(redirect_to=page)
