"""Views that do as little as a view can, so that what is around them shows."""

from decimal import Decimal

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from affiliations.conf import settings
from affiliations.models import Visitor

from .models import BaseOrder


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"ok")


async def apage(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"ok")


def bare(request: HttpRequest, path: str) -> HttpResponse:
    """Redirect, and keep nothing."""
    return HttpResponseRedirect("https://shop.example/course/7?utm_medium=affiliate")


def floor(request: HttpRequest, partner_id: int) -> HttpResponse:
    """Write what a click has to leave behind, the visitor and its session, and nothing else."""
    visitor = Visitor.objects.create(partner_id=partner_id, entry_point="http://testserver/page/")
    request.session[settings.SESSION_KEY] = visitor.pk
    return HttpResponseRedirect("/page/")


def order(request: HttpRequest, model: type[BaseOrder], user: bool = False) -> HttpResponse:
    """Save an order; with `user`, of whoever is logged in."""
    model.objects.create(total=Decimal("9.99"), user=request.user if user else None)
    return HttpResponse(b"ok")
