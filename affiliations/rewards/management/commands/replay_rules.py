"""Show what partners would have earned by rules that are not published yet."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ....management.arguments import moment
from ....management.progress import Progress
from ....money import Money
from ...models import CommissionRule
from ...replay import Outcome, drafts, in_all, replay


class Command(BaseCommand):
    """Show what partners would have earned, had drafts of rules been published at a date.

    In place of the rules that they replace, and beside the others. Less what was taken back since.
    Nothing is written.
    """

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take from when on, and which rules."""
        parser.add_argument("--since", type=moment, required=True, metavar="DATE")
        parser.add_argument(
            "--rule",
            type=int,
            action="append",
            metavar="PK",
            help="a draft's number; without it all drafts",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a line for each partner and currency, and the sums."""
        tried = self.meant(options["rule"])
        progress = Progress(self.stderr, "conversions")
        found = replay(options["since"], tried, progress=progress.show)
        progress.clear()
        names = ", ".join(f"{rule.name} ({rule.pk})" for rule in tried)
        self.stdout.write(f"By {names}:\n\n")
        rows: list[tuple[str, ...]] = [("partner", "", "earned", "would earn", "difference")]
        for each in found:
            rows.append((f"{each.partner.name[:32]} {each.partner.uid}", *figures(each)))
        for each in in_all(found):
            rows.append(("in all", *figures(each)))
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        for name, *others in rows:
            cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
            self.stdout.write("  ".join([name.ljust(widths[0]), *cells]).rstrip())

    def meant(self, numbers: list[int] | None) -> list[CommissionRule]:
        """Return the drafts with these numbers, or all; raises CommandError for any other."""
        found = {rule.pk: rule for rule in drafts()}
        if not found:
            raise CommandError("There is no draft of a rule.")
        for number in numbers or ():
            if number not in found:
                raise CommandError(f"rule: {number} is no draft")
        return [found[number] for number in dict.fromkeys(numbers or found)]


def figures(each: Outcome) -> tuple[str, ...]:
    """Return an outcome as the cells of a line."""
    sums = (each.earned, each.would_earn, each.difference)
    return each.currency, *(f"{Money(minor, each.currency).amount:,}" for minor in sums)
