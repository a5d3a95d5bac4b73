"""Find a link by its path, and lead whoever follows it to where it leads."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.encoding import iri_to_uri
from django.utils.module_loading import import_string

from .. import ident, middleware, querystring, visits
from ..remembered import Remembered
from . import clicks, deeplinks, landing, services
from .conf import is_host_of, may_lead_to, settings
from .landing import Page
from .models import PATH, Link

__all__ = ["Route", "find", "forget", "forget_all", "lead"]

logger = logging.getLogger(__name__)

#: What a network's transaction id may look like; nothing is ever read out of it.
TRANSACTION_ID = re.compile(r"[A-Za-z0-9_-]{10,255}")


class Route(NamedTuple):
    """What a click needs to know of its link."""

    link_id: int
    path: str
    item_id: str
    partner_id: int | None
    #: Whether clicks count: the link is active, and there is a deal with its partner, if any.
    tracked: bool
    active: bool
    valid_from: datetime | None
    valid_until: datetime | None
    pages: Sequence[Page]
    weights: Sequence[int]
    landing_page: str
    adds: str
    passes: Sequence[str]

    def is_over(self, now: datetime) -> bool:
        """Tell whether the link leads nowhere at a moment, as it has not begun or has ended."""
        return bool(
            (self.valid_from and now < self.valid_from)
            or (self.valid_until and now >= self.valid_until)
        )


def _look_up(path: str) -> Route | None:
    found = Link.objects.kept().filter(path=path).select_related("partner").first()
    if found is None:
        return None
    others = list(found.alternatives.all())
    return Route(
        link_id=found.pk,
        path=found.path,
        item_id=found.item_id,
        partner_id=found.partner_id,
        tracked=found.active and (found.partner is None or found.partner.active),
        active=found.active,
        valid_from=found.valid_from,
        valid_until=found.valid_until,
        pages=[Page.of(url, found.adds) for url in (found.landing_page, *(o.url for o in others))],
        weights=[found.weight, *(each.weight for each in others)],
        landing_page=found.landing_page,
        adds=found.adds,
        passes=found.names_passed,
    )


_known = Remembered(_look_up)
forget = _known.forget
forget_all = _known.clear


def find(path: str) -> Route | None:
    """Return the route of a path, or None where no link has it; no query if it is remembered."""
    # What can be none is not looked for, whatever a stranger asks for.
    return _known.get(path) if PATH.fullmatch(path) else None


def lead(request: HttpRequest, route: Route, token: str = "") -> HttpResponse:
    """Redirect to where a link leads; record the click where it counts.

    `token` names a page of the landing page's host, see deeplinks.py; one that is not ours leads to
    the landing page.
    """
    raw = request.META.get("QUERY_STRING", "")
    query = querystring.pairs(raw) if raw else []
    network_id = _network_id(query) if query else ""
    counts = (
        route.tracked
        and request.method == "GET"
        and _is_open(request, network_id)
        and not middleware.is_refused(request)
        and middleware.is_wanted(request)
    )
    if not counts:
        return _redirect(_target(route, query, token, _browser(request, route)))
    user = visits.user_of(request)
    if user is not None and (bought := _bought(user, route.item_id)):
        return _redirect(bought)
    browser = "" if user is not None else ident.ensure(request, needed=True)
    who = browser or _browser(request, route) or f"u{user.pk}"
    target = _target(route, query, token, who, None if token else _chosen(request, route))
    try:
        clicks.record(
            request, route, user=user, ident=browser, network_id=network_id, query=query, to=target
        )
    except DatabaseError:
        # They came to see the page: that the click cannot be recorded is not theirs.
        logger.exception("A click on the link %s could not be recorded", route.path)
        if route.partner_id is not None:
            # The session may name one that was undone.
            visits.forget(request)
    # The middleware writes the cookie.
    return _redirect(target)


def _redirect(location: str) -> HttpResponse:
    response = middleware.AffiliateRedirect(location)
    response.headers["Referrer-Policy"] = "strict-origin-when-cross-origin"
    return response


def _browser(request: HttpRequest, route: Route) -> str:
    # Only where it matters: whoever looks at cookies has to say so to caches.
    return ident.read(request) if len(route.pages) > 1 else ""


def _network_id(query: Sequence[tuple[str, str]]) -> str:
    """Return the network's id of the click, "" where none is plausible."""
    first: dict[str, str] = {}
    for name, value in query:
        first.setdefault(name, value)
    for key in settings.LINKS_TRANSACTION_KEYS:
        if TRANSACTION_ID.fullmatch(first.get(key, "")):
            return first[key]
    return ""


def _is_open(request: HttpRequest, network_id: str) -> bool:
    """Tell whether the gate is open: the click came through the network."""
    gate = settings.LINKS_GATE
    if gate == "open" or (gate != "referer" and network_id):
        return True
    if gate == "transaction":
        return False
    referer = request.META.get("HTTP_REFERER", "")
    if not referer or not settings.LINKS_REFERERS:
        return False
    return is_host_of(visits.referrer_host(request).lower(), settings.LINKS_REFERERS)


def _chosen(request: HttpRequest, route: Route) -> Page | None:
    """Return the page that the site's own hook leads to, None for the link's."""
    hook = settings.LINKS_LANDING_PAGE
    if hook is None:
        return None
    try:
        if isinstance(hook, str):
            hook = import_string(hook)
        url = hook(request, path=route.path, partner_id=route.partner_id)
        return _page(url, route.adds) if url else None
    except Exception:
        # They came to see a page, and the link has one.
        logger.exception("AFFILIATE_LINKS_LANDING_PAGE failed for the link %s", route.path)
        return None


@lru_cache(maxsize=256)
def _page(url: str, adds: str) -> Page:
    found = landing.normal(url)
    if not may_lead_to(landing.host(found)):
        raise ValueError(f"{found:.200} is on none of AFFILIATE_LINKS_LANDING_HOSTS")
    return Page.of(found, adds)


def _target(
    route: Route,
    query: Sequence[tuple[str, str]],
    token: str,
    who: str,
    chosen: Page | None = None,
) -> str:
    if token and (path := deeplinks.path_of(route.path, token)):
        try:
            page = Page.of(landing.on_host(route.landing_page, path), route.adds)
        except ValueError:
            page = route.pages[0]
    else:
        page = chosen or route.pages[landing.choose(route.weights, who)]
    if not query:
        return page.target()
    return page.target(landing.passed(query, route.passes, settings.LINKS_TRANSACTION_KEYS))


def _bought(user: Any, item_id: str) -> str:
    """Return where the user finds what they have bought already, fit for a header."""
    url = services.purchased_url(user, item_id)
    if not url:
        return ""
    target = iri_to_uri(url)
    try:
        scheme = urlsplit(target).scheme
    except ValueError:
        scheme = "unreadable"
    if scheme not in ("", "http", "https") or not target.isprintable():
        logger.error("AFFILIATE_LINKS_PURCHASED answered %r, where nobody can be led to", url)
        return ""
    return target


def is_over(route: Route) -> bool:
    """Tell whether the link leads nowhere just now."""
    return (route.valid_from or route.valid_until) is not None and route.is_over(timezone.now())
