"""Print which partners, channels or campaigns have earned the conversions."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from .... import attribution, csvexport
from ....management.arguments import moment
from ....management.progress import Steps
from ... import tables
from ...checks import INSTALL, missing
from ...exceptions import InvalidReport, UnreadableExport
from ...tables import Laid

USUAL = timedelta(days=30)
MOST_DAYS = 3650
#: As wide as a text may be in a table.
WIDTH = 48
#: Columns that stand to the right.
NUMBERS = {"conversions", "amount", "paths", "touchpoints", "effect", "days"}
FORMATS = ("table", "csv", "parquet")


class Command(BaseCommand):
    """Print which partners, channels or campaigns have earned the conversions of a time.

    By one model or several; or else the paths by which most conversions came, or how long people
    took. Nothing is written but the file that is asked for.
    """

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the question, and in which form to answer it."""
        add = parser.add_argument
        add("--model", action="append", metavar="NAME", help="one or more, also parted by commas")
        add("--since", type=moment, metavar="DATE", help="30 days before --until")
        add(
            "--until",
            type=moment,
            metavar="DATE",
            help="now, or the end of the export; itself not included",
        )
        add("--by", default="partner", metavar="WHAT", help="partner, link, channel, campaign, …")
        add("--lookback-days", type=days, metavar="DAYS", help="before a conversion")
        add("--trigger", default="", metavar="NAME", help="only the conversions of this trigger")
        add("--lead", default="", metavar="NAME", help="the trigger of leads, for w_shaped")
        add("--order", type=int, default=1, metavar="N", help="how far back markov remembers")
        add("--seed", type=int, default=0, metavar="N", help="of shapley’s samples")
        add("--engine", default="duckdb", metavar="NAME", help="duckdb or database")
        add("--source", metavar="DIR", help="exported touchpoints, in place of the database")
        add("--format", choices=FORMATS, default="table")
        add("--output", metavar="FILE", help="in place of the terminal; parquet needs one")
        instead = parser.add_mutually_exclusive_group()
        instead.add_argument("--paths", action="store_true", help="the paths that convert most")
        instead.add_argument("--durations", action="store_true", help="the days to a conversion")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask, and print or write the answer."""
        if absent := missing():
            raise CommandError(f"{', '.join(absent)}: not installed; {INSTALL}")
        if options["format"] == "parquet" and not options["output"]:
            raise CommandError("--output: parquet needs a file to be written to")
        try:
            with Steps(self.stderr) as steps:
                found = self.found(options, progress=steps.show)
        except (InvalidReport, UnreadableExport) as error:
            raise CommandError(told(error)) from error
        try:
            self.answer(found, options)
        except OSError as error:
            raise CommandError(f"--output: {error}") from error

    def found(self, options: dict[str, Any], **more: Any) -> Any:
        """Return the report that was asked for; raises InvalidReport, UnreadableExport."""
        source = options["source"] and Path(options["source"])
        until = options["until"] or end_of(source)
        back = options["lookback_days"]
        asked = {
            "since": options["since"] or until - USUAL,
            "until": until,
            "lookback": None if back is None else timedelta(days=back),
            "source": source,
            **{name: options[name] for name in ("by", "trigger", "engine")},
            **more,
        }
        if options["paths"]:
            return attribution.top_paths(**asked)
        if options["durations"]:
            return attribution.durations(**asked)
        models = [name for each in options["model"] or ["last"] for name in each.split(",")]
        asked |= {name: options[name] for name in ("lead", "order", "seed")}
        return attribution.attribute([name.strip() for name in models], **asked)

    def answer(self, found: Any, options: dict[str, Any]) -> None:
        """Write a report in the form that was asked for."""
        output = options["output"]
        if options["format"] == "parquet":
            import_module("pyarrow.parquet").write_table(found, output)
            return
        laid = laid_out(found, options, spoken=options["format"] == "table")
        if options["format"] == "table":
            chunks: Iterable[bytes] = (f"{line}\n".encode() for line in aligned(laid))
        else:
            chunks = csvexport.lines(laid.heading, laid.rows)
        if output:
            with open(output, "wb") as file:
                file.writelines(chunks)
            return
        for chunk in chunks:
            # What reads a pipe takes the mark that Excel wants for a part of the first name.
            self.stdout.write(chunk.decode().removeprefix(csvexport.BYTE_ORDER_MARK), ending="")


def end_of(source: Path | None) -> datetime:
    """Return when an export ends, or else now; raises UnreadableExport."""
    there = import_module("affiliations.attribution.exports").about(source) if source else None
    return timezone.now() if there is None else there.until


def days(text: str) -> int:
    """Read a number of days; raises ArgumentTypeError, which names the option."""
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) <= MOST_DAYS):
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no number of days from 1 to {MOST_DAYS}")
    return int(text)


def told(error: Exception) -> str:
    """Return what is wrong, of the option that it is wrong with."""
    name, colon, text = str(error).partition(": ")
    # A directory may be called like an option, and what is wrong with it begins with its name.
    if not colon or (isinstance(error, UnreadableExport) and name != "source"):
        return str(error)
    option = "lookback-days" if name == "lookback" else name.replace("_", "-")
    return f"--{option}: {text}"


def laid_out(found: Any, options: dict[str, Any], *, spoken: bool) -> Laid:
    """Return a report as a table for people."""
    if options["durations"]:
        return tables.durations_of(found)
    lay = tables.paths_of if options["paths"] else tables.credits_of
    return lay(found, options["by"], spoken=spoken)


def aligned(laid: Laid) -> list[str]:
    """Return the lines of a table: texts to the left, numbers and amounts to the right."""
    if not laid.rows:
        return ["No conversions that anything led to."]
    cells = [
        laid.heading,
        *(
            [shown(value, name) for value, name in zip(row, laid.heading, strict=True)]
            for row in laid.rows
        ),
    ]
    widths = [max(len(row[place]) for row in cells) for place in range(len(laid.heading))]
    return [
        "  ".join(
            text.rjust(width) if name in NUMBERS else text.ljust(width)
            for text, width, name in zip(row, widths, laid.heading, strict=True)
        ).rstrip()
        for row in cells
    ]


def shown(value: Any, name: str) -> str:
    """Return a cell as it is printed."""
    if value is None:
        return "" if name in ("amount", "effect") else "none"
    if isinstance(value, float):
        return f"{value:,.4f}" if name == "effect" else f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    # Somebody may have put into an address what would move a terminal's cursor.
    text = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in value)
    return text if len(text) <= WIDTH or name == "path" else f"{text[: WIDTH - 1]}…"
