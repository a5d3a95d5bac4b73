"""Let staff see a variation whatever their bucket is, by an address that only they can make.

    url = f"https://shop.example/?{KEY}={token(variation)}"

What is seen so counts for nothing. `?affiliate_qa=off` ends it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core import signing

from .. import querystring

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

    from .models import Variation

__all__ = ["COOKIE", "KEY", "OFF", "begin", "chosen", "token", "write"]

KEY, OFF = "affiliate_qa", "off"
COOKIE = "affiliate_qa"
SALT = "affiliations.experiments.qa.v1"
#: For which an address is good.
AGE = timedelta(days=7)
ATTRIBUTE = "_affiliate_qa"
#: Groups at once, each with one variation.
MOST = 20


def token(variation: Variation) -> str:
    """Return what stands in an address by which a variation is seen for a week."""
    return signing.dumps({variation.group.uid: variation.uid}, salt=SALT, compress=True)


def _read(text: str) -> dict[str, str]:
    try:
        found = signing.loads(text, salt=SALT, max_age=AGE)
    except signing.BadSignature:
        return {}
    return found if isinstance(found, dict) else {}


def begin(request: HttpRequest) -> None:
    """Take what the address of a request says, if it is one of these."""
    told = querystring.find(request.META.get("QUERY_STRING", ""), KEY)
    if told is None:
        return
    if told == OFF:
        setattr(request, ATTRIBUTE, {})
    elif found := _read(told):
        known = {**_read(request.COOKIES.get(COOKIE, "")), **found}
        setattr(request, ATTRIBUTE, dict(list(known.items())[-MOST:]))


def chosen(request: Any) -> dict[str, str]:
    """Return the variations that a request is to see, by their groups' ids."""
    told = getattr(request, ATTRIBUTE, None)
    if told is not None:
        return dict(told)
    cookie = request.COOKIES.get(COOKIE, "")
    return _read(cookie) if cookie else {}


def write(request: HttpRequest, response: HttpResponseBase) -> None:
    """Have the browser see the same on the next pages, until it is closed or told off."""
    told = getattr(request, ATTRIBUTE, None)
    if told is None:
        return
    if told:
        response.set_cookie(
            COOKIE,
            signing.dumps(told, salt=SALT, compress=True),
            secure=request.is_secure(),
            httponly=True,
            samesite="Lax",
        )
    else:
        response.delete_cookie(COOKIE, samesite="Lax")
    response.headers["Cache-Control"] = "private, no-store"
