"""Share a hundred buckets among variations, and move as few as can be when the shares change.

Pure. Buckets are written as runs: `[("a", 50), (None, 10), ("b", 40)]` gives the first fifty to a,
the next ten to nobody, and the rest to b. What is left at the end is nobody's, and not written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .hashing import BUCKETS

__all__ = ["Runs", "reallocated", "shares", "spread"]

Runs = list[tuple[str | None, int]]


def reallocated(runs: Sequence[tuple[str | None, int]], wanted: Mapping[str, int]) -> Runs:
    """Return runs by which each has as many buckets as `wanted`, in percent.

    Whoever has too many gives up the last of theirs, and whoever has too few gets the first that
    are nobody's. No other bucket changes hands, so no visitor moves who need not. Raises ValueError
    where the shares are negative or come to more than a hundred.
    """
    if any(share < 0 for share in wanted.values()) or sum(wanted.values()) > BUCKETS:
        raise ValueError("allocation: shares must be from 0 to 100, and so must their sum")
    owners = spread(runs)
    counts = {each: owners.count(each) for each in {*owners, *wanted} if each is not None}
    for index in reversed(range(BUCKETS)):
        owner = owners[index]
        if owner is not None and counts[owner] > wanted.get(owner, 0):
            counts[owner] -= 1
            owners[index] = None
    free = [index for index in range(BUCKETS) if owners[index] is None]
    for each, share in wanted.items():
        for _ in range(share - counts[each]):
            owners[free.pop(0)] = each
    return _runs(owners)


def spread(runs: Sequence[tuple[str | None, int]]) -> list[str | None]:
    """Return whose each of the hundred buckets is; raises ValueError where they are more."""
    owners = [owner for owner, width in runs for _ in range(width)]
    if len(owners) > BUCKETS:
        raise ValueError("allocation: there are a hundred buckets")
    return owners + [None] * (BUCKETS - len(owners))


def shares(runs: Sequence[tuple[str | None, int]]) -> dict[str, int]:
    """Return how many of the hundred each has."""
    found: dict[str, int] = {}
    for owner, width in runs:
        if owner is not None:
            found[owner] = found.get(owner, 0) + width
    return found


def _runs(owners: Sequence[str | None]) -> Runs:
    found: Runs = []
    for owner in owners:
        if found and found[-1][0] == owner:
            found[-1] = (owner, found[-1][1] + 1)
        else:
            found.append((owner, 1))
    if found and found[-1][0] is None:
        found.pop()
    return found
