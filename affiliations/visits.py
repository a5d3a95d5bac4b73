"""Keep the visitors of a browser in its session, and find them there again.

The session's key holds the id of the visitor that counts now; a second key beside it holds the
trail, the ids of all of this session's visitors, which the policies choose from.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.db.models import Q
from django.utils import timezone
from django.utils.functional import SimpleLazyObject, empty

from . import ident, querystring, services
from .conf import settings
from .models import Visitor

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from django.http import HttpRequest

__all__ = ["forget_browser"]

TRAIL_LENGTH = 10
#: Bytes, not characters: 200 emoji each, percent-encoded, would make a callback URL too long.
MAX_PLACEHOLDER = 200
MAX_HOST = 253
#: A visitor who comes back through the same partner within this time, and through no other one in
#: between, has clicked once.
SAME_CLICK = timedelta(hours=1)
MAX_ID = 2**63


class LazyVisitor(SimpleLazyObject):  # type: ignore[type-arg] # generic in stubs only
    """`request.affiliate_visitor`: a Visitor, or what is false, looked up when first used.

    In async code, `await request.affiliate_visitor` looks it up, and is a Visitor or None.
    """

    # Each request of a site makes one of these, and Django's own way to fill two attributes of it,
    # past what is there for the wrapped object's sake, takes longer than all the rest.
    __slots__ = ("_request",)
    _wrapped = empty

    def __init__(self, request: HttpRequest) -> None:
        object.__setattr__(self, "_request", request)

    def _setupfunc(self) -> Visitor | None:
        return current(self._request)

    def __await__(self) -> Generator[Any, Any, Visitor | None]:
        return self._found().__await__()

    async def _found(self) -> Visitor | None:
        return cast("Visitor", self) if await sync_to_async(bool)(self) else None


def attach(request: Any) -> None:
    """Give the request its `affiliate_visitor`."""
    # One attribute, for sync and async code: a second one makes the request's dictionary grow.
    request.affiliate_visitor = LazyVisitor(request)


def trail_key() -> str:
    """Return the session's key of the trail."""
    return f"{settings.SESSION_KEY}_trail"


def user_of(request: Any) -> Any:
    """Return the request's user if somebody is logged in, else None."""
    user = getattr(request, "user", None)
    return user if user is not None and user.is_authenticated else None


def trail(request: Any) -> list[int]:
    """Return the ids of this session's visitors, the one that counts now last."""
    session = getattr(request, "session", None)
    if session is None:
        return []
    now = session.get(settings.SESSION_KEY)
    if now is None:
        return []
    earlier = session.get(trail_key())
    ids = [*(earlier if isinstance(earlier, list) else ()), now]
    # Whoever else writes into the session may have left anything there.
    good = [each for each in ids if type(each) is int and 0 < each < MAX_ID]
    return list(dict.fromkeys(reversed(good)))[::-1]


def remember(request: Any, now: Visitor, ids: Iterable[int]) -> None:
    """Make `now` the session's visitor, and `ids` the trail."""
    session = getattr(request, "session", None)
    if session is not None:
        session[settings.SESSION_KEY] = now.pk
        session[trail_key()] = list(dict.fromkeys(ids))[-TRAIL_LENGTH:]


def forget(request: Any) -> None:
    """Take the visitor out of the session."""
    session = getattr(request, "session", None)
    if session is not None:
        session.pop(settings.SESSION_KEY, None)
        session.pop(trail_key(), None)


def forget_browser(request: Any) -> None:
    """Make a stranger of the request's browser, whose owner has withdrawn the consent to be known.

    Takes the visitor out of the session, and the cookie off the response. The rows stay, and a
    user's visits are found again at the next login; `services.forget_user` erases them.
    """
    forget(request)
    ident.drop(request)
    attach(request)


def current(request: HttpRequest) -> Visitor | None:
    """Return the visitor that the request belongs to, within the window; mends a broken session."""
    user = user_of(request)
    user_id = user.pk if user else None
    visitors = Visitor.objects.select_related("partner")
    if ids := trail(request):
        visitor = visitors.filter(pk=ids[-1]).first()
        if visitor is None:
            forget(request)
        elif not visitor.why_not(timezone.now()) and visitor.counts_for(
            user_id, known_from="session"
        ):
            return visitor
    elif settings.SESSION_KEY in getattr(request, "session", ()):
        forget(request)
    if browser := ident.read(request):
        owner = Q(user=None) | Q(user=user_id)
        order = "clicked_on" if settings.ATTRIBUTION == "first" else "-clicked_on"
        return visitors.filter(owner, ident=browser).creditable().order_by(order, "-pk").first()
    return None


