"""What everybody else pays: a request that has nothing to do with affiliates.

Our middleware against an empty one at the same place of the default stack, before a view that does
nothing. A request differs from the next by more than 3 µs, so it is run three more ways: a second
empty middleware beside the first shows the noise, and the middleware object alone, called with a
request that is there and a response that is ready, is the sharpest figure. The default stack under
ASGI takes threads for most of Django's own middleware, so it is shown without a figure to reach,
and a stack of the one middleware in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory

from affiliations.middleware import AffiliateMiddleware

from .runner import Fact, Race, Variant
from .stack import (
    CONTROL,
    EMPTY,
    OURS,
    aserve,
    asgi,
    default_stack,
    empty,
    environ,
    look,
    serve,
    session_cookie,
    wsgi,
)

ADDED = 3.0


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield what a request without the affiliate parameter costs."""
    yield from alone()
    cookies = {
        "no session cookie": {},
        "session cookie": {"HTTP_COOKIE": session_cookie()},
    }
    handlers = [wsgi(default_stack(each)) for each in (EMPTY, CONTROL, OURS)]
    for case, extra in cookies.items():
        request = environ("/page/?page=2&order=price", **extra)
        yield Race(
            f"untouched request, {case}", against_empty(serve(each, request) for each in handlers)
        )
        queries, accessed, vary = look(handlers[-1], request)
        yield Fact(f"untouched request, {case}: queries", queries, "queries", 0)
        yield Fact(f"untouched request, {case}: session read", accessed, at_most=False)
        yield Fact(f"untouched request, {case}: Vary added", vary, at_most=False)
    for title, stack, limit in (
        ("untouched async request, nothing else in the stack", lambda each: [each], ADDED),
        ("untouched async request, default stack", default_stack, None),
    ):
        ahandlers = [asgi(stack(each)) for each in (EMPTY, CONTROL, OURS)]
        for case, extra in cookies.items():
            headers = {"headers": {"cookie": extra["HTTP_COOKIE"]}} if extra else {}
            calls = [aserve(each, "/apage/?page=2&order=price", **headers) for each in ahandlers]
            yield Race(f"{title}, {case}", against_empty(calls, limit))


def against_empty(calls: Any, limit: float | None = ADDED) -> list[Variant]:
    """Return the empty middleware, the same again, and ours, as variants."""
    base, again, ours = calls
    return [
        Variant("empty middleware", base),
        Variant("empty middleware again", again, "empty middleware", "µs"),
        Variant("AffiliateMiddleware", ours, "empty middleware", "µs", limit),
    ]


def alone() -> Iterator[Race]:
    """Yield the middleware objects by themselves."""
    response = HttpResponse(b"ok")

    def ready(request: HttpRequest) -> HttpResponse:
        return response

    async def aready(request: HttpRequest) -> HttpResponse:
        return response

    async def acall(middleware: Callable[[HttpRequest], Any], request: HttpRequest) -> None:
        await middleware(request)

    request = RequestFactory().get("/page/?page=2&order=price")
    yield Race(
        "middleware alone",
        against_empty(
            partial(each(ready), request) for each in (empty, empty, AffiliateMiddleware)
        ),
    )
    arequest = AsyncRequestFactory().get("/page/?page=2&order=price")
    yield Race(
        "middleware alone, async",
        against_empty(
            partial(acall, each(aready), arequest) for each in (empty, empty, AffiliateMiddleware)
        ),
    )
