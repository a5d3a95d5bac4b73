"""Write touchpoints and conversions as files of Parquet, which reports can read."""

from __future__ import annotations

import argparse
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ....management.progress import Progress
from ...conf import settings
from ...exceptions import InvalidReport, UnreadableExport
from ...exports import LATE, export


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no day, such as 2026-11-20") from None


class Command(BaseCommand):
    """Write the days that are not there yet, a file each, and who is one person with whom."""

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take where to, and which days."""
        parser.add_argument(
            "directory",
            nargs="?",
            default=str(settings.ATTRIBUTION_EXPORT),
            help="where to; AFFILIATE_ATTRIBUTION_EXPORT, if it is not said",
        )
        parser.add_argument(
            "--since", type=_day, metavar="DAY", help="write all days from this one on, by UTC"
        )
        parser.add_argument(
            "--late",
            type=int,
            default=LATE,
            metavar="DAYS",
            help=f"write again so many days before the last export ({LATE} by default)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Write, and say how much it was."""
        if not options["directory"]:
            raise CommandError("directory: say where to, or set AFFILIATE_ATTRIBUTION_EXPORT")
        if options["late"] < 0:
            raise CommandError("--late: must not be below 0")
        progress = Progress(self.stderr, "days")
        try:
            done = export(
                options["directory"],
                since=options["since"],
                late=options["late"],
                progress=progress.show,
            )
        except (OSError, InvalidReport, UnreadableExport) as error:
            progress.clear()
            raise CommandError(str(error)) from error
        progress.clear()
        if done is None:
            self.stdout.write("Nothing has happened yet, and nothing was written.")
            return
        self.stdout.write(
            f"{done.first} to {done.last}: {done.touchpoints:,} touchpoints and "
            f"{done.conversions:,} conversions written, and {done.people:,} names of people."
        )
