"""Read, make and write the one anonymous cookie that the suite sets.

Only where `AFFILIATE_COOKIE` is on, or an app of the suite that is installed cannot do without it,
and only when something needs it. The cookie holds 128 random
bits and a signature, nothing about the browser or the person.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.apps import apps
from django.conf import settings as django_settings
from django.core import signing
from django.utils.cache import patch_vary_headers

from .conf import settings

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

__all__ = ["drop", "ensure", "of_cookie", "read", "write"]

LENGTH = 22
ATTRIBUTE = "_affiliate_ident"
# Versioned, and of no other use: a value signed for another purpose is never taken for an ident.
SALT = "affiliations.ident.v1"


@dataclass(slots=True)
class _Ident:
    value: str
    to_write: bool = False
    #: As the browser has it, signed.
    cookie: str = ""


def _of(request: HttpRequest) -> _Ident:
    known: _Ident | None = getattr(request, ATTRIBUTE, None)
    if known is None:
        cookie = request.COOKIES.get(settings.COOKIE_NAME, "")
        value = of_cookie(cookie)
        # Where a key is on its way out, it is signed anew, by the other one.
        is_kept = value and not django_settings.SECRET_KEY_FALLBACKS
        known = _Ident(value, cookie=cookie if is_kept else "")
        setattr(request, ATTRIBUTE, known)
    return known


def of_cookie(cookie: str) -> str:
    """Return the ident that a cookie's value holds, or "" where it is not one of ours."""
    if not cookie:
        return ""
    try:
        value = signing.Signer(salt=SALT).unsign(cookie)
    except signing.BadSignature:
        return ""
    return value if len(value) == LENGTH else ""


def is_used() -> bool:
    """Tell whether browsers may have the cookie: an app says that it needs it by `needs_ident`."""
    return settings.COOKIE or any(
        getattr(each, "needs_ident", False) for each in apps.get_app_configs()
    )


def read(request: HttpRequest) -> str:
    """Return the browser's ident, or "" if it has none, or the site uses no cookie."""
    return _of(request).value if is_used() else ""


def ensure(request: HttpRequest, *, needed: bool = False) -> str:
    """Return the browser's ident, made if it is missing.

    The response then carries the cookie, with a new lifetime. Where `AFFILIATE_COOKIE` is off, ""
    and no cookie, unless it is `needed`: for an app whose configuration says `needs_ident`.
    """
    if not (needed or settings.COOKIE):
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
                known.cookie or signing.Signer(salt=SALT).sign(known.value),
                max_age=settings.WINDOW,
                secure=request.is_secure(),
                httponly=True,
                samesite="Lax",
            )
        else:
            response.delete_cookie(settings.COOKIE_NAME, samesite="Lax")
        response.headers["Cache-Control"] = "private, no-store"
