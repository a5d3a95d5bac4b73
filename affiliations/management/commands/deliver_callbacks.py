"""Deliver the callbacks that are due."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand

from ...delivery import Courier, Tally
from ...models import Callback
from ..progress import Progress, now_and_then
from ..stopping import stopped_by_signals

#: As far as what is due is counted, for the progress bar.
COUNTED = 100_000


def number(text: str) -> int:
    """Read a number of threads, or of rows."""
    if text.isdecimal() and 0 < int(text) <= 256:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 256")


class Command(BaseCommand):
    """Deliver the callbacks that are due, once, or again and again with --loop.

    As many of these as you like may run at once, on as many machines: no callback is taken by two.
    """

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take how long to go on, and with how many calls at once."""
        how_long = parser.add_mutually_exclusive_group()
        how_long.add_argument("--loop", action="store_true", help="go on until stopped")
        how_long.add_argument(
            "--once", action="store_true", help="end when nothing is due; what it does by default"
        )
        parser.add_argument(
            "--threads", type=number, default=1, metavar="N", help="calls at once (1)"
        )
        parser.add_argument(
            "--batch",
            type=number,
            metavar="N",
            help="callbacks to claim at a time, at most (as many as there is room for)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Deliver; a SIGTERM or SIGINT lets the calls under way end, and begins no other."""
        courier = Courier(
            options["threads"],
            batch=options["batch"],
            report=self.on_a_terminal() if self.stderr.isatty() else self.in_lines(),
        )
        started = time.monotonic()
        with stopped_by_signals(courier.stop):
            tally = courier.run(loop=options["loop"])
        self.progress.clear()
        took = time.monotonic() - started
        if not options["loop"]:
            self.stdout.write(figures(tally, took))

    def on_a_terminal(self) -> Callable[[Tally], None]:
        """Return what draws a bar of what is done, and of what was due at the beginning."""
        due = Callback.objects.due().order_by()[:COUNTED].count()
        return lambda tally: self.progress.show(tally.attempted, due)

    def in_lines(self) -> Callable[[Tally], None]:
        """Return what writes a line of figures now and then, when there was something to do."""

        def say(before: Tally, now: Tally, took: float) -> None:
            done = Tally(now.attempted - before.attempted, now.delivered - before.delivered)
            self.stdout.write(figures(done, took))
            self.stdout.flush()

        return now_and_then(say, Tally(0, 0))

    @property
    def progress(self) -> Progress:
        """The line on the terminal."""
        if not hasattr(self, "_progress"):
            self._progress = Progress(self.stderr, "callbacks")
        return self._progress


def figures(tally: Tally, seconds: float) -> str:
    """Return a line for people and for logs."""
    rate = tally.attempted / seconds if seconds else 0
    return (
        f"{tally.attempted:,} attempted, {tally.delivered:,} delivered "
        f"in {seconds:.1f} s ({rate:,.0f} a second)"
    )
