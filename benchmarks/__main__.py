"""Run the benchmarks: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import django
from django.db import connection

from . import NAMES, report, runner


def main(argv: list[str]) -> int:
    """Run what is asked for; return 0 also where a figure is missed: speed is reported only."""
    options = parser().parse_args(argv)
    rounds = options.rounds or (runner.QUICK_ROUNDS if options.quick else runner.ROUNDS)
    with tempfile.TemporaryDirectory(prefix="affiliations-") as directory:
        url = options.database or f"sqlite:///{directory}/benchmarks.db"
        # In the environment, so that a child process finds the same database.
        os.environ["DATABASE_URL"] = url
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        django.setup()
        # Its own benchmarks alone have conversions earn anything.
        import_module("affiliations.rewards.receivers").disconnect()
        with own_database():
            about = report.environment()
            if not options.json:
                print(report.heading(about))
            if options.markdown:
                print("\n| what | measured (quartiles) | figure | |\n|---|---|---|---|")
            done = []
            for name in options.names or NAMES:
                measure = import_module(f"benchmarks.{name}").measure
                # What is there by now stays: the collector need not go through it at each round.
                gc.freeze()
                rows = list(runner.rows(measure(options.quick), rounds, options.quick))
                done.append({"name": name, "rows": [row.as_json() for row in rows]})
                if not options.json:
                    show = report.markdown(rows) if options.markdown else report.table(name, rows)
                    print(show, flush=True)
            if options.json:
                run = {"rounds": rounds, "quick": options.quick}
                document: dict[str, Any] = {"environment": about, **run, "benchmarks": done}
                print(json.dumps(document, indent=1, ensure_ascii=False))
    return 0


@contextmanager
def own_database() -> Iterator[None]:
    """Make a database for the benchmarks alone, and drop it again."""
    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)


def benchmark(name: str) -> str:
    """Read the name of a benchmark."""
    if name in NAMES:
        return name
    raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(NAMES)}")


def positive(text: str) -> int:
    """Read a number of rounds."""
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number above zero")


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    reader = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare what the suite costs with the figures that it promises.",
        epilog="Benchmarks: " + ", ".join(NAMES),
    )
    reader.add_argument(
        "names",
        nargs="*",
        metavar="name",
        type=benchmark,
        help="which; by default all of them",
    )
    reader.add_argument(
        "--database",
        metavar="URL",
        default=os.environ.get("DATABASE_URL"),
        help="the server to make a database on, as postgres://user@host/any; by default "
        "DATABASE_URL, or else a SQLite file",
    )
    reader.add_argument("--rounds", type=positive, metavar="N", help=f"by default {runner.ROUNDS}")
    reader.add_argument("--quick", action="store_true", help="see that it runs; times mean nothing")
    form = reader.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document")
    form.add_argument("--markdown", action="store_true", help="print the rows of the README")
    return reader


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
