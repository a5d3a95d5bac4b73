"""Hold arguments against what they have to be, and name the one that is not.

Pure. Each function returns the argument as it is to be used, and raises TypingError or ParamError.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from .errors import ParamError, TypingError

__all__ = ["is_type", "number", "text", "typed", "whole"]

#: What no database takes in text.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
#: The largest whole number of 64 bits, and what is too large for an amount.
MAX_WHOLE, TOO_LARGE = 2**63 - 1, 10**19


def is_type(value: Any, *types: type) -> bool:
    """Tell whether a value is of one of the types; true and false are no numbers."""
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, types) or (float in types and isinstance(value, int))


def typed(argument: str, value: Any, *types: type) -> Any:
    """Return an argument that has to be of one of the types."""
    if not is_type(value, *types):
        names = " or ".join(each.__name__ for each in types)
        raise TypingError(f"{argument}: must be {names}, not {type(value).__name__}")
    return value


def text(argument: str, value: Any, *, most: int = 0, needed: bool = False) -> str:
    """Return an argument that has to be text, of so many characters at most."""
    found: str = typed(argument, value, str)
    if needed and not found:
        raise ParamError(f"{argument}: must not be empty")
    if most and len(found) > most:
        raise ParamError(f"{argument}: must have at most {most} characters, not {len(found)}")
    if _UNSTORABLE.search(found):
        raise ParamError(f"{argument}: must be text without NUL and half letters")
    return found


def whole(argument: str, value: Any, *, least: int = 0, digits: int = 0) -> int:
    """Return an argument that has to be a whole number, from `least` on."""
    found: int = typed(argument, value, int)
    if not least <= found <= MAX_WHOLE:
        raise ParamError(f"{argument}: must be a whole number from {least} to {MAX_WHOLE}")
    if digits and len(str(found)) > digits:
        raise ParamError(f"{argument}: must have at most {digits} digits")
    return found


def number(argument: str, value: Any) -> float:
    """Return an argument that has to be a finite number; a Decimal becomes what JSON has."""
    found = typed(argument, value, float, Decimal)
    if isinstance(found, Decimal):
        # A signalling NaN cannot even be made a float.
        found = float(found) if found.is_finite() else float("nan")
    if not -TOO_LARGE < found < TOO_LARGE:
        raise ParamError(f"{argument}: must be a number that amounts can have")
    return float(found) if isinstance(found, float) else int(found)
