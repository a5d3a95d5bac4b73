"""Why somebody cannot be registered, or what they have paid cannot be noted."""

from __future__ import annotations

from ..exceptions import AffiliationsError

__all__ = [
    "AlreadyRegistered",
    "CircularReferral",
    "InvalidMember",
    "NotRegistered",
    "ProgramEnded",
    "SelfReferral",
    "UnknownMember",
    "UnknownProgram",
    "UnreadableMembers",
]


class NotRegistered(AffiliationsError):
    """The base of why somebody did not become a member; never raised itself."""

    code = "not-registered"


class AlreadyRegistered(NotRegistered, ValueError):
    """Somebody is a member by this hash, or is this user."""

    code = "already-registered"


class CircularReferral(AlreadyRegistered):
    """Whoever is said to be new has brought whoever is said to bring them."""

    code = "circular-referral"


class InvalidMember(NotRegistered, ValueError):
    """A hash is none: empty, too long, or with characters that cannot be seen."""

    code = "invalid-member"


class ProgramEnded(NotRegistered, RuntimeError):
    """The program is not active, has not begun, or is over."""

    code = "program-ended"


class SelfReferral(NotRegistered, ValueError):
    """Somebody is said to have brought themselves."""

    code = "self-referral"


class UnknownMember(AffiliationsError, LookupError):
    """There is no member by this hash."""

    code = "unknown-member"


class UnknownProgram(AffiliationsError, LookupError):
    """There is no such program, or none at all."""

    code = "unknown-program"


class UnreadableMembers(AffiliationsError, ValueError):
    """A file is not what members can be read from; says why in words."""

    code = "unreadable-members"
