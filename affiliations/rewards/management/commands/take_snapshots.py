"""Note what busy accounts came to, so that their balance is found as fast as a quiet one's."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import models, router
from django.db.models.functions import Coalesce

from ....exceptions import InvalidMoney
from ....management.progress import Progress
from ... import ledger
from ...models import Account, Entry, Snapshot

#: Entries that are summed in no time.
ENOUGH = 1000


class Command(BaseCommand):
    """Take a snapshot of each account with many entries since its last one.

    An account that comes to more than can be noted is named, the others are done, and it exits
    with 1.
    """

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take how many entries are many."""
        parser.add_argument(
            "--entries",
            type=int,
            default=ENOUGH,
            metavar="NUMBER",
            help="leave accounts alone that have fewer since their last one (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Take them, each in a transaction of its own."""
        using = router.db_for_write(Snapshot)
        snapshots = Snapshot.objects.filter(account=models.OuterRef("pk"))
        last = snapshots.order_by("-last_entry").values("last_entry")[:1]
        new = Entry.objects.filter(account=models.OuterRef("pk"), pk__gt=models.OuterRef("last"))
        number = new.order_by().values("account").annotate(number=models.Count("pk"))
        accounts = (
            Account.objects.using(using)
            .annotate(last=Coalesce(models.Subquery(last), 0))
            .annotate(number=models.Subquery(number.values("number")))
        )
        busy = list(accounts.filter(number__gte=options["entries"]).order_by("pk"))
        progress = Progress(self.stderr, "accounts")
        taken = failed = 0
        for done, account in enumerate(busy, 1):
            try:
                taken += ledger.take_snapshot(account) is not None
            except InvalidMoney as error:
                failed += 1
                progress.clear()
                self.stderr.write(f"account {account.pk}, {account}: {error}")
            progress.show(done, len(busy))
        progress.clear()
        self.stdout.write(f"{taken:,} snapshots taken.")
        if failed:
            raise CommandError(f"{failed:,} could not be taken.")
