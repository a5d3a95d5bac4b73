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

_OTHERS: dict[str, tuple[Callable[[], str], Record]] = {}


def register(name: str, key: Callable[[], str], record: Record) -> None:
    """Have `record` called with what a query says under what `key` returns; once for each name."""
    _OTHERS[name] = key, record


def others() -> Iterator[tuple[str, Record]]:
    """Yield the keys of other apps, and what notes their arrivals."""
    for key, record in _OTHERS.values():
        yield key(), record


def is_one(query: str) -> bool:
    """Tell whether a raw query may hold one of the keys; false for nearly every request."""
    if not query:
        return False
    return settings.QUERY_STRING_KEY in query or any(key in query for key, _ in others())
