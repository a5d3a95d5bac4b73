"""Delete the hits that properties do not keep any longer."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand

from ....management.progress import Progress
from ...retention import purge_hits


class Command(BaseCommand):
    """Delete what is older than the days that each property keeps its hits for."""

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take whether to delete at all."""
        parser.add_argument(
            "--dry-run", action="store_true", help="say how many there are, and change none"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete, or with --dry-run only count."""
        progress = Progress(self.stderr, "hits")
        total = purge_hits(dry_run=options["dry_run"], progress=progress.show)
        progress.clear()
        verb = "would be deleted" if options["dry_run"] else "deleted"
        self.stdout.write(f"{total:,} hits {verb}.")
