"""Why a program cannot be, somebody not be registered, or what they have paid not be noted."""

from __future__ import annotations

from ..exceptions import AffiliationsError

__all__ = [
    "AlreadyRegistered",
    "CircularReferral",
    "InvalidMember",
    "InvalidProgram",
    "InvalidReport",
    "NoProgram",
    "NotRegistered",
    "ProgramEnded",
    "ProgramInUse",
    "SelfReferral",
    "UnknownMember",
    "UnknownProgram",
    "UnreadableMembers",
]


class InvalidReport(AffiliationsError, ValueError):
    """What is said of a payment besides its amount cannot be kept."""

    code = "invalid-report"


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


class InvalidProgram(AffiliationsError, ValueError):
    """A program cannot be as it is given; `errors` has the problems of each field, by its name."""

    code = "invalid-program"

    def __init__(self, errors: dict[str, list[str]]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{name}: {' '.join(said)}" for name, said in errors.items()))


class ProgramInUse(AffiliationsError, RuntimeError):
    """A program cannot be deleted: it has members."""

    code = "program-in-use"


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


class NoProgram(UnknownProgram):
    """There is no program at all, so that nobody can be a member."""

    code = "no-program"


class UnreadableMembers(AffiliationsError, ValueError):
    """A file is not what members can be read from; says why in words."""

    code = "unreadable-members"
