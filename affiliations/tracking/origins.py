"""Say from which sites' pages a property may be written to, and tell browsers so."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from . import properties
from .properties import Known

__all__ = ["is_own", "may_write", "preflight", "share"]

#: Seconds for which a browser need not ask again whether it may.
MAX_AGE = 7200


def is_own(request: HttpRequest, origin: str) -> bool:
    """Tell whether an origin is this site."""
    if origin == "null":
        # So a page says it, in a beacon, that tells nobody where one comes from.
        return request.META.get("HTTP_SEC_FETCH_SITE") == "same-origin"
    # Without the scheme, which a proxy may have changed.
    return origin.partition("://")[2] == request.get_host()


def may_write(request: HttpRequest, prop: Known) -> bool:
    """Tell whether a request may write: from no page at all, from this site's, or a named one's."""
    origin = request.META.get("HTTP_ORIGIN")
    return not origin or is_own(request, origin) or origin in prop.origins


def preflight(request: HttpRequest, *, headers: str = "Content-Type") -> HttpResponse:
    """Answer a browser that asks whether it may post with such headers."""
    response = HttpResponse(status=204)
    response.headers["Allow"] = "POST, OPTIONS"
    origin = request.META.get("HTTP_ORIGIN", "")
    if origin and (is_own(request, origin) or properties.may_write(origin)):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Methods"] = "POST"
        response.headers["Access-Control-Allow-Headers"] = headers
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE)
    response.headers["Vary"] = "Origin"
    return response


def share(request: HttpRequest, response: HttpResponse, prop: Known | None) -> HttpResponse:
    """Let the page of an origin that may write read the answer."""
    origin = request.META.get("HTTP_ORIGIN", "")
    if origin and prop is not None and origin in prop.origins:
        response.headers["Access-Control-Allow-Origin"] = origin
    # Nobody else has said anything of it yet.
    response.headers["Vary"] = "Origin"
    return response
