"""Recompute all that was earned, posted and paid out, and say what differs."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ....management.arguments import moment
from ....management.progress import Progress
from ....models import Partner
from ...audit import Audit


class Command(BaseCommand):
    """Recompute all that was earned, posted and paid out; list what differs, and exit with 1.

    Conversions from before the first rule was published could earn nothing, and are left out
    unless they have commissions.
    """

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take what is looked at, and whether to post."""
        parser.add_argument("--partner", metavar="UID", help="a partner's id in links")
        parser.add_argument(
            "--since", type=moment, metavar="DATE", help="leave out conversions before it"
        )
        parser.add_argument(
            "--post-missing",
            action="store_true",
            help="post what conversions have earned or lost and was not posted, once",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """List the differences as they are found, and sum up."""
        partner = None
        if options["partner"]:
            partner = Partner.objects.filter(uid=options["partner"]).first()
            if partner is None:
                raise CommandError(f"partner: there is none with the id {options['partner']}")
        lines: dict[str, Progress] = {}

        def show(unit: str, done: int, total: int) -> None:
            lines.setdefault(unit, Progress(self.stderr, unit)).show(done, total)

        audit = Audit(partner, options["since"], options["post_missing"], show)
        left = posted = 0
        for difference in audit.differences():
            for line in lines.values():
                line.clear()
            self.stdout.write(str(difference))
            posted += difference.posted
            left += not difference.posted
        for line in lines.values():
            line.clear()
        looked_at = ", ".join(f"{number:,} {unit}" for unit, number in audit.checked.items())
        self.stdout.write(f"Looked at {looked_at or 'nothing: there is nothing yet'}.")
        if posted:
            self.stdout.write(f"{posted:,} were posted.")
        if left:
            raise CommandError(f"{left:,} differ{'s' if left == 1 else ''}.")
        self.stdout.write("Nothing differs.")
