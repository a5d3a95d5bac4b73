"""Read what Attribution.io's clients and the snippet post, and say which field cannot be so.

Pure but for what a moment is compared with. Members that are not known are passed over, so that
newer clients may say more.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.utils import timezone

from ..exceptions import InvalidMoney
from ..money import Money
from .exceptions import InvalidHit, InvalidName, UnknownEventType
from .hits import NewHit, happened, new_hit, possible
from .identities import AT_ONCE, Kind, Name, name
from .models import Hit
from .properties import Known

__all__ = ["created_at", "event", "names", "of_body"]

#: With a client id they are as many names as are said to be one person's at once.
MAX_ALIASES = AT_ONCE - 1


class Told(NamedTuple):
    """Who somebody says they are: the cookies they have, and what a site calls them."""

    aliases: list[Name]
    client: list[Name]


def of_body(body: dict[str, Any], member: str) -> dict[str, Any]:
    """Return what a body holds, {"identity": {…}} say; raises InvalidHit."""
    inner = body.get(member)
    if not isinstance(inner, dict):
        raise InvalidHit(f"{member}: is needed, and must be an object")
    return inner


def names(told: dict[str, Any], *, is_event: bool = False) -> Told:
    """Return the names in an identity or an event; raises InvalidHit.

    A client id that programs write where they know nobody is passed over in an event that has
    an alias: that somebody did it is true all the same.
    """
    aliases = told.get("aliases")
    if aliases is None:
        aliases = []
    if not isinstance(aliases, list):
        raise InvalidHit("aliases: must be a list")
    if len(aliases) > MAX_ALIASES:
        raise InvalidHit(f"aliases: must be at most {MAX_ALIASES}")
    cookies = [_name(Kind.COOKIE, each, "aliases") for each in aliases]
    client_id = told.get("client_id")
    if client_id is None or client_id == "":
        return Told(cookies, [])
    try:
        return Told(cookies, [_name(Kind.CLIENT, client_id, "client_id")])
    except InvalidHit:
        if is_event and cookies and type(client_id) in (str, int):
            return Told(cookies, [])
        raise


def _name(kind: str, value: Any, field: str) -> Name:
    try:
        return name(kind, value)
    except InvalidName as error:
        raise InvalidHit(f"{field}: {str(error).partition(': ')[2]}") from None


def event(told: dict[str, Any], prop: Known) -> NewHit:
    """Return the hit that an event is; raises InvalidHit and UnknownEventType.

    Beyond what Attribution.io's clients send it may say its `type`, and then what else a hit has:
    `referrer`, `title`, and an `amount` of major units with its `currency`.
    """
    kind = _text(told, "type") or Hit.Type.EVENT
    key = _text(told, "event_public_key")
    event_type_id = prop.event_types.get(key)
    if key and event_type_id is None:
        raise UnknownEventType(f"event_public_key: there is no event {key[:100]!r}")
    if kind == Hit.Type.EVENT and event_type_id is None:
        raise InvalidHit("event_public_key: is needed for an event")
    is_informational = told.get("is_informational", False)
    if not isinstance(is_informational, bool):
        raise InvalidHit("is_informational: must be true or false")
    meta = told.get("meta")
    if meta is not None and not isinstance(meta, dict):
        raise InvalidHit("meta: must be an object")
    return new_hit(
        prop,
        type=kind,
        happened_on=created_at(told),
        event_type_id=event_type_id,
        url=_text(told, "url"),
        referrer=_text(told, "referrer"),
        title=_text(told, "title"),
        value=_value(told),
        transaction_id=_text(told, "transaction_id"),
        is_informational=is_informational,
        meta=meta,
    )


def created_at(told: dict[str, Any]) -> datetime:
    """Return the moment that something is said to have happened, or now; raises InvalidHit."""
    now, seconds = timezone.now(), told.get("created_at")
    if seconds is None:
        return now
    if isinstance(seconds, bool) or not isinstance(seconds, int | Decimal):
        raise InvalidHit("created_at: must be a Unix time, in seconds")
    return possible(happened(float(seconds)), now)


def _text(told: dict[str, Any], field: str) -> str:
    found = told.get(field)
    if found is None:
        return ""
    if isinstance(found, int) and not isinstance(found, bool) and field == "transaction_id":
        return str(found)
    if not isinstance(found, str):
        raise InvalidHit(f"{field}: must be text")
    return found


def _value(told: dict[str, Any]) -> Money | None:
    amount = told.get("amount")
    if amount is None:
        return None
    try:
        return Money.of(amount, told.get("currency"))  # type: ignore[arg-type] # it says so itself
    except InvalidMoney as error:
        raise InvalidHit(str(error)) from None
