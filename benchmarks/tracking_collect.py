"""What it costs to collect a hit, against a bare view that writes the same row.

The beacon of a page of the site's own, in a browser whose cookie is known, through the whole
handler. The bare view is in the same stack without our middleware, takes the body for what it
says, knows whose hit it is, and writes it by the ORM; a second one does by hand-written SQL. The
hits are deleted between batches.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

from django.core.signing import Signer

from affiliations import ident
from affiliations.conf import settings
from affiliations.tracking import properties
from affiliations.tracking.identities import Name, identify
from affiliations.tracking.models import Hit, Identity, Property

from .runner import Fact, Race, Variant
from .stack import OURS, count, default_stack, environ, serve, wsgi
from .tracking import PAGE, empty

#: As a ratio of time: the throughput is to be 0.7 of the bare view's.
AT_MOST = 1 / 0.7
ORM, SQL, DATABASE = "bare INSERT by the ORM", "bare INSERT by SQL", "collected, database"
TITLE = "beacon of a page"


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield what a hit costs beside its floor."""
    prop, _ = Property.objects.issue(name="Shop", public_key="SHOP")
    cookie = secrets.token_urlsafe(16)
    identify(prop, [Name("cookie", cookie)])
    identity = Identity.objects.get()

    def prepare(calls: int) -> None:
        Hit.objects.all()._raw_delete("default")
        properties.find("SHOP")

    body, headers = beacon(cookie)
    as_beacon = as_wsgi(headers)
    ours, bare = wsgi(default_stack(OURS)), wsgi(default_stack())
    whose = f"{prop.pk}/{identity.pk}/"
    calls = {
        name: serve(handler, environ(path, body, **as_beacon), "201", body)
        for name, handler, path in (
            (ORM, bare, f"/insert/{whose}"),
            (SQL, bare, f"/insert-by-sql/{whose}"),
            (DATABASE, ours, "/attribution/events"),
        )
    }
    for name, call in calls.items():
        prepare(1)
        yield Fact(f"{TITLE}, {name}: queries", len(count(call)), "queries", 1)
        written = Hit.objects.values("identity", "url", "referrer", "title", "channel").get()
        if written != {"identity": identity.pk, "channel": "", **{k: TOLD[k] for k in KEPT}}:
            raise RuntimeError(f"{name}: another row was written: {written}")
    yield Race(
        TITLE,
        [
            Variant(ORM, calls[ORM]),
            Variant(f"{ORM} again", calls[ORM], ORM),
            Variant(SQL, calls[SQL], ORM),
            Variant(DATABASE, calls[DATABASE], ORM, at_most=AT_MOST),
        ],
        prepare=prepare,
        max_calls=200,
    )
    empty()


#: What the beacon tells, and what of it the row has.
TOLD = {
    "public_key": "SHOP",
    "type": "pageview",
    "url": PAGE,
    "referrer": "https://shop.example/courses",
    "title": "Course 7",
}
KEPT = ("url", "referrer", "title")


def beacon(cookie: str) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a page's beacon, in a browser with this cookie."""
    signed = Signer(salt=ident.SALT).sign(cookie)
    return json.dumps({"event": TOLD}).encode(), {
        "Content-Type": "text/plain;charset=UTF-8",
        "Origin": "http://testserver",
        "Referer": "http://testserver/course/7?page=2",
        "Cookie": f"{settings.COOKIE_NAME}={signed}",
    }


def as_wsgi(headers: dict[str, str]) -> dict[str, str]:
    """Return headers as a server hands them over."""
    named = {f"HTTP_{name.upper().replace('-', '_')}": text for name, text in headers.items()}
    return {**named, "content_type": named.pop("HTTP_CONTENT_TYPE")}
