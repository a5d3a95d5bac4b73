"""Weigh channels by what a chain of all journeys loses without them.

A Markov chain goes from a start over the channels to one of two ends, converted or lost, as often
as people did. Numbers in, numbers out: the engines have counted the steps.

Sources: the removal effect is that of Anderl, Becker, von Wangenheim and Schumann, "Mapping the
customer journey" (International Journal of Research in Marketing 33, 2016). Shapley's value (1953)
is taken of the game in which a coalition is worth the probability to convert where all others are
removed from the chain. For the value of Markovian journeys see Singal, Besbes, Désir, Goyal and
Iyengar, "Shapley meets uniform" (Management Science 68, 2022), whose adjustment of it by what
happens without any action is not made here. The error of a sample is bounded by Hoeffding's
inequality (1963).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXACT", "MOST", "Chain", "Step", "removal_effects", "shapley_values"]

Label = str | None
#: The most channels that Shapley's value is computed of by all coalitions, 4,096 of them.
EXACT = 12
#: With more, each value is off by less than this part of all conversions …
ERROR = 0.02
#: … but for so many of a thousand samples, for the worst of the channels.
DOUBT = 0.01
#: The most labels that are sampled, in a few seconds; twice as many would take eight times as long.
SAMPLED = 64
#: Permutations that are drawn at once.
BATCH = 256
#: States of a chain: a matrix of them is solved.
MOST = 2000

Floats = NDArray[np.float64]


class Step(NamedTuple):
    """From the last labels, the latest last, to a label; how often, and how often that was all."""

    behind: tuple[Label, ...]
    label: Label
    times: int
    converted: int = 0
    lost: int = 0


class Chain:
    """The chain of some steps: where people are is by the last `order` labels that they met."""

    def __init__(self, steps: Iterable[Step], order: int = 1) -> None:
        """Count; raises ValueError where there are more states than MOST."""
        counts: dict[tuple[Label, ...], dict[tuple[Label, ...], int]] = {}
        ends: dict[tuple[Label, ...], list[int]] = {}
        for behind, label, times, converted, lost in steps:
            reached = (*behind, label)[-order:]
            row = counts.setdefault(behind, {})
            row[reached] = row.get(reached, 0) + times
            end = ends.setdefault(reached, [0, 0])
            end[0] += converted
            end[1] += lost
        self.states = sorted(ends, key=lambda each: tuple((x is not None, x or "") for x in each))
        if len(self.states) > MOST:
            raise ValueError(f"by: has more than {MOST:,} values, of which no chain can be made")
        number = {state: place for place, state in enumerate(self.states)}
        size = len(self.states)
        self.steps = np.zeros((size, size))
        self.start, self.win = np.zeros(size), np.zeros(size)
        for state, place in number.items():
            onward = counts.get(state, {})
            total = sum(onward.values()) + sum(ends[state])
            for reached, times in onward.items():
                self.steps[place, number[reached]] = times / total
            self.win[place] = ends[state][0] / total
        begun = counts.get((), {})
        for reached, times in begun.items():
            self.start[number[reached]] = times / sum(begun.values())
        self.labels: list[Label] = sorted(
            {state[-1] for state in self.states}, key=lambda x: (x is not None, x or "")
        )
        #: Which states are those of a label: whoever goes through it comes to one of them.
        self.groups = [
            np.array([number[state] for state in self.states if state[-1] == label])
            for label in self.labels
        ]


def removal_effects(chain: Chain) -> dict[Label, float]:
    """Return for each label which part of all conversions is lost without it, 0 to 1.

    That is the probability to come to it, times that to convert from there, over that to convert at
    all. Nothing where nobody converts.
    """
    if not chain.win.any():
        return dict.fromkeys(chain.labels, 0.0)
    visits = np.linalg.inv(np.eye(len(chain.states)) - chain.steps)
    from_start, wins = chain.start @ visits, visits @ chain.win
    rate = chain.start @ wins
    return {
        label: float(
            from_start[group] @ np.linalg.solve(visits[np.ix_(group, group)], wins[group]) / rate
        )
        for label, group in zip(chain.labels, chain.groups, strict=True)
    }


def shapley_values(chain: Chain, *, seed: int = 0, exact: int = EXACT) -> dict[Label, float]:
    """Return for each label Shapley's value, as a part of all conversions; they sum to 1.

    Exact for at most `exact` labels. With more, from a sample of orders in which labels join, by
    which each value is off by less than ERROR with a probability of at least 1 - DOUBT for all of
    them; a `seed` gives the same sample again. Raises ValueError where there are more than SAMPLED.
    """
    count = len(chain.labels)
    if count > SAMPLED:
        raise ValueError(f"by: has more than {SAMPLED} values, which shapley takes too long for")
    if not chain.win.any():
        return dict.fromkeys(chain.labels, 0.0)
    values = _by_coalitions(chain) if count <= exact else _by_samples(chain, seed)
    whole = values.sum()
    return {label: float(value / whole) for label, value in zip(chain.labels, values, strict=True)}


def samples(count: int) -> int:
    """Return how many orders are drawn for so many labels."""
    return ceil(log(2 * count / DOUBT) / (2 * ERROR**2))


def _by_coalitions(chain: Chain) -> Floats:
    count, size = len(chain.labels), len(chain.states)
    members = (np.arange(1 << count)[:, None] >> np.arange(count)) & 1
    of_state = np.zeros(size, dtype=int)
    for place, group in enumerate(chain.groups):
        of_state[group] = place
    worth = np.empty(1 << count)
    for begin in range(0, 1 << count, BATCH):
        kept = members[begin : begin + BATCH][:, of_state].astype(float)
        systems = np.eye(size) - chain.steps * kept[:, None, :]
        wins = np.linalg.solve(systems, np.broadcast_to(chain.win, kept.shape)[..., None])[..., 0]
        worth[begin : begin + BATCH] = ((chain.start * kept) * wins).sum(axis=1)
    sizes = members.sum(axis=1)
    # (s! (n - s - 1)!) / n! for a coalition of s without the label.
    shares = np.ones(count)
    for s in range(1, count):
        shares[s] = shares[s - 1] * s / (count - s)
    shares /= count
    values = np.empty(count)
    for place in range(count):
        without = np.flatnonzero(members[:, place] == 0)
        values[place] = (
            shares[sizes[without]] * (worth[without | 1 << place] - worth[without])
        ).sum()
    return values


def _by_samples(chain: Chain, seed: int) -> Floats:
    count = len(chain.labels)
    draw = np.random.default_rng(seed)
    left, values = samples(count), np.zeros(count)
    number = left
    while left:
        orders = np.array([draw.permutation(count) for _ in range(min(BATCH, left))])
        values += _marginals(chain, orders)
        left -= len(orders)
    return values / number


def _marginals(chain: Chain, orders: NDArray[np.int64]) -> Floats:
    """Return the sum over the orders of what each label adds to those before it.

    One elimination for each order yields the worth of all its beginnings: it stands in the corner
    when the states of so many labels are eliminated. The matrix needs no pivoting, for from every
    state an end is reached.
    """
    size = len(chain.states)
    base = np.zeros((size + 1, size + 1))
    base[:size, :size] = np.eye(size) - chain.steps
    base[:size, size] = chain.win
    base[size, :size] = chain.start
    sequence = np.array(
        [np.concatenate([chain.groups[label] for label in each]) for each in orders]
    )
    sequence = np.concatenate([sequence, np.full((len(orders), 1), size)], axis=1)
    systems = base[sequence[:, :, None], sequence[:, None, :]]
    corners = np.empty((len(orders), size + 1))
    corners[:, 0] = 0.0
    for k in range(size):
        pivot = systems[:, k, k][:, None, None]
        systems[:, k + 1 :, k + 1 :] -= (
            systems[:, k + 1 :, k, None] * systems[:, None, k, k + 1 :] / pivot
        )
        corners[:, k + 1] = -systems[:, size, size]
    sizes = np.array([len(group) for group in chain.groups])[orders]
    ends = np.concatenate([np.zeros((len(orders), 1), dtype=int), np.cumsum(sizes, axis=1)], axis=1)
    reached = np.take_along_axis(corners, ends, axis=1)
    added = np.diff(reached, axis=1)
    sums = np.zeros(len(chain.labels))
    np.add.at(sums, orders, added)
    return sums
