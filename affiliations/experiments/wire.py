"""Read what Flagship's clients send, and say which field cannot be so.

Names are taken in both of the ways in which clients write them, `visitorId` and `visitor_id`, null
is as good as nothing, and what is not known is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.http import HttpRequest

from .. import requestbody
from ..requestbody import UnreadableBody

__all__ = ["Asked", "Invalid", "asked", "body", "known_of", "moment", "text"]

#: Bytes of a body, but for what holds many: clients that were cut off send all they have at once.
MAX_BODY, MAX_BATCH = requestbody.MAX_BODY, 2_500_000
#: By how much a client may be late: it gives up hits after four hours, and exposures never.
MAX_LATE = timedelta(days=30)
MANDATORY = "Field is mandatory."


class Invalid(Exception):
    """Something cannot be as it was sent; `errors` has a text for each field."""

    def __init__(self, errors: Mapping[str, str], status: int = 400) -> None:
        self.errors, self.status = dict(errors), status
        super().__init__("; ".join(f"{field}: {said}" for field, said in errors.items()))


def body(request: HttpRequest, *, batches: bool = False) -> dict[str, Any]:
    """Return what a request holds; raises Invalid. `batches` lets one be longer that is a batch."""
    try:
        sent = requestbody.raw(request, MAX_BATCH if batches else MAX_BODY)
        found = json.loads(sent)
        if not isinstance(found, dict):
            raise UnreadableBody("body: must be a JSON object")
        if len(sent) > MAX_BODY and not (found.get("t") == "BATCH" or "batch" in found):
            raise requestbody.BodyTooLarge
    except UnreadableBody as error:
        field, _, said = str(error).partition(": ")
        raise Invalid({field: said}, error.status) from None
    except (ValueError, RecursionError):
        # No UTF-8, no JSON, a number of thousands of digits, or too deep.
        raise Invalid({"body": "must be a JSON object"}) from None
    return found


def _given(told: Mapping[str, Any], name: str) -> Any:
    """Return a field by its name in camelCase, or else in snake_case, None where it is missing."""
    found = told.get(name)
    if found is None:
        snake = "".join(f"_{each.lower()}" if each.isupper() else each for each in name)
        found = told.get(snake)
    return found


def _checked(told: Mapping[str, Any], name: str, kind: type, said: str, missing: Any) -> Any:
    found = _given(told, name)
    if found is None:
        return missing
    if not isinstance(found, kind):
        raise Invalid({name: f"must be {said}"})
    return found


def text(told: Mapping[str, Any], name: str) -> str:
    """Return a text, "" where it is missing; raises Invalid."""
    found: str = _checked(told, name, str, "text", "")
    return found


class Asked(NamedTuple):
    """What a client wants to be decided."""

    visitor_id: str
    anonymous_id: str
    has_consent: bool
    #: Of texts, numbers, true and false.
    context: dict[str, Any]
    decision_group: str
    #: Whether what is decided is seen at once.
    is_seen: bool
    is_formatted: bool


def asked(told: Mapping[str, Any]) -> Asked:
    """Return what a client wants to be decided; raises Invalid."""

    def flag(name: str, missing: bool) -> bool:
        return bool(_checked(told, name, bool, "true or false", missing))

    return Asked(
        visitor_id=text(told, "visitorId"),
        anonymous_id=text(told, "anonymousId"),
        has_consent=flag("visitorConsent", True),
        context=known_of(_checked(told, "context", dict, "an object", {})),
        decision_group=text(told, "decisionGroup"),
        is_seen=flag("triggerHit", True) and flag("activate", True),
        is_formatted=flag("formatResponse", False),
    )


def known_of(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a context what conditions can be tested against: texts, numbers, true and false."""
    return {name: each for name, each in context.items() if isinstance(each, str | int | float)}


def moment(told: Mapping[str, Any], now: datetime) -> datetime:
    """Return when something happened that was told of `qt` milliseconds later; raises Invalid."""
    late = told.get("qt")
    if late is None:
        return now
    if isinstance(late, str) and late.isascii() and late.isdigit() and len(late) < 20:
        # As protocol buffers write large numbers.
        late = int(late)
    if isinstance(late, bool) or not isinstance(late, int | float):
        raise Invalid({"qt": "must be a number of milliseconds"})
    if not 0 <= late <= MAX_LATE / timedelta(milliseconds=1):
        raise Invalid({"qt": f"must be from 0 to {MAX_LATE.days} days"})
    return now - timedelta(milliseconds=late)
