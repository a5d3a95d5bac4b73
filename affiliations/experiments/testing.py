"""Help a site's own tests: have everybody see what a test is about.

    with override({"button-color": "blue"}):
        client.get("/")

Also a decorator of a function or a test. Nothing is decided for these flags, and nothing is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["override"]

#: The innermost last; of all threads, since a live server has its own.
_overrides: list[Mapping[str, Any]] = []


@contextmanager
def override(flags: Mapping[str, Any]) -> Iterator[None]:
    """Have each of these flags be what a test says, whoever asks, until it is left again."""
    mine = dict(flags)
    _overrides.append(mine)
    try:
        yield
    finally:
        # By itself, and not by what it holds: two tests may say the same.
        del _overrides[next(i for i, each in enumerate(_overrides) if each is mine)]


def overridden(flag: str) -> tuple[bool, Any]:
    """Return whether a test says what a flag is, and what."""
    for each in reversed(_overrides):
        if flag in each:
            return True, each[flag]
    return False, None
