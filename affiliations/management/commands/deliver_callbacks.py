"""Deliver the callbacks that are due."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand

from ... import outbox

#: Seconds between two looks into an outbox that had nothing due.
POLL = 1.0


def at_least_one(text: str) -> int:
    """Read a number of threads."""
    if text.isdecimal() and 0 < int(text) <= 256:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 256")


@contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set `stop`, where signals can be had: in the main thread."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Command(BaseCommand):
    """Deliver the callbacks that are due, once, or again and again with --loop.

    As many of these as you like may run at once, on as many machines: no callback is taken by two.
    """

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take how long to go on, and with how many calls at once."""
        parser.add_argument("--loop", action="store_true", help="go on until stopped")
        parser.add_argument(
            "--threads", type=at_least_one, default=1, metavar="N", help="calls at once (1)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Deliver; a SIGTERM or SIGINT lets the calls under way end, and begins no other."""
        stop = threading.Event()
        with stopped_by_signals(stop):
            while True:
                started = time.monotonic()
                if options["threads"] == 1:
                    attempted, delivered = outbox.deliver_due(stop=stop)
                else:
                    attempted, delivered = outbox.deliver_in_threads(options["threads"], stop=stop)
                if attempted or not options["loop"]:
                    took = time.monotonic() - started
                    self.stdout.write(
                        f"{attempted:,} attempted, {delivered:,} delivered in {took:.1f} s"
                    )
                if not options["loop"] or stop.wait(0 if attempted else POLL):
                    return
