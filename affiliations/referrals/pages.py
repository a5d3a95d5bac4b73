"""What a member's own page is made of."""

from __future__ import annotations

from typing import NamedTuple

from django.db import models, router

from ..money import in_words
from .mails import name_of
from .models import EmailIndication, Member, Operation
from .statements import sums_of

__all__ = ["Leader", "Stats", "leaders", "stats"]

#: How many are on the board.
BOARD = 10


class Stats(NamedTuple):
    """What a member has brought about: people, and credits as words such as "12.50 EUR"."""

    invited: int
    registered: int
    rewarded: int
    potential: str
    acquired: str


class Leader(NamedTuple):
    """A member on the board: their place, what strangers may call them, how many they brought."""

    place: int
    name: str
    number: int
    is_you: bool


def earned(member: Member, about: str) -> models.Exists:
    """Tell in a query whether a member has been credited, and still is, for whom `about` names."""
    rows = Operation.objects.filter(member=member, about=models.OuterRef(about))
    return models.Exists(
        rows.filter(kind=Operation.Kind.ACQUIRED_CREDIT, entry__minor__gt=0, entry__reversals=None)
    )


def stats(member: Member) -> Stats:
    """Return what a member has brought about: three queries, however much that is."""
    using = router.db_for_write(Member)
    invited = EmailIndication.objects.using(using).filter(indicator=member).count()
    brought = Member.objects.using(using).filter(indicator=member)
    row = brought.aggregate(
        all=models.Count("pk"), paid=models.Count("pk", filter=earned(member, "pk"))
    )
    sums = sums_of(member)
    Kind = Operation.Kind
    return Stats(
        invited,
        row["all"],
        row["paid"],
        in_words(sums.get(Kind.POTENTIAL_CREDIT, 0), member.currency),
        in_words(sums.get(Kind.ACQUIRED_CREDIT, 0), member.currency),
    )


def leaders(member: Member) -> list[Leader]:
    """Return who of a member's program has brought most, by what strangers may call them."""
    rows = (
        Member.objects.using(router.db_for_write(Member))
        .filter(program=member.program_id, indicator__isnull=False)
        .values("indicator")
        .annotate(number=models.Count("pk"))
        .order_by("-number", "indicator")[:BOARD]
    )
    numbers = [(row["indicator"], row["number"]) for row in rows]
    people = Member.objects.using(router.db_for_write(Member)).select_related("user")
    known = people.in_bulk([pk for pk, _ in numbers])
    return [
        Leader(place, name_of(known[pk]), number, pk == member.pk)
        for place, (pk, number) in enumerate(numbers, start=1)
    ]
