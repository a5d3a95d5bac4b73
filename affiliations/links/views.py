"""Answer whoever follows a link."""

from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from .. import access
from ..problems import problem
from . import routing, services
from .access import READ
from .conf import settings
from .exceptions import UnknownLink

__all__ = ["follow"]


@transaction.non_atomic_requests
@require_safe
def follow(request: HttpRequest, path: str, token: str = "") -> HttpResponse:
    """Lead to where the link leads; a click that counts is recorded first.

    An unknown link is 404, and so is one that has not begun or has ended; one that is switched off
    leads on all the same, or is 410, see `AFFILIATE_LINKS_INACTIVE`. A program that asks for JSON,
    and has an API key for it, is told of the link instead.
    """
    if wants_json(request):
        return as_json(request, path)
    route = routing.find(path)
    if route is None or routing.is_over(route):
        return page(request, "not_found.html", 404)
    if not route.active and settings.LINKS_INACTIVE == "gone":
        return page(request, "gone.html", 410)
    return routing.lead(request, route, token)


def page(request: HttpRequest, name: str, status: int) -> HttpResponse:
    """Show a page that a visitor understands, and that nobody keeps."""
    response = render(request, f"affiliations/links/{name}", status=status)
    response.headers["Cache-Control"] = "private, no-store"
    return response


def wants_json(request: HttpRequest) -> bool:
    """Tell whether a program asks, not a browser: that names HTML, and before anything else."""
    accepted = request.META.get("HTTP_ACCEPT", "")
    return "application/json" in accepted and "html" not in accepted and "*/*" not in accepted


def as_json(request: HttpRequest, path: str) -> HttpResponse:
    """Tell a program what the API's own address tells it."""
    try:
        caller = access.caller(request, READ)
        link = services.find_link(path, partner=caller.partner_id)
    except access.Refused as error:
        return problem(error.status, error.code, str(error))
    except UnknownLink as error:
        return problem(404, error.code, str(error))
    response = JsonResponse(services.described(link))
    # At the same address browsers are redirected, and others may not be told.
    response.headers["Cache-Control"] = "private, no-store"
    patch_vary_headers(response, ("Accept", "Authorization", "Cookie"))
    return response
