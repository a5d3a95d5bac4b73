"""Count what came of links: of the last days by index, and of purchases a bounded number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from django.db import models

from ...admin.figures import day_of, starts_of
from ...admin.lists import BOUND
from ...sums import halves, joined
from ..models import Link, Transaction


@dataclass(slots=True)
class Figures:
    """What came of a link on each of some days."""

    #: People who clicked; one of them once, until they buy.
    clicks: list[int]
    completed: list[int]
    #: Minor units, by currency.
    amounts: dict[str, list[int]] = field(default_factory=dict)

    @property
    def totals(self) -> dict[str, int]:
        """The sum of each currency's amounts."""
        return {currency: sum(values) for currency, values in self.amounts.items()}


def by_day(links: Iterable[Link], days: Sequence[date]) -> dict[int, Figures]:
    """Return for each link's key what came of it on each of `days`: two queries."""
    found = {link.pk: Figures([0] * len(days), [0] * len(days)) for link in links}
    starts = starts_of(days)
    rows = Transaction.objects.filter(link__in=list(found)).order_by()
    clicked = rows.filter(created_on__gte=starts[0])
    for row in clicked.values("link", day=day_of("created_on", starts)).annotate(
        n=models.Count("pk")
    ):
        found[row["link"]].clicks[row["day"]] = row["n"]
    sold = rows.filter(completed_on__gte=starts[0], state=Transaction.State.COMPLETED)
    for row in sold.values("link", "currency", day=day_of("completed_on", starts)).annotate(
        n=models.Count("pk"), **halves("sold", "amount_minor")
    ):
        figures = found[row["link"]]
        figures.completed[row["day"]] += row["n"]
        amounts = figures.amounts.setdefault(row["currency"], [0] * len(days))
        amounts[row["day"]] = joined(row, "sold")
    return found


def ever_sold(link: Link) -> tuple[int, dict[str, int], bool]:
    """Return how many purchases were completed, and not refunded, and what they sum up to.

    Of the latest BOUND; the last value tells whether there are more.
    """
    rows = Transaction.objects.filter(link=link, completed_on__isnull=False)
    latest = rows.order_by("-completed_on").values_list("state", "currency", "amount_minor")
    sold = list(latest[: BOUND + 1])
    number = 0
    totals: dict[str, int] = {}
    for state, currency, minor in sold[:BOUND]:
        if state == Transaction.State.COMPLETED:
            number += 1
            totals[currency] = totals.get(currency, 0) + (minor or 0)
    return number, totals, len(sold) > BOUND
