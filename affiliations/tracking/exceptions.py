"""Why somebody cannot be known by a name, and a hit not be taken."""

from __future__ import annotations

from ..exceptions import AffiliationsError

__all__ = ["InvalidHit", "InvalidName", "TooManyNames", "UnknownEventType", "UnknownProperty"]


class InvalidHit(AffiliationsError, ValueError):
    """A hit cannot be as it is told; the message begins with the field's name."""

    code = "invalid-hit"


class InvalidName(AffiliationsError, ValueError):
    """A name is none that somebody could be known by: empty, too long, or not to be seen."""

    code = "invalid-name"


class TooManyNames(AffiliationsError, ValueError):
    """One person would have more names than anybody has: something is shared that must not be."""

    code = "too-many-names"


class UnknownEventType(AffiliationsError, LookupError):
    """A property has no such event type."""

    code = "unknown-event-type"


class UnknownProperty(AffiliationsError, LookupError):
    """There is no property with such a key."""

    code = "unknown-property"
