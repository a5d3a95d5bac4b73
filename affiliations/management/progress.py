"""Show on a terminal how far a command is; what is redirected into a file stays clean."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any, Self, TypeVar

T = TypeVar("T")

WIDTH = 24
#: Seconds between two drawings, and between two lines of figures where there is no terminal.
EVERY, FIGURES_EVERY = 0.1, 10.0


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


class Steps:
    """A line that says which step is being done, and for how many seconds already.

    A thread draws it, as a step says nothing of itself until it is done.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._step, self._begun = "", 0.0
        self._is_over = Event()
        self._thread = Thread(target=self._draw, daemon=True) if stream.isatty() else None

    def __enter__(self) -> Self:
        if self._thread:
            self._thread.start()
        return self

    def show(self, step: str) -> None:
        """Say which step begins."""
        self._step, self._begun = step, time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        if self._thread:
            self._thread.join()

    def _draw(self) -> None:
        while not self._is_over.wait(EVERY):
            if self._step:
                seconds = int(time.monotonic() - self._begun)
                self.stream.write(f"\r\033[K{self._step} … {seconds} s", ending="")
                self.stream.flush()
        self.stream.write("\r\033[K", ending="")
        self.stream.flush()


def now_and_then(say: Callable[[T, T, float], Any], first: T) -> Callable[[T], None]:
    """Return what is told how far a command is, of which it tells every ten seconds.

    `say` is given how far it was before, how far it is, and the seconds between the two; it is not
    called where nothing was done.
    """
    last, before = time.monotonic(), first

    def report(now: T) -> None:
        nonlocal last, before
        took = time.monotonic() - last
        if took < FIGURES_EVERY:
            return
        if now != before:
            say(before, now, took)
        last, before = time.monotonic(), now

    return report
