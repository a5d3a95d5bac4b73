"""What a visitor asks of whoever decides: this process, or a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from ..rules import Keys

__all__ = ["Decisions", "Failed", "Flag", "Found", "Who", "without_reserved"]

#: What keys begin with that an application cannot use, since clients send none.
RESERVED = "fs_"


class Who(NamedTuple):
    """A visitor, and what they were called before they logged in, if they have."""

    visitor_id: str
    anonymous_id: str | None

    def as_told_with_hits(self) -> dict[str, str]:
        """Return what they are called in a hit."""
        if self.anonymous_id is None:
            return {"vid": self.visitor_id}
        return {"vid": self.anonymous_id, "cuid": self.visitor_id}


class Flag(NamedTuple):
    """A flag that a visitor has, and where it is from."""

    campaign_id: str
    group_id: str
    variation_id: str
    is_reference: bool
    #: None where another variation of the group has it, and this one has not.
    value: Any
    #: The variation here, and the version of its campaign.
    seen: tuple[Keys, int] | None = None


class Found(NamedTuple):
    """What was decided."""

    flags: dict[str, Flag]
    panic: bool = False


class Failed(Exception):
    """Nothing could be decided, or taken; says why."""


class Decisions(Protocol):
    """Whoever decides."""

    def decide(self, who: Who, context: Mapping[str, Any], cached: Sequence[str]) -> Found:
        """Decide what somebody sees, who was given variations before; raises Failed."""
        ...

    def activate(self, who: Who, flag: Flag) -> str:
        """Take that somebody has seen a flag; return a status, and raises Failed."""
        ...

    def tell(self, who: Who, hit: Mapping[str, Any]) -> str:
        """Take what somebody has done; return a status, and raises Failed."""
        ...

    def guarded(self) -> AbstractContextManager[None]:
        """Keep an application's own code from harming the transaction that it is called in."""
        ...


def without_reserved(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return a context without the keys that no client sends."""
    return {name: value for name, value in context.items() if not name.startswith(RESERVED)}
