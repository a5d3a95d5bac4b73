"""See the pages that people see, where no script of a page tells of them."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.exceptions import SuspiciousOperation
from django.db import DatabaseError
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .. import bots
from ..middleware import is_refused
from . import recording
from .conf import settings
from .exceptions import InvalidHit, UnknownProperty
from .identities import Name

__all__ = ["TrackingMiddleware"]

logger = logging.getLogger(__name__)


class TrackingMiddleware:
    """Record each page of this site that a person sees, as a pageview of its property.

    Belongs below AffiliateMiddleware, which hands out the cookie. Pages are what a GET of a
    document is answered with, as HTML and by 200, but for those below AFFILIATE_TRACKING_EXCLUDE.
    Of all people AFFILIATE_TRACKING_SAMPLE are recorded, and of these everything. Whatever goes
    wrong is logged, and the page is shown.
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
        response: HttpResponseBase = self.get_response(request)
        if is_page(request, response):
            see(request)
        return response

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await self.get_response(request)
        if is_page(request, response):
            await sync_to_async(see)(request)
        return response


def is_page(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Tell whether somebody has seen a page: not a robot, nor a part of another page."""
    return (
        request.method == "GET"
        and response.status_code == 200
        and response.headers.get("Content-Type", "").startswith("text/html")
        and not request.path.startswith(tuple(settings.TRACKING_EXCLUDE))
        and not is_refused(request)
        # As scripts ask that put the answer into a page.
        and request.META.get("HTTP_SEC_FETCH_DEST") != "empty"
        and request.META.get("HTTP_X_REQUESTED_WITH") != "XMLHttpRequest"
        and not bots.is_bot(request.META.get("HTTP_USER_AGENT", ""))
    )


def see(request: HttpRequest) -> None:
    """Record the page, unless whoever sees it is none of the sample."""
    try:
        recording.hit(request, wanted=is_sampled)
    except (UnknownProperty, InvalidHit, DatabaseError, SuspiciousOperation):
        logger.exception("A page that was seen could not be recorded")


def is_sampled(name: Name) -> bool:
    """Tell whether somebody is one of the sample: by their name, so that they always are."""
    return zlib.crc32(name.value.encode()) < settings.TRACKING_SAMPLE * 2**32
