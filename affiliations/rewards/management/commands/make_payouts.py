"""Draft what is to be paid out."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ....exceptions import InvalidMoney
from ....management.arguments import moment
from ....management.progress import Progress
from ....money import DECIMAL_PLACES, major
from ... import payouts
from ...models import Account


class Command(BaseCommand):
    """Draft a payout for everybody who has at least the minimum of their currency available.

    A run that was ended by something is done once more: it goes on with the rest.
    """

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the currencies, and until when something has to be available."""
        parser.add_argument(
            "--currency",
            metavar="EUR",
            nargs="+",
            action="extend",
            help="one or more; by default all in which there are accounts",
        )
        parser.add_argument(
            "--until",
            type=moment,
            metavar="DATE",
            help="leave what was available only later, or only now",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would be drafted, and draft nothing"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Draft them, and write a line for each currency."""
        names = Account.objects.values_list("currency", flat=True).order_by("currency")
        currencies = list(dict.fromkeys(options["currency"] or names.distinct()))
        if unknown := [each for each in currencies if each not in DECIMAL_PLACES]:
            raise CommandError(f"--currency: {unknown[0]:.40} is not an ISO 4217 code in capitals")
        done = "would be drafted" if options["dry_run"] else "drafted"
        self.stdout.write(f"{'currency':<10}{'holders':>12}{done:>24}")
        for currency in currencies:
            try:
                holders, minor = self.drafted(currency, options["until"], dry=options["dry_run"])
            except (InvalidMoney, ValueError) as error:
                raise CommandError(f"{currency}: {error}") from error
            self.stdout.write(f"{currency:<10}{holders:>12,}{major(minor, currency):>24,f}")

    def drafted(self, currency: str, until: datetime | None, *, dry: bool) -> payouts.Totals:
        """Return what was drafted, or would be, showing how far it is."""
        progress = Progress(self.stderr, f"accounts in {currency}")
        said: dict[str, Any] = {"currency": currency, "until": until, "progress": progress.show}
        try:
            if dry:
                found = payouts.due(**said)
                return payouts.Totals(found.holders, found.minor)
            batch = payouts.make_payouts(**said)
        finally:
            progress.clear()
        return payouts.totals(batch)
