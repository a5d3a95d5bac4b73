"""Know by which keys of a query somebody was sent here, besides a partner's.

An app registers its own when it is ready. The middleware lets it note who came, and redirects to
the same address without the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .conf import settings

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["Record", "is_one", "others", "register"]

#: Notes an arrival: the request, what the key says, and where the visitor is redirected to.
Record = Callable[["HttpRequest", str, str], None]

#: Tells whether a value may be meant: what may not be, is the site's own, and left to it.
Fits = Callable[[str], bool]

_OTHERS: dict[str, tuple[Callable[[], str], Fits, Record]] = {}


def register(name: str, key: Callable[[], str], fits: Fits, record: Record) -> None:
    """Have `record` called with what a query says under what `key` returns, if that fits.

    Once for each name.
    """
    _OTHERS[name] = key, fits, record


def others() -> Iterator[tuple[str, Fits, Record]]:
    """Yield the keys of other apps, and what notes their arrivals."""
    for key, fits, record in _OTHERS.values():
        yield key(), fits, record


def is_one(query: str) -> bool:
    """Tell whether a raw query may hold one of the keys; false for nearly every request."""
    if not query:
        return False
    return settings.QUERY_STRING_KEY in query or any(key in query for key, _, _ in others())
