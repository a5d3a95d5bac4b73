"""Read, make and write the one anonymous cookie that the suite sets.

Only where `AFFILIATE_COOKIE` is on, and only when something needs it. The cookie holds 128 random
bits and a signature, nothing about the browser or the person.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.core import signing
from django.utils.cache import patch_vary_headers

from .conf import settings

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

__all__ = ["drop", "ensure", "read", "write"]

LENGTH = 22
ATTRIBUTE = "_affiliate_ident"
# Versioned, and of no other use: a value signed for another purpose is never taken for an ident.
SALT = "affiliations.ident.v1"


@dataclass(slots=True)
class _Ident:
    value: str
    to_write: bool = False


def _of(request: HttpRequest) -> _Ident:
    known: _Ident | None = getattr(request, ATTRIBUTE, None)
    if known is None:
        known = _Ident(_unsign(request.COOKIES.get(settings.COOKIE_NAME, "")))
        setattr(request, ATTRIBUTE, known)
    return known


def _unsign(cookie: str) -> str:
    try:
        value = signing.Signer(salt=SALT).unsign(cookie)
    except signing.BadSignature:
        return ""
    return value if len(value) == LENGTH else ""


def read(request: HttpRequest) -> str:
    """Return the browser's ident, or "" if it has none, or the site uses no cookie."""
    return _of(request).value if settings.COOKIE else ""


def ensure(request: HttpRequest) -> str:
    """Return the browser's ident, made if it is missing; "" where the site uses no cookie.

    The response then carries the cookie, with a new lifetime.
    """
    if not settings.COOKIE:
        return ""
    known = _of(request)
    known.value = known.value or secrets.token_urlsafe(16)
    known.to_write = True
    return known.value


def drop(request: HttpRequest) -> None:
    """Let the response take the cookie away."""
    if settings.COOKIE_NAME in request.COOKIES:
        setattr(request, ATTRIBUTE, _Ident("", to_write=True))


def write(request: HttpRequest, response: HttpResponseBase) -> None:
    """Set the cookie, or take it away, if that was asked for.

    Forbids caches to mix up whom the response is for, where that was looked at.
    """
    known: _Ident | None = getattr(request, ATTRIBUTE, None)
    if known is None:
        return
    patch_vary_headers(response, ("Cookie",))
    if known.to_write:
        if known.value:
            response.set_cookie(
                settings.COOKIE_NAME,
                signing.Signer(salt=SALT).sign(known.value),
                max_age=settings.WINDOW,
                secure=request.is_secure(),
                httponly=True,
                samesite="Lax",
            )
        else:
            response.delete_cookie(settings.COOKIE_NAME, samesite="Lax")
        response.headers["Cache-Control"] = "private, no-store"
