"""Remember for a while what was written already, so that it is not written at every request."""

from __future__ import annotations

import time
from collections.abc import Hashable
from threading import Lock

__all__ = ["Recently"]


class Recently:
    """Things that happened within so many seconds in this process, as many as `size`."""

    def __init__(self, seconds: float, size: int) -> None:
        self._seconds, self._size = seconds, size
        self._until: dict[Hashable, float] = {}
        self._lock = Lock()

    def __contains__(self, key: Hashable) -> bool:
        return self._until.get(key, 0.0) > time.monotonic()

    def add(self, key: Hashable) -> bool:
        """Remember something, and tell whether it was new: of several threads for one alone.

        What was remembered longest ago goes first.
        """
        with self._lock:
            is_new = key not in self
            self._until.pop(key, None)
            self._until[key] = time.monotonic() + self._seconds
            if len(self._until) > self._size:
                del self._until[next(iter(self._until))]
        return is_new

    def discard(self, key: Hashable) -> None:
        """Forget something, as it has not come about after all."""
        with self._lock:
            self._until.pop(key, None)

    def clear(self) -> None:
        """Remember nothing."""
        with self._lock:
            self._until.clear()
