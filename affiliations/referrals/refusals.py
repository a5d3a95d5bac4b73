"""What the API says of what it has not done: problems, which have the predecessor's key as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse

from .. import problems
from ..exceptions import AffiliationsError, InvalidMoney
from ..restrefusals import Refusals
from .exceptions import (
    InvalidMember,
    InvalidProgram,
    InvalidReport,
    NoProgram,
    NotRegistered,
    ProgramInUse,
    UnknownMember,
    UnknownProgram,
)
from .schemas import NAMES

__all__ = ["ReferralsRefusals"]

STATUSES: dict[type[AffiliationsError], int] = {
    UnknownMember: 404,
    UnknownProgram: 404,
    NoProgram: 409,
    NotRegistered: 409,
    ProgramInUse: 409,
    InvalidMember: 400,
    InvalidProgram: 400,
    InvalidReport: 400,
    InvalidMoney: 400,
}
#: In the words of the predecessor.
UNKNOWN = {UnknownMember: "User hash not found", UnknownProgram: "ID not found"}


class ReferralsRefusals(Refusals):
    """Problems with an `error` beside their `detail`, where the predecessor's clients look."""

    statuses = STATUSES
    names = NAMES
    invalid_status = 400

    def problem(
        self, status: int, code: str, detail: str, errors: Mapping[str, Sequence[str]] | None = None
    ) -> HttpResponse:
        """Return an error."""
        return problems.problem(status, code, detail, errors, error=detail)

    def not_done(self, request: HttpRequest, error: Any) -> HttpResponse:
        """Say why a service has refused."""
        if said := UNKNOWN.get(type(error)):
            return self.problem(404, error.code, said)
        return super().not_done(request, error)
