"""Requests through the whole handler, with or without our middleware in the default stack."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.db import connection
from django.http import HttpRequest
from django.test import AsyncRequestFactory, Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils.decorators import sync_and_async_middleware

OURS = "affiliations.middleware.AffiliateMiddleware"
EMPTY = "benchmarks.stack.empty"
#: The same again, to show what two things that do not differ seem to differ by.
CONTROL = "benchmarks.stack.control"


@sync_and_async_middleware
def empty(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Do nothing, as natively as ours does its work."""
    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> Any:
            return await get_response(request)

    else:

        def middleware(request: HttpRequest) -> Any:
            return get_response(request)

    return middleware


control = empty


def default_stack(middleware: str = "") -> list[str]:
    """Return `startproject`'s middleware, with one more where the documentation puts ours."""
    return [
        each for each in (middleware if each == "…" else each for each in settings.STACK) if each
    ]


def wsgi(middleware: list[str], **other: Any) -> WSGIHandler:
    """Return a handler with its own middleware; `other` settings count while it is built."""
    with override_settings(MIDDLEWARE=middleware, **other):
        return WSGIHandler()


def asgi(middleware: list[str]) -> ASGIHandler:
    """Return a handler for async views, with its own middleware."""
    with override_settings(MIDDLEWARE=middleware):
        return ASGIHandler()


def environ(path: str, body: bytes = b"", **extra: Any) -> dict[str, Any]:
    """Return what a server hands over for a request of a browser's: GET, or POST with a body."""
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"
    browser = RequestFactory(HTTP_USER_AGENT=agent)
    if body:
        kind = extra.pop("content_type", "application/json")
        return browser.post(path, body, content_type=kind, **extra).environ
    return browser.get(path, **extra).environ


def serve(
    handler: WSGIHandler, environ: dict[str, Any], status: str = "200", body: bytes = b""
) -> Callable[[], None]:
    """Return a call that answers one request as a server does, signals included."""

    def start(line: str, headers: Any) -> None:
        if not line.startswith(status):
            raise RuntimeError(f"{environ['PATH_INFO']} answered {line}, not {status}")

    def call() -> None:
        asked = {**environ, "wsgi.input": BytesIO(body)} if body else dict(environ)
        response = handler(asked, start)
        for _ in response:
            pass
        response.close()

    return call


def aserve(handler: ASGIHandler, path: str, **extra: Any) -> Callable[[], Any]:
    """Return an async call that answers one request, from the request object on."""
    scope = AsyncRequestFactory().get(path, **extra).scope

    async def call() -> None:
        await handler.get_response_async(ASGIRequest(scope, BytesIO()))

    return call


def look(handler: WSGIHandler, environ: dict[str, Any]) -> tuple[int, bool, bool]:
    """Return a request's queries, whether its session was read, and whether `Vary` was added."""
    request = WSGIRequest(dict(environ))
    with CaptureQueriesContext(connection) as queries:
        response = handler.get_response(request)
    response.close()
    return len(queries), request.session.accessed, "Vary" in response.headers


def look_at(handler: WSGIHandler, environ: dict[str, Any]) -> bytes:
    """Return what a request is answered with."""
    response: Any = handler.get_response(WSGIRequest(dict(environ)))
    response.close()
    return bytes(response.content)


def count(call: Callable[[], Any]) -> list[str]:
    """Return the queries that a call makes, those that begin and end transactions included."""
    with CaptureQueriesContext(connection) as queries:
        call()
    return [each["sql"] for each in queries]


def session_cookie(username: str = "") -> str:
    """Return the cookie of a session in the database: somebody's login, or else an anonymous one.

    Nothing in it is the suite's.
    """
    client = Client()
    if username:
        user, _ = get_user_model().objects.get_or_create(username=username)
        client.force_login(user)
    else:
        session = client.session
        session["basket"] = [1, 2, 3]
        session.save()
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
