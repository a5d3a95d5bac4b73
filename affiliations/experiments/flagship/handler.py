"""Tell an application what happens: by a log, or by whatever it has for that."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from .errors import ParamError, TypingError

__all__ = ["FlagshipEventHandler", "handled"]

logger = logging.getLogger("affiliations.experiments.flagship")

P = ParamSpec("P")
T = TypeVar("T")


class FlagshipEventHandler:
    """Is told of everything that happens; an application overrides what it wants to know.

    With `catch_all_exceptions` no exception reaches the application but those for arguments that
    cannot be; what would have raised returns None.
    """

    def __init__(self, catch_all_exceptions: bool = False) -> None:
        self.catch_all_exceptions = catch_all_exceptions

    def on_log(self, level: int, message: str) -> None:
        """Take a message, of a level of `logging`; by default it goes to the logger of the API."""
        logger.log(level, "%s", message)

    def on_exception_raised(self, exception: BaseException, traceback: str) -> None:
        """Take an exception, and its traceback as text; by default it is logged, too."""
        self.on_log(logging.CRITICAL, f"{exception}\n{traceback}")


class Handling(Protocol):
    """What has an event handler."""

    @property
    def event_handler(self) -> FlagshipEventHandler:
        """The handler."""
        ...


H = TypeVar("H", bound=Handling)


def handled(method: Callable[Concatenate[H, P], T]) -> Callable[Concatenate[H, P], T]:
    """Have the event handler told what a method raises."""

    @wraps(method)
    def call(self: H, *args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            handler = self.event_handler
            handler.on_exception_raised(error, traceback.format_exc())
            if isinstance(error, TypingError | ParamError) or not handler.catch_all_exceptions:
                raise
            return None

    return cast(Callable[Concatenate[H, P], T], call)
