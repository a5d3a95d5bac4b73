"""Record what somebody does in a request of this site's.

tracking.hit(request, "purchase", value=Money(1990, "EUR"), transaction_id=order.number)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import ident, middleware
from ..money import Money
from ..visits import user_of
from . import hits, properties, users
from .exceptions import InvalidName, UnknownEventType, UnknownProperty
from .identities import Kind, Name, identify, name
from .models import Hit
from .models.hits import MAX_URL
from .properties import Known

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["hit"]


def their_cookie(prop: Known) -> str:
    """Return what the cookie of Attribution.io's own snippet is called in a property's pages."""
    return f"AttrioP_{prop.row.public_key}"


def names_of(request: HttpRequest, prop: Known, *, needed: bool = True) -> list[Name]:
    """Return what the browser of a request goes by, made if it is missing and `needed`.

    Attribution.io's own cookie where there is one, else the suite's.
    """
    theirs = request.COOKIES.get(their_cookie(prop), "")
    if theirs:
        try:
            return [name(Kind.COOKIE, theirs)]
        except InvalidName:
            pass
    own = ident.ensure(request, needed=True) if needed else ident.read(request)
    return [name(Kind.COOKIE, own)] if own else []


def hit(
    request: HttpRequest,
    event: str = "",
    *,
    type: str = "",  # noqa: A002 # the column's name
    value: Money | None = None,
    transaction_id: str | int = "",
    url: str | None = None,
    title: str = "",
    is_informational: bool = False,
    meta: dict[str, Any] | None = None,
    property: str = "",  # noqa: A002 # what it is called everywhere
    wanted: Callable[[Name], bool] | None = None,
) -> bool:
    """Record what whoever makes a request does; return whether it was, and was not before.

    `event` is the key of one of the property's event types; without it a page was seen, or whatever
    `type` says, of `Hit.Type`. An event of the same `transaction_id` is recorded once. The property
    is that of AFFILIATE_TRACKING_PROPERTY, unless `property` names another public key. `wanted` is
    asked whether to record whoever goes by a name.

    Whoever is logged in is known by that, and otherwise by their browser's cookie. Nothing is
    recorded, and no cookie set, of somebody whose browser asks for it by GPC, or without the
    consent that AFFILIATE_CONSENT tells of.

    Raises UnknownProperty, UnknownEventType, and InvalidHit, which names the field.
    """
    prop = properties.find(property) if property else properties.own()
    if prop is None:
        raise UnknownProperty("property: no property has this public key")
    event_type_id = None
    if event:
        event_type_id = prop.own_event_types.get(event)
        if event_type_id is None:
            raise UnknownEventType(f"event: the property has no event {event[:100]!r}")
    # A page is seen too often for that to be looked up each time.
    visitor = getattr(request, "affiliate_visitor", None) if event else None
    made = hits.new_hit(
        prop,
        type=type or (Hit.Type.EVENT if event else Hit.Type.PAGEVIEW),
        event_type_id=event_type_id,
        url=request.build_absolute_uri() if url is None else url,
        referrer=request.META.get("HTTP_REFERER", "")[:MAX_URL],
        title=title,
        value=value,
        transaction_id=str(transaction_id),
        is_informational=is_informational,
        meta=meta,
        visitor_id=visitor.pk if visitor else None,
        partner_id=visitor.partner_id if visitor else None,
    )
    refused = middleware.asks_not_to_be_tracked(request)
    if not prop.row.active or refused or not middleware.has_consent(request):
        return False
    who = _whose(request, prop)
    if wanted is not None and not wanted(who[0]):
        return False
    return hits.record(prop, who, made)


def _whose(request: HttpRequest, prop: Known) -> list[Name]:
    user = user_of(request)
    if user is None:
        return names_of(request, prop)
    who = users.names_of(user)
    # Of the suite's own cookie the login has told already.
    if their_cookie(prop) in request.COOKIES:
        identify(prop.row, [*who, *names_of(request, prop, needed=False)])
    return who
