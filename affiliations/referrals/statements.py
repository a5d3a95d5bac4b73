"""Tell a member what has happened: whom they brought, and what they were credited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.db import router

from ..sums import halves, joined
from .models import Member, Operation

__all__ = ["Statement", "statement", "sums_of"]

#: Operations of one page.
PAGE = 100


class Statement(NamedTuple):
    """What there is of each kind of credit, in minor units, and some operations, the newest first.

    The sums are of one currency, the operations of all. `potential` is what is still open, and
    `acquired` what was earned and not lost again. `older` is the number to ask for what is older
    `before`, or None where nothing is.
    """

    potential: int
    acquired: int
    signup: int
    operations: Sequence[Operation]
    older: int | None


def sums_of(member: Member, currency: str = "") -> dict[str, int]:
    """Return what there is of each kind of a member's credits, in minor units: one query."""
    rows = Operation.objects.using(router.db_for_write(Operation)).filter(member=member)
    moved = rows.filter(entry__account__currency=currency or member.currency)
    kinds = moved.order_by().values("kind")
    return {
        row["kind"]: joined(row, "sum") for row in kinds.annotate(**halves("sum", "entry__minor"))
    }


def statement(
    member: Member, *, before: int | None = None, limit: int = PAGE, currency: str = ""
) -> Statement:
    """Return a member's statement, whatever number of people they have brought: two queries.

    Of the operations `before` one's number the `limit` newest. What comes of programs in another
    `currency` than the member's own is summed where that is asked for.
    """
    rows = Operation.objects.using(router.db_for_write(Operation)).filter(member=member)
    sums = sums_of(member, currency)
    page = rows if before is None else rows.filter(pk__lt=before)
    page = page.select_related("entry__account", "about").order_by("-pk")
    found = list(page[: limit + 1])
    shown = found[:limit]
    Kind = Operation.Kind
    return Statement(
        potential=sums.get(Kind.POTENTIAL_CREDIT, 0),
        acquired=sums.get(Kind.ACQUIRED_CREDIT, 0),
        signup=sums.get(Kind.SIGNUP_CREDIT, 0),
        operations=shown,
        older=shown[-1].pk if len(found) > limit else None,
    )
