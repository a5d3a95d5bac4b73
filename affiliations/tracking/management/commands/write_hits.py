"""Write the hits that wait in Redis."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ....management.progress import Progress, now_and_then
from ....management.stopping import stopped_by_signals
from ... import stream
from ...writing import BATCH, CLAIM_AFTER, Writer


def number(text: str) -> int:
    """Read a number of messages, or of seconds."""
    if text.isdecimal() and 0 < int(text) <= 100_000:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 100,000")


class Command(BaseCommand):
    """Write the hits that wait in Redis into the database, or go on doing so with --loop.

    As many of these as you like may run at once, on as many machines. A hit is let go from Redis
    when it is committed, so whoever is killed has lost none, and none is written twice.
    """

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take how long to go on, and how many hits to write at once."""
        parser.add_argument("--loop", action="store_true", help="go on until stopped")
        parser.add_argument(
            "--batch",
            type=number,
            default=BATCH,
            metavar="N",
            help=f"hits to write in one transaction, at most ({BATCH:,})",
        )
        parser.add_argument(
            "--claim-after",
            type=number,
            default=int(CLAIM_AFTER),
            metavar="SECONDS",
            help="how long others have for what they took, before it is written here "
            f"({CLAIM_AFTER:.0f})",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Write; a SIGTERM or SIGINT lets what was taken be written, and takes nothing more."""
        if not stream.is_used():
            raise CommandError(
                "AFFILIATE_TRACKING_SINK is 'database': hits are written where they are told."
            )
        if not stream.is_installed():
            raise CommandError("To speak with Redis, pip install django-affiliations[redis].")
        started = time.monotonic()
        progress = Progress(self.stderr, "hits")
        try:
            waiting = stream.waiting()
            writer = Writer(
                batch=options["batch"],
                claim_after=options["claim_after"],
                report=(lambda written: progress.show(written, waiting))
                if progress.shows
                else self.in_lines(),
            )
            with stopped_by_signals(writer.stop):
                writer.run(loop=options["loop"])
        except stream.errors() as error:
            raise CommandError(f"Redis cannot be had: {error}") from error
        finally:
            progress.clear()
        if not options["loop"]:
            self.stdout.write(figures(writer.written, time.monotonic() - started))
        if writer.failed:
            where = stream.failed()
            self.stderr.write(f"{writer.failed:,} could not be written, and are kept in {where}.")

    def in_lines(self) -> Callable[[int], None]:
        """Return what writes a line of figures now and then, when there was something to do."""

        def say(before: int, now: int, took: float) -> None:
            self.stdout.write(figures(now - before, took))
            self.stdout.flush()

        return now_and_then(say, 0)


def figures(written: int, seconds: float) -> str:
    """Return a line for people and for logs."""
    rate = written / seconds if seconds else 0
    return f"{written:,} hits written in {seconds:.1f} s ({rate:,.0f} a second)"
