"""A link's own address, as it is published, and what whoever follows it would see."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from ...admin.lists import local
from .. import deeplinks, landing, services
from ..conf import settings
from ..landing import Page
from ..models import Link

__all__ = ["address", "deep", "is_mounted", "outlook", "router"]


def router(request: HttpRequest) -> str:
    """Return what stands before the path in every link's address, "" where no router is mounted."""
    try:
        follow = reverse("affiliations_links:follow", args=["-"])
    except NoReverseMatch:
        return ""
    return request.build_absolute_uri(follow)[:-1]


def is_mounted(request: HttpRequest) -> bool:
    """Tell whether the site has a router."""
    return bool(router(request))


def address(request: HttpRequest, link: Link) -> str:
    """Return the address that is published; the path alone where no router is mounted."""
    return f"{router(request)}{link.path}"


def deep(request: HttpRequest, link: Link, text: str) -> str:
    """Return the address that leads to another page of the landing page's host.

    `text` is that page's path, with its query, or its whole address. Raises ValueError, in words
    for staff.
    """
    origin = _origin(link.landing_page)
    url = landing.on_host(link.landing_page, text.strip().removeprefix(origin))
    # Normal and ASCII: it is what the router leads to, and its length is the token's.
    path = url.removeprefix(origin)
    token = deeplinks.token(link.path, path)
    if deeplinks.path_of(link.path, token) != path:
        raise ValueError(_("The path is too long."))
    return f"{address(request, link)}/{token}"


def _origin(url: str) -> str:
    scheme, _slashes, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def outlook(link: Link, user: Any) -> list[str]:
    """Say what happens if `user` follows the link from the admin, a sentence each."""
    now = timezone.now()
    if link.valid_from and now < link.valid_from:
        return [_("It has not begun: whoever follows it is told that there is no such link.")]
    if link.valid_until and now >= link.valid_until:
        when = date_format(local(link.valid_until), "DATETIME_FORMAT")
        text = _("It ended on %(when)s: whoever follows it is told that there is no such link.")
        return [text % {"when": when}]
    if not link.active and settings.LINKS_INACTIVE == "gone":
        return [_("It is switched off: whoever follows it is told that it is not in use any more.")]
    said = []
    counted = False
    if not link.active:
        said.append(_("Your click does not count, and nobody’s does: the link is switched off."))
    elif link.partner is not None and not link.partner.active:
        said.append(_("Your click does not count, and nobody’s does: the partner is not active."))
    elif settings.LINKS_GATE != "open":
        said.append(_("Your click does not count: it does not come through the network."))
    else:
        counted = True
        said.append(_("Your click counts, as a visitor’s would: the gate is open."))
    if counted and (bought := services.purchased_url(user, link.item_id)):
        said[0] = _("You have bought the item, so that your click does not count.")
        return [*said, _("You get to see %(url)s.") % {"url": bought}]
    target = Page.of(link.landing_page, link.adds).target()
    if len(link.alternatives.all()):
        text = _("You get to see %(url)s, or one of its other landing pages.")
        return [*said, text % {"url": target}]
    return [*said, _("You get to see %(url)s.") % {"url": target}]
