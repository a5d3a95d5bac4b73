"""Make hits of the tracking of what Flagship's clients tell of.

A hit of theirs is flat: `t` says what it is, `vid` and `cuid` who it is of, and every other field
has a name of two letters or three. What is not kept in a column of ours is in `meta`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from hashlib import sha256
from typing import Any, NamedTuple

from ..exceptions import InvalidMoney
from ..money import DECIMAL_PLACES, Money
from ..tracking.exceptions import InvalidHit
from ..tracking.hits import NewHit, new_hit
from ..tracking.identities import Name
from ..tracking.models import Hit
from ..tracking.properties import Known
from .conf import settings
from .deciding import names_of
from .wire import MANDATORY, Invalid, moment

__all__ = ["Told", "is_refusal", "once_of", "segment", "told_of"]

#: What clients call it that somebody agrees, or does not, to be tracked.
CONSENT = "fs_consent"
MAX_LINE, MAX_URL, MAX_SHORT = 500, 2048, 10
#: Fields that every hit may have, by what they are called in `meta`.
COMMON = {
    "uip": "ip",
    "sr": "resolution",
    "ul": "language",
    "sn": "session",
    "cst": "session_timestamp",
}
CATEGORIES = ("Action Tracking", "User Engagement")


class Told(NamedTuple):
    """A hit as it was told, and by whom."""

    hit: NewHit
    names: list[Name]
    #: By which it is known if it is told again, if that has to be found out.
    once: Sequence[str] = ()


class Written(NamedTuple):
    """A field of theirs: what may stand in it."""

    most: int = MAX_LINE
    needed: bool = False


def told_of(prop: Known, told: Mapping[str, Any], now: datetime) -> Told | None:
    """Return the hit that one of theirs is; raises Invalid, which names the field.

    None where there is nothing to write: of somebody who does not agree, and of whoever is called
    by nothing that somebody could be known by.
    """
    kind = told.get("t")
    if kind is None:
        raise Invalid({"t": MANDATORY})
    make = KINDS.get(kind) if isinstance(kind, str) else None
    if make is None:
        raise Invalid({"t": f"must be one of {', '.join(KINDS)}"})
    names = _names(told)
    if is_refusal(told):
        return None
    made = make(told)
    happened_on = moment(told, now)
    meta = {
        **made.pop("meta", {}),
        **{
            ours: told[theirs]
            for theirs, ours in COMMON.items()
            # Whose address it is nobody needs to know.
            if theirs != "uip" and isinstance(told.get(theirs), str | int)
        },
    }
    event = made.pop("event", "")
    try:
        hit = new_hit(
            prop,
            happened_on=happened_on,
            event_type_id=prop.own_event_types.get(event) or prop.event_types.get(event),
            meta=meta,
            **made,
        )
    except InvalidHit as error:
        field, _, said = str(error).partition(": ")
        raise Invalid({NAMED.get(field, field): said}) from None
    if not names:
        return None
    # Of an order there may be several items.
    item = [f"item {hit.transaction_id} {told.get('ic')}"] if hit.type == Hit.Type.ITEM else []
    return Told(hit, names, item)


#: What our columns are in theirs.
NAMED = {"url": "dl", "title": "ea", "transaction_id": "tid", "created_at": "qt"}


def is_refusal(told: Mapping[str, Any]) -> bool:
    """Tell whether a hit says that somebody does not agree to be tracked."""
    return told.get("ea") == CONSENT and str(told.get("el")).endswith("false")


def _names(told: Mapping[str, Any]) -> list[Name]:
    """Return what somebody goes by: once they are logged in by `cuid`, and by `vid` before."""
    visitor, logged_in = _text(told, "vid", Written(10_000, needed=True)), _text(told, "cuid")
    return [*names_of(logged_in), *names_of(visitor)]


def _text(told: Mapping[str, Any], field: str, written: Written = Written()) -> str:  # noqa: B008 # immutable
    found = told.get(field)
    if found is None or found == "":
        if written.needed:
            raise Invalid({field: MANDATORY})
        return ""
    if not isinstance(found, str):
        raise Invalid({field: "must be text"})
    if len(found) > written.most:
        raise Invalid({field: f"must have at most {written.most} characters"})
    return found


def _number(told: Mapping[str, Any], field: str) -> Decimal | None:
    found = told.get(field)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise Invalid({field: "must be a number"})
    exact = Decimal(repr(found) if isinstance(found, float) else found)
    if not exact.is_finite() or exact.adjusted() > 18:
        raise Invalid({field: "is too large a number"})
    return exact


def _whole(told: Mapping[str, Any], field: str) -> int | None:
    found = told.get(field)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 2**63:
        raise Invalid({field: "must be a whole number that is not negative"})
    return found


def _money(told: Mapping[str, Any], field: str, currency: str) -> Money | None:
    """Return an amount of theirs, of whatever precision, in the units that there are."""
    amount = _number(told, field)
    if amount is None:
        return None
    try:
        minor = amount.scaleb(DECIMAL_PLACES[currency]).quantize(Decimal(1), ROUND_HALF_EVEN)
        return Money(int(minor), currency)
    except (InvalidMoney, ArithmeticError):
        raise Invalid({field: "is too large a number"}) from None


def _currency(told: Mapping[str, Any]) -> str:
    found = _text(told, "tc", Written(MAX_SHORT)).upper() or settings.EXPERIMENTS_CURRENCY
    if found not in DECIMAL_PLACES:
        raise Invalid({"tc": "must be an ISO 4217 code"})
    return found


def _more(**fields: Any) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Decimal) else value
        for name, value in fields.items()
        if value not in (None, "")
    }


def _page(told: Mapping[str, Any]) -> dict[str, Any]:
    url = _text(told, "dl", Written(MAX_URL, needed=True))
    return {"type": Hit.Type.PAGEVIEW, "url": url, "title": _text(told, "pt")}


def _screen(told: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": Hit.Type.SCREEN, "title": _text(told, "dl", Written(MAX_URL, needed=True))}


def _event(told: Mapping[str, Any]) -> dict[str, Any]:
    category = _text(told, "ec", Written(needed=True))
    if category not in CATEGORIES:
        raise Invalid({"ec": f"must be one of {', '.join(CATEGORIES)}"})
    action = _text(told, "ea", Written(needed=True))
    more = _more(category=category, label=_text(told, "el"), value=_whole(told, "ev"))
    return {"type": Hit.Type.EVENT, "event": action, "title": action, "meta": more}


def _item(told: Mapping[str, Any]) -> dict[str, Any]:
    more = _more(
        sku=_text(told, "ic", Written(needed=True)),
        price=_number(told, "ip"),
        quantity=_whole(told, "iq"),
        category=_text(told, "iv"),
    )
    return {
        "type": Hit.Type.ITEM,
        "title": _text(told, "in", Written(needed=True)),
        "transaction_id": _text(told, "tid", Written(needed=True)),
        "meta": more,
    }


def _transaction(told: Mapping[str, Any]) -> dict[str, Any]:
    currency = _currency(told)
    more = _more(
        shipping=_number(told, "ts"),
        tax=_number(told, "tt"),
        payment_method=_text(told, "pm", Written(MAX_SHORT)),
        shipping_method=_text(told, "sm", Written(MAX_SHORT)),
        items=_whole(told, "icn"),
        coupon=_text(told, "tcc", Written(MAX_SHORT)),
    )
    affiliation = _text(told, "ta", Written(needed=True))
    return {
        "type": Hit.Type.TRANSACTION,
        "event": affiliation,
        "title": affiliation,
        "transaction_id": _text(told, "tid", Written(needed=True)),
        "value": _money(told, "tr", currency),
        "meta": more,
    }


def _segment(told: Mapping[str, Any]) -> dict[str, Any]:
    found = told.get("s")
    if found is None:
        raise Invalid({"s": MANDATORY})
    if not isinstance(found, dict):
        raise Invalid({"s": "must be an object"})
    return segment(found)


def segment(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a hit that says what is known of somebody."""
    known = {
        name: value
        for name, value in context.items()
        if isinstance(value, str | int | float) and value != ""
    }
    return {"type": Hit.Type.SEGMENT, "meta": known}


KINDS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "PAGEVIEW": _page,
    "SCREENVIEW": _screen,
    "EVENT": _event,
    "ITEM": _item,
    "TRANSACTION": _transaction,
    "SEGMENT": _segment,
}


def once_of(told: Mapping[str, Any], happened_on: datetime, seen: Counter[str]) -> list[str]:
    """Return by what a hit is known if a client tells it again that does so after a slow answer.

    All its fields, but for how late it was told, and when it happened, which by that is known to a
    second or so: of two ways to part time into two seconds each, moments that are no further apart
    have one in common. The same twice in one batch are two, which `seen` counts.
    """
    same = {name: value for name, value in told.items() if name != "qt"}
    text = json.dumps(same, sort_keys=True, default=str)
    second = happened_on.timestamp()
    seen[text] += 1
    return [
        f"{part} {int(second + part) // 2} {seen[text]} {sha256(text.encode()).hexdigest()}"
        for part in (0, 1)
    ]
