"""What an API says of what it has not done, as problems, in the caller's own words.

It needs django-ninja, as the APIs do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from ninja.errors import ValidationError

from .access import Refused
from .exceptions import AffiliationsError
from .problems import problem
from .requestbody import MAX_NAME, BodyTooLarge, InvalidFields, UnreadableBody

__all__ = ["Refusals"]

Handler = Callable[[HttpRequest, Any], HttpResponse]


class Refusals:
    """The base of each API's own refusals, with all that is the same for any."""

    #: The status of each error that a service is meant to raise.
    statuses: Mapping[type[AffiliationsError], int]
    #: What callers may call a field, by the name that services have for it; the document's first.
    names: Mapping[str, Sequence[str]]
    #: The status of a field that cannot be as it is.
    invalid_status: ClassVar[int] = 422

    @property
    def handlers(self) -> dict[type[Exception], Handler]:
        """What is said of each exception."""
        return {
            AffiliationsError: self.not_done,
            UnreadableBody: self.unreadable,
            ValidationError: self.not_valid,
            Refused: self.refused,
            Http404: self.not_found,
            BadRequest: self.bad_request,
            MultiPartParserError: self.bad_request,
            SuspiciousOperation: self.bad_request,
            UnreadablePostError: self.bad_request,
        }

    def problem(
        self, status: int, code: str, detail: str, errors: Mapping[str, Sequence[str]] | None = None
    ) -> HttpResponse:
        """Return an error: each of the API's is made here."""
        return problem(status, code, detail, errors)

    def not_done(self, request: HttpRequest, error: Any) -> HttpResponse:
        """Say why a service has refused; what none is meant to raise goes on to Django."""
        kinds = type(error).__mro__
        status = next((self.statuses[kind] for kind in kinds if kind in self.statuses), None)
        if status is None:
            raise error
        if errors := getattr(error, "errors", None):
            said = {self.spelt(request, field): each for field, each in errors.items()}
            return self.invalid(error.code, said)
        field, _, message = str(error).partition(": ")
        # An amount that no column holds is too large in minor units.
        field = self.spelt(request, "amount" if field == "minor" else field)
        if status == self.invalid_status:
            return self.invalid(error.code, {field: [message]})
        return self.problem(status, error.code, f"{field}: {message}")

    def spelt(self, request: Any, field: str) -> str:
        """Return what the caller has called a field, or the document does."""
        first, dot, rest = field.partition(".")
        names = self.names.get(first, (first,))
        sent = getattr(request, "affiliate_sent", {})
        return next((name for name in names if name in sent), names[0]) + dot + rest

    def invalid(self, code: str, errors: Mapping[str, Sequence[str]]) -> HttpResponse:
        """Say what is wrong with which field."""
        detail = "; ".join(f"{field}: {' '.join(said)}" for field, said in errors.items())
        return self.problem(self.invalid_status, code, detail, errors)

    def unreadable(self, request: HttpRequest, error: Any) -> HttpResponse:
        """Say why a body was not even looked at."""
        if isinstance(error, InvalidFields):
            return self.invalid(error.code, error.errors)
        return self.problem(error.status, error.code, str(error))

    def not_valid(self, request: HttpRequest, error: Any) -> HttpResponse:
        """Say what ninja has found wrong, by field."""
        errors: dict[str, list[str]] = {}
        for each in error.errors:
            source, *where = each["loc"]
            # Of a body ninja names the parameter that it becomes as well.
            field = ".".join(map(str, where[1:] if source == "body" else where))[:MAX_NAME]
            errors.setdefault(field, []).append(each["msg"].removeprefix("Value error, "))
        return self.invalid(InvalidFields.code, errors)

    def refused(self, request: HttpRequest, error: Any) -> HttpResponse:
        """Say why the caller may not."""
        return self.problem(error.status, error.code, str(error))

    def bad_request(self, request: HttpRequest, error: Any) -> HttpResponse:
        """Say what Django says of a request that it cannot read."""
        if isinstance(error, RequestDataTooBig):
            return self.problem(413, BodyTooLarge.code, "body: is too large")
        return self.problem(400, "bad-request", "The request cannot be read.")

    def not_found(self, request: HttpRequest, error: Any = None) -> HttpResponse:
        """Say that there is no such address."""
        return self.problem(404, "not-found", "There is nothing at this address.")

    def not_allowed(self, allowed: str) -> HttpResponse:
        """Say that an address has other methods."""
        said = self.problem(405, "method-not-allowed", f"Only {allowed} may be used here.")
        said.headers["Allow"] = allowed
        return said
