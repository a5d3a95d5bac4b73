"""Why somebody cannot be known by a name."""

from __future__ import annotations

from ..exceptions import AffiliationsError

__all__ = ["InvalidName", "TooManyNames"]


class InvalidName(AffiliationsError, ValueError):
    """A name is none that somebody could be known by: empty, too long, or not to be seen."""

    code = "invalid-name"


class TooManyNames(AffiliationsError, ValueError):
    """One person would have more names than anybody has: something is shared that must not be."""

    code = "too-many-names"
