"""Answer Attribution.io's clients and the snippet: who somebody is, what they did, who they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from .. import bots, ident, middleware, openapidocument, requestbody
from ..exceptions import AffiliationsError
from ..requestbody import InvalidFields, UnreadableBody
from . import customers, hits, limits, origins, properties, recording, wire
from .exceptions import InvalidHit, TooManyNames, UnknownEventType
from .identities import Name, identify
from .models import Hit
from .properties import Known

__all__ = ["customer", "events", "identities", "openapi"]

#: Of hits that only browsers tell of, and robots too.
BROWSED = frozenset({Hit.Type.PAGEVIEW, Hit.Type.SCREEN})
#: What errors call those whom a limit holds.
LIMITED = {"address": "address", "key": "public_key"}
TOO_MANY = "there are too many requests"

View = Callable[[HttpRequest, dict[str, Any], Known], HttpResponse]


class Refused(Exception):
    """A request is answered by an error, which names the field."""

    def __init__(self, status: int, field: str, message: str, wait: int = 0) -> None:
        self.status, self.field, self.message, self.wait = status, field, message, wait
        super().__init__(f"{field}: {message}")


def error(status: int, field: str, message: str, wait: int = 0) -> HttpResponse:
    """Return an error, as Attribution.io's clients can read it: an object without `customer`.

    `wait` is after how many seconds there is another answer, 0 where nobody can tell.
    """
    response = JsonResponse({"error": f"{field}: {message}", "field": field}, status=status)
    response.headers["Cache-Control"] = "private, no-store"
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="affiliations"'
    if wait:
        response.headers["Retry-After"] = str(wait)
    return response


def answered(member: str) -> Callable[[View], Callable[..., HttpResponse]]:
    """Make a view of one that is given what a body holds as a member, and its property."""

    def decorate(view: View) -> Callable[..., HttpResponse]:
        @csrf_exempt
        @transaction.non_atomic_requests
        @wraps(view)
        def answer(request: HttpRequest) -> HttpResponse:
            if request.method == "OPTIONS":
                return origins.preflight(request)
            if request.method != "POST":
                response = error(405, "method", "only POST may be used here")
                response.headers["Allow"] = "POST, OPTIONS"
                return response
            prop = None
            try:
                # Whatever comes is work, and so it counts before it is read.
                _within("address", limits.address_of(request))
                told = wire.of_body(_body(request), member)
                prop = _property(request, told)
                _within("key", str(prop.id))
                response = view(request, told, prop)
            except Refused as refusal:
                response = error(refusal.status, refusal.field, refusal.message, refusal.wait)
            except (InvalidHit, TooManyNames, UnknownEventType) as refusal:
                response = error(_status(refusal), *_parted(refusal))
            response.headers["Cache-Control"] = "private, no-store"
            return origins.share(request, response, prop)

        return answer

    return decorate


@answered("identity")
def identities(request: HttpRequest, told: dict[str, Any], prop: Known) -> HttpResponse:
    """Say that somebody's names are one person's."""
    wire.created_at(told)
    found = _names(request, told, prop, wire.names(told))
    if found:
        identify(prop.row, found)
    return _written(bool(found))


@answered("event")
def events(request: HttpRequest, told: dict[str, Any], prop: Known) -> HttpResponse:
    """Write what somebody did: 201, or 200 where it is written already, or not to be."""
    hit = wire.event(told, prop)
    is_robot = hit.type in BROWSED and bots.is_bot(request.META.get("HTTP_USER_AGENT", ""))
    found = [] if is_robot else _names(request, told, prop, wire.names(told, is_event=True))
    is_new = bool(found) and hits.record(prop, found, hit)
    return _written(is_new)


def _within(limit: str, whose: str) -> None:
    taken = limits.take(limit, whose)
    if taken.wait:
        raise Refused(429, LIMITED[limit], TOO_MANY, taken.wait)


def _written(is_new: bool) -> HttpResponse:
    return HttpResponse(b"{}", "application/json", 201 if is_new else 200)


def _body(request: HttpRequest) -> dict[str, Any]:
    # So beacons call it that need not ask first whether they may.
    if request.content_type in ("text/plain", ""):
        request.content_type = requestbody.JSON
    try:
        return requestbody.read(request)
    except InvalidFields as problem:
        field, said = next(iter(problem.errors.items()))
        raise Refused(400, field, said[0]) from None
    except UnreadableBody as problem:
        raise Refused(problem.status, *_parted(problem)) from None


def _property(request: HttpRequest, told: dict[str, Any]) -> Known:
    prop = properties.find(told.get("public_key"))
    if prop is None:
        raise Refused(401, "public_key", "there is no property with this key")
    if not prop.row.active:
        raise Refused(403, "public_key", "the property is disabled")
    if not origins.may_write(request, prop):
        raise Refused(403, "Origin", "the property is not written to from there")
    return prop


def _names(request: HttpRequest, told: dict[str, Any], prop: Known, who: wire.Told) -> list[Name]:
    """Return the names that somebody goes by: those that are told, or else their cookie's.

    None where their browser asks not to be tracked, or the site has no consent.
    """
    if middleware.asks_not_to_be_tracked(request):
        return []
    origin = request.META.get("HTTP_ORIGIN", "")
    theirs = recording.their_cookie(prop) in request.COOKIES
    # What programs tell of, and other sites' pages of names of theirs, they have the consent for.
    is_ours = theirs or bool(ident.read(request)) or origins.is_own(request, origin)
    if (is_ours or (origin and not who.aliases)) and not middleware.has_consent(request):
        return []
    if who.aliases:
        return [*who.aliases, *who.client]
    if not (is_ours or origin):
        if not who.client:
            raise InvalidHit("aliases: one is needed, or a client_id")
        return who.client
    return [*recording.names_of(request, prop), *who.client]


def _parted(refusal: Exception) -> tuple[str, str]:
    field, _, message = str(refusal).partition(": ")
    return field, message


def _status(refusal: AffiliationsError) -> int:
    return 404 if isinstance(refusal, UnknownEventType) else 400


@csrf_exempt
@transaction.non_atomic_requests
@sensitive_variables()
def customer(request: HttpRequest, public_key: str, client_id: str) -> HttpResponse:
    """Tell of a customer whoever knows the property's secret."""
    if request.method not in ("GET", "HEAD"):
        return _only_get()
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    secret = token.strip() if kind.lower() == "bearer" else request.GET.get("secret", "")
    # Before the secret is compared, or one more could be tried; whoever knows it gets it back.
    taken = limits.take("address", limits.address_of(request), by="secret")
    if taken.wait:
        return error(429, "address", TOO_MANY, taken.wait)
    prop = properties.find(public_key)
    # An unknown key takes as long as a wrong secret, and is answered likewise.
    if prop is None or not prop.row.is_secret(secret):
        return error(401, "secret", "it or the public key is wrong")
    limits.give_back(taken)
    if not prop.row.active:
        return error(403, "public_key", "the property is disabled")
    shown = customers.described(prop, client_id, customers.lists_of(request.GET))
    if shown is None:
        return error(404, "client_id", "there is no such customer")
    response = JsonResponse({"customer": shown})
    response.headers["Cache-Control"] = "private, no-store"
    return response


@csrf_exempt
def openapi(request: HttpRequest) -> HttpResponse:
    """Answer with the OpenAPI document of all of this, as it is where it is mounted."""
    if request.method not in ("GET", "HEAD"):
        return _only_get()
    return openapidocument.answered(request, beside=__file__)


def _only_get() -> HttpResponse:
    response = error(405, "method", "only GET may be used here")
    response.headers["Allow"] = "GET, HEAD"
    return response
