"""What a declared trigger costs a save that concerns no partner: a request without a visitor.

The same request in the same stack saves one of two models that are alike, and only one of which is
the sender of a trigger. Three kinds of people: a browser without a session; somebody logged in,
where the view asks who it is, as every shop does before an order; and a browser whose session
nobody has read yet: what is in it can only be known by reading it, so that one has no figure.
"""

from __future__ import annotations

from collections.abc import Iterator

from .runner import Fact, Race, Variant
from .shop.models import Order, PlainOrder
from .stack import OURS, count, default_stack, environ, serve, session_cookie, wsgi


def prepare(calls: int) -> None:
    """Empty the tables."""
    Order.objects.all().delete()
    PlainOrder.objects.all().delete()


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield what the trigger adds to a request with a save in it."""
    handler = wsgi(default_stack(OURS))
    anonymous = {"HTTP_COOKIE": session_cookie()}
    member = {"HTTP_COOKIE": session_cookie("member")}
    for case, prefix, extra, limit in (
        ("no session", "", {}, 0),
        ("logged in, user known", "own-", member, 0),
        ("session not read before", "", anonymous, None),
    ):
        title = f"save that concerns no partner, {case}"
        plain = serve(handler, environ(f"/{prefix}plain/", **extra))
        ours = serve(handler, environ(f"/{prefix}order/", **extra))
        plain(), ours()  # what is looked up but once in a process is by now
        yield Fact(
            f"{title}: queries added", len(count(ours)) - len(count(plain)), "queries", limit
        )
        yield Race(
            title,
            [Variant("no trigger", plain), Variant("trigger declared", ours, "no trigger", "µs")],
            prepare=prepare,
            max_calls=200,
        )
    prepare(0)
