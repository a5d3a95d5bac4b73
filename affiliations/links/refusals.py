"""What the API says of what it has not done, as problems, in the caller's own words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from ninja.errors import ValidationError

from ..exceptions import AffiliationsError, InvalidMoney
from ..problems import problem
from ..requestbody import MAX_NAME, BodyTooLarge, InvalidFields, UnreadableBody
from .access import Refused
from .exceptions import (
    AlreadyFulfilled,
    IdempotencyConflict,
    InvalidLink,
    NoOpenTransaction,
    NotCompleted,
    NothingToRefund,
    UnknownLink,
)
from .schemas import NAMES

__all__ = ["HANDLERS", "not_found"]

STATUSES: dict[type[AffiliationsError], int] = {
    UnknownLink: 404,
    NoOpenTransaction: 404,
    NothingToRefund: 404,
    AlreadyFulfilled: 409,
    IdempotencyConflict: 409,
    NotCompleted: 422,
    InvalidLink: 422,
    InvalidMoney: 422,
}


def not_done(request: HttpRequest, error: Any) -> HttpResponse:
    """Say why a service has refused; what none is meant to raise goes on to Django."""
    status = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), None)
    if status is None:
        raise error
    if isinstance(error, InvalidLink):
        errors = {spelt(request, field): said for field, said in error.errors.items()}
        return invalid(error.code, errors)
    field, _, message = str(error).partition(": ")
    # An amount that no column holds is too large in minor units.
    field = spelt(request, "amount" if field == "minor" else field)
    if status == 422:
        return invalid(error.code, {field: [message]})
    return problem(status, error.code, f"{field}: {message}")


def spelt(request: Any, field: str) -> str:
    """Return what the caller has called a field, or the document does."""
    first, dot, rest = field.partition(".")
    names = NAMES.get(first, (first,))
    sent = getattr(request, "affiliate_sent", {})
    return next((name for name in names if name in sent), names[0]) + dot + rest


def invalid(code: str, errors: Mapping[str, list[str]]) -> HttpResponse:
    """Say what is wrong with which field."""
    detail = "; ".join(f"{field}: {' '.join(said)}" for field, said in errors.items())
    return problem(422, code, detail, errors)


def unreadable(request: HttpRequest, error: Any) -> HttpResponse:
    """Say why a body was not even looked at."""
    if isinstance(error, InvalidFields):
        return invalid(error.code, error.errors)
    return problem(error.status, error.code, str(error))


def not_valid(request: HttpRequest, error: Any) -> HttpResponse:
    """Say what ninja has found wrong, by field."""
    errors: dict[str, list[str]] = {}
    for each in error.errors:
        source, *where = each["loc"]
        # Of a body ninja names the parameter that it becomes as well.
        field = ".".join(map(str, where[1:] if source == "body" else where))[:MAX_NAME]
        errors.setdefault(field, []).append(each["msg"].removeprefix("Value error, "))
    return invalid(InvalidFields.code, errors)


def refused(request: HttpRequest, error: Any) -> HttpResponse:
    """Say why the caller may not."""
    return problem(error.status, error.code, str(error))


def bad_request(request: HttpRequest, error: Any) -> HttpResponse:
    """Say what Django says of a request that it cannot read."""
    if isinstance(error, RequestDataTooBig):
        return problem(413, BodyTooLarge.code, "body: is too large")
    return problem(400, "bad-request", "The request cannot be read.")


def not_found(request: HttpRequest, error: Any = None) -> HttpResponse:
    """Say that there is no such address."""
    return problem(404, "not-found", "There is nothing at this address.")


HANDLERS: dict[type[Exception], Callable[[HttpRequest, Any], HttpResponse]] = {
    AffiliationsError: not_done,
    UnreadableBody: unreadable,
    ValidationError: not_valid,
    Refused: refused,
    Http404: not_found,
    BadRequest: bad_request,
    MultiPartParserError: bad_request,
    SuspiciousOperation: bad_request,
    UnreadablePostError: bad_request,
}
