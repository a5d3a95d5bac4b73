"""Tell how the delivery of callbacks does."""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand

from ...status import COUNTED, figures

COLUMNS = {**{name: name.replace("_", " ") for name in COUNTED}, "attempts": "calls/min"}


class Command(BaseCommand):
    """Tell what is due, in flight, waiting and given up, for each partner, and which hosts fail."""

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the form of the answer."""
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the figures."""
        found = figures()
        if options["json"]:
            self.stdout.write(json.dumps(found, ensure_ascii=False))
            return
        total = found["total"]
        rows = [("partner", *COLUMNS.values(), "oldest")]
        for each in [*found["partners"], {"uid": "", "name": "in all", **total}]:
            name = f"{each['name'][:32]} {each['uid']}".strip()
            rows.append((name, *(f"{each[key]:,}" for key in COLUMNS), ago(each["oldest"])))
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        for first, *others in rows:
            aligned = zip(others, widths[1:], strict=True)
            cells = [text.rjust(width) for text, width in aligned]
            self.stdout.write("  ".join([first.ljust(widths[0]), *cells]).rstrip())
        self.stdout.write(
            f"\n{total['attempts']:,} attempts in the last minute, {total['delivered']:,} delivered"
        )
        for each in found["hosts"]:
            paused = f", paused until {each['paused_until']}" if each["paused_until"] else ""
            self.stdout.write(
                f"{each['host']} fails since {each['failing_since']}, "
                f"{each['failures']:,} in a row{paused}"
            )


def ago(seconds: float) -> str:
    """Return a time span for people: "-" for none, else in its largest unit."""
    if not seconds:
        return "-"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
