"""Keep in the database what visitors were given, as assignments that they have not seen yet."""

from __future__ import annotations

from collections.abc import Sequence

from ...tracking import properties
from ...tracking.exceptions import UnknownProperty
from ...tracking.properties import Known
from .. import bucketing, deciding, live
from ..deciding import Visitor, names_of
from .here import is_refused

__all__ = ["lookup", "save"]


def lookup(env_id: str, visitor_id: str) -> list[str]:
    """Return the ids of the variations that somebody was given; one query."""
    own, _ = deciding.kept_by(_property(env_id), Visitor(visitor_id, names_of(visitor_id)))
    return [*own.values()]


def save(env_id: str, visitor_id: str, variations: Sequence[str]) -> None:
    """Write down what somebody was given, but for groups of which they have something already.

    One query where that is nothing new. Nothing of whoever's browser is not to be recorded.
    """
    prop, visitor = _property(env_id), Visitor(visitor_id, names_of(visitor_id))
    if not visitor.names or is_refused():
        return
    wanted = {bucketing.variation_of(each) for each in variations}
    choices = live.of_property(prop.id).now().choices.items()
    found = [choice for (_, variation), choice in choices if variation in wanted]
    own = deciding.kept_by(prop, visitor)[0] if found else {}
    if new := [each for each in found if each.group_id not in own]:
        deciding.keep(prop, visitor.names, new, has_moved=False)


def _property(env_id: str) -> Known:
    prop = properties.find(env_id) if env_id else properties.own()
    if prop is None:
        raise UnknownProperty(f"env_id: no property has the public key {env_id[:100]!r}")
    return prop
