"""Make members from a file, with who brought them."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ....management.progress import Progress
from ... import importing
from ...exceptions import UnknownProgram, UnreadableMembers


class Command(BaseCommand):
    """Make members from a file, with who brought them, and credit nobody for it.

    Lines are hash|indicator, as the predecessor's script read them, or CSV whose first line names
    the columns. What is wrong with any line is said of all of them, and then nobody is made, unless
    --skip-bad-lines says so. Whoever is a member already is left alone, so a run that was
    interrupted can be done again.
    """

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the file, the program, and what is to be done."""
        columns = ", ".join(importing.COLUMNS)
        parser.add_argument("file", metavar="FILE", help=f"- for standard input; with {columns}")
        parser.add_argument(
            "--program", metavar="PROGRAM", help="number or name, for lines that name none"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="say what is wrong with it, and make nobody"
        )
        parser.add_argument(
            "--skip-bad-lines", action="store_true", help="make the others all the same"
        )
        parser.add_argument(
            "--credit", action="store_true", help="credit both sides, as if they registered now"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Look through the file, and make the members."""
        name = options["file"]
        try:
            chosen = options["program"]
            program = importing.find_program(chosen) if chosen is not None else None
            opened: Any = (
                nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb")  # noqa: SIM115 - closed below
            )
            with (
                opened as file,
                closing(importing.Import(program, credit=options["credit"])) as found,
            ):
                self.with_progress("lines are checked", found.check, importing.read(file))
                self.act(found, options)
        except OSError as error:
            raise CommandError(f"{name}: {error.strerror}") from error
        except UnknownProgram as error:
            raise CommandError(f"--{error}") from error
        except UnreadableMembers as error:
            raise CommandError(f"{name}: {error}") from error

    def act(self, found: importing.Import, options: dict[str, Any]) -> None:
        """Make the members, or say why not."""
        good, there, wrong = found.counts
        seen = good + there + wrong
        self.complain(found)
        may_make = not wrong or options["skip_bad_lines"]
        if options["dry_run"]:
            self.stdout.write(f"{good:,} members would be made, {there:,} are there already.")
        elif may_make:
            made = self.with_progress("members", found.make)
            self.stdout.write(f"{made:,} members were made, {there:,} were there already.")
            self.complain(found, late=True)
            wrong = found.counts[2]
        if wrong:
            end = "." if options["dry_run"] or may_make else ", so nobody was made."
            raise CommandError(f"{wrong:,} of {seen:,} lines cannot be imported{end}")

    def with_progress(self, unit: str, work: Any, *given: Any) -> Any:
        """Return what `work` does, showing how far it is."""
        progress = Progress(self.stderr, unit)
        try:
            return work(*given, progress.show)
        finally:
            progress.clear()

    def complain(self, found: importing.Import, *, late: bool = False) -> None:
        """Write what is wrong with each line, one a line."""
        for number, text in found.problems(late=late):
            self.stderr.write(f"line {number}: {text}")
