"""Answer Flagship's clients in their own way, whatever they ask.

They take an answer that is not JSON for a crash, a redirect for another method, and a slow one for
none. So each is JSON or empty, none is a redirect, and what is written is written afterwards.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from django.db import Error, transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from ..tracking import limits, origins, properties
from ..tracking.properties import Known
from .conf import rate
from .wire import Invalid

__all__ = [
    "JSON",
    "Refused",
    "answered",
    "as_errors",
    "as_json",
    "as_message",
    "as_text_in_message",
    "environment",
    "message",
    "with_key",
    "within_limits",
]

logger = logging.getLogger(__name__)

JSON = "application/json"
HEADERS = "Content-Type, X-Api-Key, X-Sdk-Client, X-Sdk-Version"

View = Callable[..., HttpResponse]


class Refused(Exception):
    """A request is answered by an error of a client's kind."""

    def __init__(self, status: int, message: str, wait: int = 0) -> None:
        self.status, self.message, self.wait = status, message, wait
        super().__init__(message)


def as_json(told: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(json.dumps(told), content_type=JSON, status=status)


def message(status: int, message: str) -> HttpResponse:
    return as_json({"message": message}, status)


def _errors(errors: Mapping[str, str]) -> dict[str, Any]:
    return {"status": "error", "errors": dict(errors)}


def as_message(invalid: Invalid) -> HttpResponse:
    return message(invalid.status, str(invalid))


def as_text_in_message(invalid: Invalid) -> HttpResponse:
    # So clients have it: JSON in a text of JSON.
    return message(invalid.status, json.dumps(_errors(invalid.errors)))


def as_errors(invalid: Invalid) -> HttpResponse:
    return as_json(_errors(invalid.errors), invalid.status)


def answered(told: Callable[[Invalid], HttpResponse]) -> Callable[[View], View]:
    """Make a view that is posted to; `told` answers what cannot be as it was sent."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @transaction.non_atomic_requests
        @sensitive_variables()
        @wraps(view)
        def answer(request: HttpRequest, **named: str) -> HttpResponse:
            if request.method == "OPTIONS":
                return origins.preflight(request, headers=HEADERS)
            try:
                if request.method != "POST":
                    raise Refused(400, "only POST http method is allowed")
                response = view(request, **named)
            except Refused as refusal:
                response = message(refusal.status, refusal.message)
                if refusal.wait:
                    response.headers["Retry-After"] = str(refusal.wait)
            except Invalid as invalid:
                response = told(invalid)
            except Error:
                logger.exception("The database could not be asked for a decision")
                response = _failed(request)
            response.headers["Cache-Control"] = "private, no-store"
            return origins.share(request, response, getattr(request, PROPERTY, None))

        return answer

    return decorate


#: The attribute of a request by which its answer is shared with the page of an origin.
PROPERTY = "_affiliate_environment"


def _failed(request: HttpRequest) -> HttpResponse:
    if request.headers.get("X-Sdk-Version", "").startswith("2."):
        # It raises an error into the application for what is no JSON.
        return message(500, "the decision could not be made")
    # The later ones drop the flags they have for an answer that is JSON.
    return HttpResponse("the decision could not be made", content_type="text/plain", status=503)


def environment(request: HttpRequest, env: str) -> Known:
    """Return the property that a client calls by its environment's id; raises Refused."""
    prop = properties.find(env)
    if prop is None:
        raise Refused(400, f"environment {env[:100]} not found")
    if not prop.row.active:
        raise Refused(403, f"environment {env[:100]} is disabled")
    if not origins.may_write(request, prop):
        raise Refused(403, "Origin: the environment is not written to from there")
    setattr(request, PROPERTY, prop)
    return prop


@sensitive_variables()
def with_key(request: HttpRequest, env: str) -> Known:
    """Return the property of an environment whose key a client has; raises Refused."""
    prop = environment(request, env)
    key = request.headers.get("X-Api-Key", "")
    # Before the key is compared, or one more could be tried; whoever knows it gets it back.
    taken = limits.take("address", limits.address_of(request), by="secret")
    if taken.wait:
        raise Refused(429, "address: there are too many requests", taken.wait)
    if not prop.row.is_secret(key):
        raise Refused(403, "Forbidden")
    limits.give_back(taken)
    return prop


def within_limits(request: HttpRequest, prop: Known) -> None:
    """Count a request that shows no key; raises Refused where there are too many."""
    address = limits.address_of(request)
    taken = limits.take_of(rate(), "experiments", address and f"{prop.id} {address}")
    if taken.wait:
        raise Refused(429, "address: there are too many requests", taken.wait)