def earlier(request: HttpRequest, user_id: Any) -> list[Visitor]:
    """Return this browser's visitors that still count, the earliest click first."""
    ids = trail(request)
    browser = ident.read(request)
    if not ids and not browser:
        return []
    known = Q(pk__in=ids)
    if browser:
        # Only what may count: those of others at the same browser would crowd out the person's own.
        known |= Q(ident=browser) & (Q(user=None) | Q(user=user_id))
    found = Visitor.objects.filter(known).creditable().order_by("-clicked_on", "-pk")[:TRAIL_LENGTH]
    known_from = {each.pk: "session" if each.pk in ids else "cookie" for each in found}
    return [
        each
        for each in list(found)[::-1]
        if each.counts_for(user_id, known_from=known_from[each.pk])
    ]


def chosen(visitors: Sequence[Visitor], newest: Visitor) -> Visitor:
    """Return which of a session's visitors counts now: the newest, unless the first one does."""
    return visitors[0] if settings.ATTRIBUTION == "first" and visitors else newest


def record(request: HttpRequest, partner_id: int, location: str, *, click_id: str = "") -> Visitor:
    """Make the session's visitor of whoever came through the partner to `location`.

    That is a path on this host, or a whole address. `click_id` stands in where the request's query
    has none.
    """
    user = user_of(request)
    before = earlier(request, user.pk if user else None)
    browser = ident.ensure(request)
    newest = next((each for each in reversed(before) if each.partner_id == partner_id), None)
    if newest is None:
        newest = services.register_visitor(
            partner_id=partner_id,
            user=user,
            ident=browser,
            entry_point=location
            if not location.startswith("/")
            else f"{request.scheme}://{request.get_host()}{location}",
            referrer_host=referrer_host(request),
            **_sub_ids(request, click_id),
        )
    else:
        _come_back(newest, latest=before[-1])
    others = [each for each in before if each.pk != newest.pk]
    remember(request, chosen(before, newest), [each.pk for each in [*others, newest]])
    return newest


def _come_back(visitor: Visitor, *, latest: Visitor) -> None:
    now = timezone.now()
    # Through another partner in between, it is a click of its own: the last one earns.
    if visitor.pk != latest.pk or now - visitor.clicked_on >= SAME_CLICK:
        Visitor.objects.filter(pk=visitor.pk).update(clicked_on=now)


def _sub_ids(request: HttpRequest, click_id: str) -> dict[str, Any]:
    raw = request.META.get("QUERY_STRING", "")
    keys = [settings.CLICK_ID_KEY, *settings.SUBID_KEYS]
    given = {
        key: value.encode()[:MAX_PLACEHOLDER].decode(errors="ignore")
        for key, value in querystring.parameters(raw, keys, MAX_PLACEHOLDER).items()
    }
    sub_ids = {
        f"sub{number}": given[key]
        for number, key in enumerate(settings.SUBID_KEYS, start=1)
        if key in given
    }
    return {"click_id": given.get(settings.CLICK_ID_KEY, click_id), "sub_ids": sub_ids}


def referrer_host(request: HttpRequest) -> str:
    """Return the host of the page that led here, as the browser tells it, "" where it does not."""
    try:
        host = urlsplit(request.META.get("HTTP_REFERER", "")).hostname or ""
    except ValueError:
        return ""
    return host[:MAX_HOST] if host.isascii() and host.isprintable() else ""


def identify_newcomer(request: HttpRequest, user: Any) -> None:
    """Tie the browser's visitors, if there are any, to the user who has registered with it."""
    ids, browser = trail(request), ident.read(request)
    if ids or browser:
        tie = partial(services.identify, user=user, visitor_ids=ids, ident=browser)
        services.guarded(tie, "The visitors of a new user were not identified")


def identify(request: HttpRequest, user: Any) -> None:
    """Tie the browser's visitors to the user who has logged in.

    A session that knows of no visit of theirs is told of the latest ones, made on another device,
    say.
    """
    ids, browser = trail(request), ident.read(request)
    if ids or browser:
        services.identify(user=user, visitor_ids=ids, ident=browser)
    if ids and Visitor.objects.filter(pk__in=ids, user=user).count() == len(ids):
        return
    forget(request)
    known = Visitor.objects.filter(user=user).creditable().order_by("-clicked_on", "-pk")
    if latest := list(known[:TRAIL_LENGTH])[::-1]:
        remember(request, chosen(latest, latest[-1]), [each.pk for each in latest])
