"""Effects of a chain are those of their definitions, and samples are as near as they say."""

import random

import numpy as np
import pytest

from affiliations.attribution import chains
from affiliations.attribution.chains import Chain, Step, removal_effects, shapley_values
from tests.attribution import oracle

LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
SAME = 1e-9


def journeys(seed, labels, number, *, longest=6, wins=0.4):
    """Return journeys at random, over so many labels, some of them much likelier than others."""
    draw = random.Random(seed)
    names = [None, "", *(f"c{n}" for n in range(labels - 2))][:labels]
    likely = [1 / (1 + n) for n in range(labels)]
    return [
        (draw.choices(names, likely, k=draw.randint(1, longest)), draw.random() < wins)
        for _ in range(number)
    ]


def steps(found, order=1):
    """Return the steps of journeys, each by itself."""
    for labels, converted in found:
        for number, label in enumerate(labels):
            ends = number == len(labels) - 1
            behind = tuple(labels[max(number - order, 0) : number])
            yield Step(behind, label, 1, int(ends and converted), int(ends and not converted))


def far(ours, exact):
    """Return how far from the oracle's the worst of the values is."""
    assert set(ours) == set(exact)
    return max(abs(ours[label] - float(value)) for label, value in exact.items())


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("number", [12, pytest.param(300, marks=LONG)])
def test_removal_effects_are_those_of_chains_without_the_label(order, number):
    for seed in range(number):
        found = journeys(seed, 1 + seed % 6, 1 + seed % 23)
        ours = removal_effects(Chain(steps(found, order), order))
        assert far(ours, oracle.removal_effects(found, order)) < SAME


@pytest.mark.parametrize("number", [20, pytest.param(300, marks=LONG)])
def test_shapleys_values_are_those_of_all_orders(number):
    for seed in range(number):
        found = journeys(seed, 1 + seed % 6, 2 + seed % 19)
        ours, exact = shapley_values(Chain(steps(found))), oracle.shapley_values(found)
        assert far(ours, exact) < SAME
        if any(converted for _, converted in found):
            assert sum(ours.values()) == pytest.approx(1)


def test_each_order_adds_what_the_definition_says():
    """Samples take the worth of all beginnings of an order out of one elimination."""
    found = journeys(7, 6, 60)
    chain = Chain(steps(found))
    exact = oracle.transitions(found, 1)
    draw = random.Random(7)
    for _ in range(20):
        order = draw.sample(range(6), 6)
        added, before = chains._marginals(chain, np.array([order])), set()
        for place in order:
            after = before | {chain.labels[place]}
            adds = oracle.rate(exact, after) - oracle.rate(exact, before)
            assert added[place] == pytest.approx(float(adds), abs=SAME)
            before = after


def test_labels_of_one_kind_have_one_value():
    found = [(["a", "b"], True), (["b", "a"], True), (["c"], False)]
    for values in (removal_effects(Chain(steps(found))), shapley_values(Chain(steps(found)))):
        assert values["a"] == pytest.approx(values["b"])
        assert values["c"] == 0


def test_nobody_converts():
    chain = Chain(steps([(["a", "b"], False)]))
    assert removal_effects(chain) == shapley_values(chain) == {"a": 0, "b": 0}


def misses(chain, exact, seeds, draw=shapley_values):
    """Return of how many seeds a value is off by ERROR or more."""
    return sum(far(draw(chain, seed=seed), exact) >= chains.ERROR for seed in seeds)


@pytest.mark.parametrize(
    ("labels", "seeds"),
    [(13, 2), *(pytest.param(n, 100, marks=LONG, id=f"long-{n}") for n in (13, 14, 15, 16))],
)
def test_samples_are_as_near_as_they_say(labels, seeds):
    chain = Chain(steps(journeys(labels, labels, 400)))
    assert len(chain.labels) == labels > chains.EXACT
    exact = shapley_values(chain, exact=16)
    assert misses(chain, exact, range(seeds)) <= seeds / 100
    assert shapley_values(chain, seed=1) == shapley_values(chain, seed=1)


def test_teeth_far_too_few_samples(monkeypatch):
    chain = Chain(steps(journeys(13, 13, 400)))
    exact = shapley_values(chain, exact=16)
    monkeypatch.setattr(chains, "samples", lambda count: 20)
    assert misses(chain, exact, range(10)) > 1


def test_teeth_orders_that_are_not_all_as_likely(monkeypatch):
    class Sorted:
        def permutation(self, count):
            return np.arange(count)

    chain = Chain(steps(journeys(13, 13, 400)))
    exact = shapley_values(chain, exact=16)
    monkeypatch.setattr(chains, "samples", lambda count: 10)
    monkeypatch.setattr(chains.np.random, "default_rng", lambda seed: Sorted())
    assert misses(chain, exact, range(2)) == 2


def test_teeth_a_removed_label_that_is_stepped_over():
    """As where people are sent on to the next one, instead of being lost."""
    found = journeys(3, 4, 40)
    whole = oracle.rate(oracle.transitions(found, 1), oracle.labels_of(found))
    stepped = {}
    for label in oracle.labels_of(found):
        rest = [([x for x in labels if x != label], won) for labels, won in found]
        rest = [(labels, won) for labels, won in rest if labels]
        left = oracle.rate(oracle.transitions(rest, 1), oracle.labels_of(rest))
        stepped[label] = 1 - left / whole
    assert far(removal_effects(Chain(steps(found))), stepped) > 0.1


def test_teeth_a_memory_that_is_too_short():
    found = journeys(3, 4, 40)
    assert far(removal_effects(Chain(steps(found, 1), 1)), oracle.removal_effects(found, 2)) > SAME


def test_too_many_labels_make_no_chain():
    most = Chain(Step((), str(n), 1, 1, 0) for n in range(chains.MOST))
    assert len(most.states) == chains.MOST
    with pytest.raises(ValueError, match="has more than 2,000 values"):
        Chain(Step((), str(n), 1, 1, 0) for n in range(chains.MOST + 1))
