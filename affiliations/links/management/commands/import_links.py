"""Make links from a file of CSV, all of them or none."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ....management.progress import Progress
from ... import importing
from ...exceptions import InvalidLink, UnreadableFile


class Command(BaseCommand):
    """Make links from a file of CSV, all of them or none, and print the path of each.

    Its first line names the columns, of which item_id and landing_page have to be there. What is
    wrong with any line is said of all of them, and then no link is made.
    """

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the file."""
        columns = ", ".join(importing.COLUMNS)
        parser.add_argument("file", metavar="FILE", help=f"- for standard input; with {columns}")
        parser.add_argument(
            "--dry-run", action="store_true", help="say what is wrong with it, and make no link"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Read it, check every line, and make the links."""
        try:
            name = options["file"]
            data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
            lines = importing.read(data)
        except OSError as error:
            raise CommandError(f"{name}: {error.strerror}") from error
        except UnreadableFile as error:
            raise CommandError(f"{name}: {error}") from error
        if not self.with_progress("lines are checked", importing.check, lines):
            raise CommandError(self.complain(lines))
        if options["dry_run"]:
            self.stdout.write(f"{len(lines):,} links would be made.")
            return
        try:
            made = self.with_progress("links", importing.make, lines)
        except InvalidLink as error:
            raise CommandError(f"Nothing was made. {error} Run it once more.") from error
        for link in made:
            self.stdout.write(f"{link.path}\t{link.item_id}")
        self.stderr.write(f"{len(made):,} links were made.")

    def with_progress(self, unit: str, work: Any, lines: list[importing.Line]) -> Any:
        """Return what `work` does with the lines, showing how far it is."""
        progress = Progress(self.stderr, unit)
        try:
            return work(lines, lambda done: progress.show(done, len(lines)))
        finally:
            progress.clear()

    def complain(self, lines: list[importing.Line]) -> str:
        """Write what is wrong with each line; return it in one sentence."""
        wrong = [line for line in lines if line.problems]
        for line in wrong:
            for name, said in line.problems.items():
                for text in said:
                    parts = (f"line {line.number}", name, text)
                    self.stderr.write(": ".join(filter(None, parts)))
        return f"{len(wrong):,} of {len(lines):,} lines cannot be imported, so none was."
