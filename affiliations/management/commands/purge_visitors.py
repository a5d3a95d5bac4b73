"""Delete old visitors that came to nothing."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ...privacy import purge_visitors
from ..progress import Progress


def days(text: str) -> timedelta:
    """Read "400d" or "400" as that many days."""
    match = re.fullmatch(r"([0-9]{1,5})d?", text.strip())
    if match is None or not 0 < int(match[1]) <= 36_500:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days, such as 400d")
    return timedelta(days=int(match[1]))


class Command(BaseCommand):
    """Delete visitors whose last click is old, and who came to nothing."""

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the age, and whether to delete at all."""
        parser.add_argument(
            "--older-than", type=days, required=True, metavar="DAYS", help="such as 400d"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="say how many there are, and delete none"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete, showing how far it is on a terminal."""
        before = timezone.now() - options["older_than"]
        progress = Progress(self.stderr, "visitors")
        try:
            total = purge_visitors(before, dry_run=options["dry_run"], progress=progress.show)
        except ValueError as error:
            raise CommandError(str(error)) from error
        progress.clear()
        verb = "would be deleted" if options["dry_run"] else "deleted"
        self.stdout.write(f"{total:,} visitors {verb}.")
