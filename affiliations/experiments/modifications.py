"""Read what a variation changes: flags by name, each a JSON value that stays what was typed.

Pure. That 1 and 1.0 differ matters: Flagship's clients hold a flag's type against its default's.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .exceptions import InvalidModifications

__all__ = ["MAX_SIZE", "read"]

#: Bytes of JSON, and how deep it may be.
MAX_SIZE, MAX_DEPTH = 16 * 1024, 8
MAX_FLAG = 200
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def read(text: str) -> dict[str, Any]:
    """Return modifications by flag; raises InvalidModifications, which names what is wrong."""
    if len(text.encode(errors="surrogatepass")) > MAX_SIZE:
        raise InvalidModifications(f"modifications: must have at most {MAX_SIZE} bytes")
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidModifications(f"modifications: is not JSON at {where}") from None
    except RecursionError:
        raise InvalidModifications("modifications: is nested too deep") from None
    except InvalidModifications:
        raise
    except ValueError:
        # Python reads no number of more than 4,300 digits.
        raise InvalidModifications("modifications: has too long a number") from None
    if not isinstance(found, dict):
        raise InvalidModifications('modifications: must be an object, such as {"color": "red"}')
    for name, value in found.items():
        if not 0 < len(name) <= MAX_FLAG or not name.isprintable():
            raise InvalidModifications(
                f"modifications: a flag's name must be 1 to {MAX_FLAG} characters that can be "
                "printed"
            )
        if problem := _problem(value):
            raise InvalidModifications(f"modifications: {name} {problem}")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidModifications(f"modifications: {twice[:MAX_FLAG]} must be given once")
    return found


def _constant(name: str) -> Any:
    raise InvalidModifications(f"modifications: {name} is no number of JSON")


def _problem(value: Any, depth: int = 1) -> str:
    if isinstance(value, str):
        return "must be text without NUL and half letters" if _UNSTORABLE.search(value) else ""
    if isinstance(value, float):
        return "must be a number that a computer can hold" if value - value != 0 else ""
    if not isinstance(value, dict | list):
        return ""
    if depth >= MAX_DEPTH:
        return "is nested too deep"
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    return next(filter(None, (_problem(each, depth + 1) for each in inner)), "")
