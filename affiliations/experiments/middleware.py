"""Give every request its experiments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from . import qa
from .showing import Experiments

__all__ = ["ExperimentsMiddleware"]


class ExperimentsMiddleware:
    """Attach `request.experiments`, which costs nothing while nobody asks it.

    Belongs below AffiliateMiddleware, which hands out the cookie by which a browser sees the same
    again. An address that staff have made to look at a variation is heeded here.
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
        is_qa = self._prepare(request)
        response: HttpResponseBase = self.get_response(request)
        if is_qa:
            qa.write(request, response)
        return response

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        is_qa = self._prepare(request)
        response: HttpResponseBase = await self.get_response(request)
        if is_qa:
            qa.write(request, response)
        return response

    def _prepare(self, request: HttpRequest) -> bool:
        request.experiments = Experiments(request)  # type: ignore[attr-defined]
        if qa.KEY not in request.META.get("QUERY_STRING", ""):
            return False
        qa.begin(request)
        return True
