"""Answers of the database that are used again for a moment, so that each click costs no query."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")

#: Seconds for which an answer is used again, counted from before it was asked for.
LIFETIME = 0.9
#: Answers that are remembered; the oldest goes first, so strangers' inventions cost a query at
#: worst.
SIZE = 1024


class Remembered(Generic[T]):
    """What `ask` answers for a key, right within a second of a change made by any process."""

    def __init__(self, ask: Callable[[str], T]) -> None:
        self._ask = ask
        self._known: dict[str, tuple[float, T]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> T:
        """Return the answer for `key`."""
        asked = time.monotonic()
        known = self._known.get(key)
        if known is not None and asked < known[0]:
            return known[1]
        answer = self._ask(key)
        with self._lock:
            if len(self._known) >= SIZE:
                del self._known[next(iter(self._known))]
            self._known[key] = (asked + LIFETIME, answer)
        return answer

    def forget(self, key: str) -> None:
        """Ask the database the next time that this key is seen."""
        with self._lock:
            self._known.pop(key, None)

    def clear(self) -> None:
        """Ask the database the next time, whatever is seen."""
        with self._lock:
            self._known.clear()
