"""Show on a terminal how far a command is; what is redirected into a file stays clean."""

from __future__ import annotations

import time
from typing import Any

WIDTH = 24
#: Seconds between two drawings.
EVERY = 0.1


class Progress:
    """A line that is drawn anew, as a bar where the whole is known, as a count where it is not."""

    def __init__(self, stream: Any, unit: str) -> None:
        self.stream = stream
        self.unit = unit
        self.shows = bool(stream.isatty())
        self._drawn = 0.0

    def show(self, done: int, total: int | None = None) -> None:
        """Draw the line, unless it was drawn just now."""
        now = time.monotonic()
        if not self.shows or now - self._drawn < EVERY:
            return
        self._drawn = now
        if total:
            filled = min(WIDTH, WIDTH * done // total)
            bar = "█" * filled + "·" * (WIDTH - filled)
            line = f"{bar} {done:,} of {max(total, done):,} {self.unit}"
        else:
            line = f"{done:,} {self.unit}"
        self.stream.write(f"\r\033[K{line}", ending="")
        self.stream.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self.shows and self._drawn:
            self.stream.write("\r\033[K", ending="")
            self.stream.flush()
