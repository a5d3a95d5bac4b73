"""Show in which states payouts are: one of them, or many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.db import models
from django.utils.html import format_html

from ... import charts
from ...admin.amounts import amounts
from ...admin.callbacks import intcomma
from ...sums import halves, joined
from ..models import Payout, PayoutBatch

State = Payout.State
BADGES = {
    State.DRAFT: "plain",
    State.APPROVED: "pending",
    State.SENT: "pending",
    State.PAID: "delivered",
    State.FAILED: "dead",
    State.RETURNED: "dead",
}


def badge(payout: Payout) -> Any:
    """Return the state as a coloured word."""
    name = BADGES[State(payout.state)]
    return format_html('<span class="aff-badge aff-{}">{}</span>', name, payout.get_state_display())


def sum_of(rows: list[Payout]) -> str:
    """Return what some payouts come to, of each currency."""
    totals: dict[str, int] = {}
    for row in rows:
        currency = row.account.currency
        totals[currency] = totals.get(currency, 0) + row.minor
    return amounts(totals)


class States(dict[str, tuple[int, int]]):
    """How many payouts of a batch are in each state, and what they come to."""

    @property
    def number(self) -> int:
        """How many there are."""
        return sum(number for number, _ in self.values())

    @property
    def minor(self) -> int:
        """What they come to."""
        return sum(minor for _, minor in self.values())

    @property
    def words(self) -> str:
        """Each state, and how many are in it."""
        return ", ".join(
            f"{intcomma(self[state][0])} {state.label}" for state in State if state in self
        )

    @property
    def bar(self) -> Any:
        """The same, drawn."""
        parts = [(str(state), self[state][0]) for state in State if state in self]
        return charts.stacked(parts, title=self.words)


def states_of(batches: Iterable[PayoutBatch]) -> dict[int, States]:
    """Return the states of the payouts of some batches, in one query."""
    found: dict[int, States] = defaultdict(States)
    rows = Payout.objects.filter(batch__in=batches).order_by().values("batch", "state")
    for row in rows.annotate(number=models.Count("pk"), **halves("all", "minor")):
        found[row["batch"]][row["state"]] = row["number"], joined(row, "all")
    return found
