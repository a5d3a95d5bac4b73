"""Send callbacks again: those that failed, or all that a partner was to be told."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ... import outbox
from ...models import Callback, Partner
from ..arguments import moment
from ..progress import Progress

#: What waits for nothing any more; what waits is sent anyway.
SETTLED = ("dead", "refused", "canceled", "delivered", "parked")


def states(text: str) -> list[str]:
    """Read states, parted by commas."""
    names = text.split(",")
    if unknown := set(names) - set(SETTLED):
        known = ", ".join(SETTLED)
        raise argparse.ArgumentTypeError(f"{sorted(unknown)[0]!r} is none of {known}")
    return names


class Command(BaseCommand):
    """Send callbacks again, with the same ids and bytes; no row is added.

    What was sent again within the last hour is left out, so that a run that was interrupted can
    be repeated.
    """

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take which callbacks are meant."""
        parser.add_argument("--id", action="append", metavar="ID", help="a callback's id, msg_…")
        parser.add_argument("--partner", metavar="UID", help="a partner's id in links")
        parser.add_argument("--since", type=moment, metavar="DATE", help="written at or after it")
        parser.add_argument("--until", type=moment, metavar="DATE", help="written before it")
        parser.add_argument(
            "--state",
            type=states,
            metavar="STATE,…",
            help=f"those in these states (dead; by --id any of {', '.join(SETTLED)})",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="say how many there are, and send none"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Send them again, a batch after the other."""
        rows = self.meant(options)
        if options["dry_run"]:
            self.stdout.write(f"{outbox.resendable(rows).count():,} callbacks would be sent again.")
            return
        progress = Progress(self.stderr, "callbacks")
        total = outbox.resendable(rows).count() if progress.shows else None
        done = 0
        for number in outbox.send_all_again(rows):
            done += number
            progress.show(done, total)
        progress.clear()
        self.stdout.write(f"{done:,} callbacks are sent again.")

    def meant(self, options: dict[str, Any]) -> Any:
        """Return the callbacks that the options name; raises CommandError where they name none."""
        if not (options["id"] or options["partner"] or options["since"]):
            raise CommandError("Say which: --id, --partner or --since.")
        rows = Callback.objects.all()
        wanted = options["state"] or (SETTLED if options["id"] else ["dead"])
        rows = rows.filter(state__in=wanted)
        if options["id"]:
            rows = rows.filter(webhook_id__in=options["id"])
            known = set(
                Callback.objects.filter(webhook_id__in=options["id"]).values_list(
                    "webhook_id", flat=True
                )
            )
            if missing := sorted(set(options["id"]) - known):
                raise CommandError(f"id: there is no callback {missing[0]}")
        if options["partner"]:
            partner = Partner.objects.filter(uid=options["partner"]).first()
            if partner is None:
                raise CommandError(f"partner: there is none with the id {options['partner']}")
            rows = rows.for_partner(partner)
        if options["since"]:
            rows = rows.filter(created_on__gte=options["since"])
        if options["until"]:
            rows = rows.filter(created_on__lt=options["until"])
        return rows
