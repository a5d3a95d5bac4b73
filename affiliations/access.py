"""Who may do what through an API: whoever has a key for it, and staff who may in the admin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware
from django.views.decorators.debug import sensitive_variables

from .exceptions import InvalidApiKey
from .models import ApiKey
from .visits import user_of

__all__ = ["Caller", "Refused", "Right", "caller"]


class Right(NamedTuple):
    """What may be allowed: to a key by its scope, to staff by what they may do in the admin."""

    scope: str
    permission: str
    #: Whether there is something of each partner's, which a key of theirs may be for.
    of_partners: bool = True


class Refused(Exception):
    """The caller may not do this: 401 without a valid key, 403 with a login that does not allow."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        self.status, self.code = status, code
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls; with a partner, only what is theirs is there."""

    partner_id: int | None
    #: Tells one caller's Idempotency-Key from another's.
    name: str


class _CsrfCheck(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason  # and no page about it


@sensitive_variables()
def caller(request: HttpRequest, right: Right) -> Caller:
    """Return who calls, if they have the right to; raises Refused.

    A key comes in the header, `Authorization: Bearer aff_…`, never in the address. A login counts
    only where there is no such header, and what changes something needs its CSRF token.
    """
    header = request.headers.get("Authorization", "")
    if header:
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer":
            raise Refused(401, "invalid-api-key", "Authorization: must be Bearer and an API key")
        try:
            key = ApiKey.objects.authenticate(token.strip(), scope=right.scope)
        except InvalidApiKey:
            raise Refused(401, "invalid-api-key", "Authorization: not valid for this") from None
        if key.partner_id is not None and not right.of_partners:
            raise Refused(
                403, "permission-denied", "Authorization: a partner's key may not do this"
            )
        return Caller(key.partner_id, f"key {key.pk}")
    user = user_of(request)
    # A site's own user model may know no staff.
    if user is None or not user.is_active or not getattr(user, "is_staff", False):
        raise Refused(401, "authentication-required", "Authorization: an API key is needed")
    if not user.has_perm(right.permission):
        raise Refused(403, "permission-denied", "your account may not do this")
    if request.method not in ("GET", "HEAD") and (reason := _forged(request)):
        raise Refused(403, "csrf-failed", reason)
    return Caller(None, f"user {user.pk}")


def _forged(request: HttpRequest) -> str:
    """Return why a request may not be the user's own doing, "" where it is."""
    check: Any = _CsrfCheck(lambda request: None)  # type: ignore[arg-type]
    check.process_request(request)
    return str(check.process_view(request, None, (), {}) or "")
