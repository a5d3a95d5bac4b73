"""Know which request, and which trigger, the code that runs right now belongs to.

Context variables, not thread-locals: they follow a request through `sync_to_async` and tasks.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from django.http import HttpRequest

    from .triggers import Trigger


class Firing(NamedTuple):
    """A trigger whose signal is being handled, and the signal's arguments."""

    trigger: Trigger
    instance: Any
    created: bool


current_request: ContextVar[HttpRequest | None] = ContextVar("affiliations_request", default=None)
current_firing: ContextVar[Firing | None] = ContextVar("affiliations_firing", default=None)
