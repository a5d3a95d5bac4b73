"""Notice who was sent by a partner, and give every request its visitor."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

from . import arrivals, bots, ident, partners, querystring, visits
from .conf import settings
from .context import current_request

__all__ = ["AffiliateMiddleware", "AffiliateVisitorsRegistrationMiddleware"]

logger = logging.getLogger(__name__)


class AffiliateRedirect(HttpResponse):
    """A redirect whose address reaches the browser byte for byte.

    Django's own would quote the query anew. Whoever makes one knows where it leads: to a part of
    this site, or to a link's own target.
    """

    status_code = 302

    def __init__(self, location: str) -> None:
        super().__init__()
        self.headers["Location"] = location
        # Kept by nobody: it would give one visitor's attribution to everybody.
        self.headers["Cache-Control"] = "private, no-store"

    @property
    def url(self) -> str:
        """Where it leads, under the name that Django's redirects have for it."""
        return self.headers["Location"]


class AffiliateMiddleware:
    """Record visitors who follow an affiliate link, and attach `request.affiliate_visitor`.

    Belongs below SessionMiddleware and AuthenticationMiddleware. A request without the affiliate
    key in its query, and that is nearly every one, costs no query, and its session is not read.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.__acall__(request)
        if arrivals.is_one(request.META.get("QUERY_STRING", "")):
            redirect = refer(request)
            if redirect is not None:
                return redirect
        visits.attach(request)
        token = current_request.set(request)
        try:
            response: HttpResponseBase = self.get_response(request)
        finally:
            current_request.reset(token)
        ident.write(request, response)
        return response

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        if arrivals.is_one(request.META.get("QUERY_STRING", "")):
            redirect = await sync_to_async(refer)(request)
            if redirect is not None:
                return redirect
        visits.attach(request)
        token = current_request.set(request)
        try:
            response: HttpResponseBase = await self.get_response(request)
        finally:
            current_request.reset(token)
        ident.write(request, response)
        return response


#: The name under which the predecessor's users have it in their settings.
AffiliateVisitorsRegistrationMiddleware = AffiliateMiddleware


def refer(request: HttpRequest) -> HttpResponse | None:
    """Answer a request that carries the key of a partner, or of another app's arrivals.

    None where it is to go on as it is.
    """
    if request.method not in ("GET", "HEAD"):
        return None
    rest = query = request.META.get("QUERY_STRING", "")
    came: list[tuple[arrivals.Record, str]] = []
    ours = settings.QUERY_STRING_KEY, _is_any, _of_partner
    for key, fits, record in (ours, *arrivals.others()):
        value = querystring.find(query, key)
        if value is not None and fits(value):
            came.append((record, value))
            rest = querystring.strip(rest, key)
    if not came:
        return None
    location = querystring.redirect_target(request.path, rest)
    response = AffiliateRedirect(location)
    if request.method == "GET" and not is_refused(request):
        for record, value in came:
            try:
                record(request, value, location)
            except DatabaseError:
                # The visitor came to see the site: that the click is not recorded is not theirs.
                logger.exception("An arrival through %r could not be recorded", value)
        ident.write(request, response)
    return response


def _is_any(uid: str) -> bool:
    """Take whatever stands there for a partner's: the key is nobody else's."""
    return True


def _of_partner(request: HttpRequest, uid: str, location: str) -> None:
    partner_id = partners.active_id(uid)
    if partner_id is not None and is_wanted(request):
        visits.record(request, partner_id, location)


def asks_not_to_be_tracked(request: HttpRequest) -> bool:
    """Tell whether a browser sends `Sec-GPC: 1`, and the site honours it."""
    return settings.HONOUR_GPC and request.META.get("HTTP_SEC_GPC") == "1"


def is_refused(request: HttpRequest) -> bool:
    """Tell whether the browser asks not to be tracked, or nobody has clicked in one."""
    meta = request.META
    return (
        asks_not_to_be_tracked(request)
        or bots.is_prefetch(meta)
        or bots.is_embedded(meta)
        or bots.is_callback(meta)
    )


def is_wanted(request: HttpRequest) -> bool:
    """Tell whether a visitor is to be recorded: not for a robot, nor without the site's consent."""
    return not bots.is_bot(request.META.get("HTTP_USER_AGENT", "")) and has_consent(request)


def has_consent(request: HttpRequest) -> bool:
    """Ask the site's own hook whether this visitor agreed; no answer and a failure mean no."""
    hook = settings.CONSENT
    if hook is None:
        return True
    try:
        if isinstance(hook, str):
            hook = import_string(hook)
        return bool(hook(request))
    except Exception:
        logger.exception("AFFILIATE_CONSENT failed; the visitor is not recorded")
        return False
