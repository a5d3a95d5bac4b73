"""Part the table of hits by months on PostgreSQL, and drop the months that nobody keeps."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand
from django.db import router
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from ....management.progress import Progress
from ... import partitions, retention
from ...models import Hit


class Command(BaseCommand):
    """Make the parts of this month and the next ones, and drop what no property keeps.

    To be run once a month at least; what comes without a part of its own is kept all the same, and
    moved to one the next time.
    """

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take how far ahead, and whether to change anything."""
        parser.add_argument(
            "--ahead",
            type=int,
            choices=range(121),
            default=3,
            metavar="MONTHS",
            help="months after this one that get a part (default: 3)",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would be done, and change nothing"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make parts, drop parts, and list them."""
        using = router.db_for_write(Hit)
        if not partitions.are_there(using):
            self.stdout.write("Only PostgreSQL parts the table; elsewhere purge_hits does all.")
            return
        dry_run = options["dry_run"]
        wanted = partitions.months(timezone.now(), options["ahead"] + 1)
        missing = partitions.missing(wanted, using)
        progress = Progress(self.stderr, "months")
        moved = 0
        for number, month in enumerate([] if dry_run else missing, start=1):
            moved += partitions.make(month, using)
            progress.show(number, len(missing))
        progress.clear()
        since = retention.kept_since(using)
        dropped = partitions.drop_before(since, using, dry_run=dry_run) if since else []
        would = "would be " if dry_run else ""
        for month in missing:
            self.stdout.write(f"{partitions.name_of(month)} {would}made.")
        for part in dropped:
            self.stdout.write(f"{part.name} {would}dropped, with about {part.hits:,} hits.")
        if moved:
            self.stdout.write(f"{moved:,} hits moved to where they belong.")
        for part in partitions.listed(using):
            title = f"{part.month:%Y-%m}" if part.month else "the rest"
            self.stdout.write(f"{title:>9}  {part.hits:>13,} hits  {filesizeformat(part.bytes):>9}")
