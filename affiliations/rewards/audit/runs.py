"""Go through all there is, and post what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connections, models, router

from ...models import Conversion, Partner, Share
from ...savepoints import retried
from .. import commissions, protection, reviews
from ..models import Commission, CommissionRule, Entry, Payout, Snapshot
from .differences import BATCH, Difference
from .earnings import Book, problems_alone
from .ledger import of_entries, of_snapshots
from .payouts import of_payouts

#: What is shown how far an audit is: what is looked at, how many are done, and of how many.
Progress = Callable[[str, int, int], None]


@dataclass
class Audit:
    """One run, over everything, or over what concerns a partner.

    `since` leaves out conversions before it. Otherwise they are those that have commissions, and
    all since the first rule was published: before that nothing could be earned, however old the
    site. With `post_missing`, what conversions have earned or lost and was not posted is posted.
    `checked` counts what was looked at.
    """

    partner: Partner | None = None
    since: datetime | None = None
    post_missing: bool = False
    progress: Progress = lambda unit, done, total: None
    checked: Counter[str] = field(default_factory=Counter)

    def differences(self) -> Iterator[Difference]:
        """Look at everything, a batch after the other, and yield what differs."""
        using = router.db_for_write(Entry)
        if not protection.is_installed(connections[using]):
            text = "the database lets entries and commissions be changed; run migrate"
            yield Difference("protection", "triggers", text)
        conversions = self._conversions(using)
        yield from self._streamed("conversions", conversions, self._of_conversions)
        entries = Entry.objects.using(using)
        yield from of_entries(self._own(entries, "account"), self.checked)
        payouts = Payout.objects.using(using)
        yield from self._streamed("payouts", self._own(payouts, "account"), of_payouts)
        snapshots = Snapshot.objects.using(using).select_related("account")
        yield from self._streamed("snapshots", self._own(snapshots, "account"), of_snapshots)

    def _own(self, rows: Any, account: str) -> Any:
        return (
            rows if self.partner is None else rows.filter(**{f"{account}__partner": self.partner})
        )

    def _streamed(
        self, unit: str, rows: Any, look: Callable[[list[Any]], Iterator[Difference]]
    ) -> Iterator[Difference]:
        total, last = rows.count(), 0
        while batch := list(rows.filter(pk__gt=last).order_by("pk")[:BATCH]):
            yield from look(batch)
            last = batch[-1].pk
            self.checked[unit] += len(batch)
            self.progress(unit, self.checked[unit], total)

    def _conversions(self, using: str) -> Any:
        rows = Conversion.objects.using(using)
        if self.partner is not None:
            shares = Share.objects.filter(visitor__partner=self.partner)
            rows = rows.filter(models.Exists(shares.filter(conversion=models.OuterRef("pk"))))
        if self.since is not None:
            return rows.filter(created_on__gte=self.since)
        written = Commission.objects.filter(conversion=models.OuterRef("pk"))
        meant = models.Q(models.Exists(written))
        published = CommissionRule.objects.using(using).aggregate(on=models.Min("published_on"))
        if published["on"] is not None:
            meant |= models.Q(created_on__gte=published["on"])
        return rows.filter(meant)

    def _of_conversions(self, batch: list[Conversion]) -> Iterator[Difference]:
        suspects = Book(batch)
        for conversion in batch:
            if not suspects.problems(conversion):
                continue
            # Somebody may have taken it back in the midst of this. Alone, it stands still.
            problems = problems_alone(conversion)
            failure, left = "", problems
            if self.post_missing and any(kind in ("missing", "reversal") for kind, _ in problems):
                try:
                    post_missing(conversion)
                except Exception as error:  # noqa: BLE001 - that of one must not keep the others back
                    failure = f"; to post it failed: {error}"
                left = problems_alone(conversion)
            for each in problems:
                yield Difference(
                    each.kind,
                    f"conversion {conversion.pk}",
                    f"{each.text}{failure}",
                    posted=each not in left,
                )


def post_missing(conversion: Conversion) -> None:
    """Post what a conversion has earned and lost, as far as that was not done: once.

    By the rules as they were when it was recorded; who belongs to a partner or to a group is asked
    today. Tiers and caps count what was posted meanwhile. Runs at the same time wait for each
    other.
    """
    using = router.db_for_write(Entry)

    def post() -> None:
        stored = Conversion.objects.using(using).select_for_update().get(pk=conversion.pk)
        if not Commission.objects.using(using).filter(conversion=stored).exists():
            commissions.earn(stored)
        commissions.take_back(stored)
        reviews.close(stored)

    retried(post, using)
