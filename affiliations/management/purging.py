"""Delete what is old by a command, or erase it: how old, and whether at all."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from .progress import Progress


def days(text: str) -> timedelta:
    """Read "400d" or "400" as that many days."""
    match = re.fullmatch(r"([0-9]{1,5})d?", text.strip())
    if match is None or not 0 < int(match[1]) <= 36_500:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days, such as 400d")
    return timedelta(days=int(match[1]))


class PurgeCommand(BaseCommand):
    """Delete what `purge` takes for old, showing how far it is on a terminal."""

    #: What is deleted, in the plural.
    unit: ClassVar[str]
    #: What becomes of it.
    verb: ClassVar[str] = "deleted"

    def purge(self, before: datetime, *, dry_run: bool, progress: Callable[[int], Any]) -> int:
        """Delete what is older; return how much that was. Raises ValueError for a wrong moment."""
        raise NotImplementedError

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the age, and whether to delete at all."""
        parser.add_argument(
            "--older-than", type=days, required=True, metavar="DAYS", help="such as 400d"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="say how many there are, and change none"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete, or with --dry-run only count."""
        before = timezone.now() - options["older_than"]
        progress = Progress(self.stderr, self.unit)
        try:
            total = self.purge(before, dry_run=options["dry_run"], progress=progress.show)
        except ValueError as error:
            raise CommandError(str(error)) from error
        progress.clear()
        verb = f"would be {self.verb}" if options["dry_run"] else self.verb
        self.stdout.write(f"{total:,} {self.unit} {verb}.")
