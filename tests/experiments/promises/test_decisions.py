"""Decisions stay what they are, and a change moves those alone who have to move."""

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affiliations.experiments import rules
from affiliations.experiments.allocation import reallocated, shares, spread
from affiliations.experiments.hashing import BUCKETS, bucket

NAMES = ["a", "b", "c", "d"]


@st.composite
def shared(draw):
    """Return shares of some variations, which come to a hundred at most."""
    cuts = sorted(draw(st.lists(st.integers(0, BUCKETS), min_size=0, max_size=4)))
    widths = [high - low for low, high in zip([0, *cuts], cuts, strict=False)]
    names = draw(st.permutations(NAMES))[: len(widths)]
    return dict(zip(names, widths, strict=True))


def walked(runs, wanted):
    """Return runs as one who begins anew at each change: what Flagship's own clients do."""
    return [(name, width) for name, width in wanted.items() if width]


def moved(change, history):
    """Return of each change who has moved without need, and whose shares are not as wanted."""
    runs, wrong = [], []
    for wanted in history:
        before, runs = spread(runs), change(runs, wanted)
        after, had = spread(runs), shares([(each, 1) for each in before])
        stayed = Counter(old for old, new in zip(before, after, strict=True) if old and old == new)
        for name in NAMES:
            if stayed[name] < min(had.get(name, 0), wanted.get(name, 0)):
                wrong.append((name, "moved"))
            if after.count(name) != wanted.get(name, 0):
                wrong.append((name, "has another share"))
    return wrong


@given(st.lists(shared(), min_size=1, max_size=6))
def test_no_bucket_moves_that_need_not(history):
    assert moved(reallocated, history) == []


def test_that_would_notice_one_who_begins_anew():
    # From a quarter each to a half each: those of the second quarter would change sides.
    quarters, halves = {"a": 25, "b": 25}, {"a": 50, "b": 50}
    assert moved(reallocated, [quarters, halves]) == []
    assert moved(walked, [quarters, halves]) == [("b", "moved")]


def test_most_made_up_histories_are_of_shares_that_change():
    drawn = []

    @given(st.lists(shared(), min_size=1, max_size=6))
    def draw(history):
        drawn.append(len(history) > 1 and any(any(each.values()) for each in history[1:]))

    draw()
    assert sum(drawn) > len(drawn) / 3


@pytest.mark.parametrize("wanted", [{"a": 101}, {"a": 60, "b": 41}, {"a": -1}])
def test_more_than_all_is_refused(wanted):
    with pytest.raises(ValueError, match="allocation: "):
        reallocated([], wanted)


def a_campaign(number, runs, *, targeting=None, has_moved=False):
    """Return a compiled campaign with one group."""
    everybody = [[{"key": "fs_all_users", "operator": "EQUALS", "value": ""}]]
    told = {
        "pk": number,
        "id": f"campaign{number}",
        "slug": f"slug-{number}",
        "name": f"Campaign {number}",
        "type": "ab",
        "exclusion": None,
        "groups": [
            {
                "pk": number,
                "id": f"group{number}",
                "name": "Everybody",
                "targeting": targeting or everybody,
                "runs": runs,
                "has_moved": has_moved,
                "variations": [
                    {
                        "pk": pk,
                        "id": each,
                        "name": each.upper(),
                        "reference": each == "a",
                        "type": "FLAG",
                        "value": {f"flag{number}": each},
                    }
                    for pk, each in enumerate(NAMES)
                ],
            }
        ],
    }
    return rules.of_version(json.loads(json.dumps(told)), 1)


texts = st.text(st.characters(), max_size=30)
values = st.one_of(st.text(max_size=5), st.integers(), st.floats(), st.booleans())


@given(
    visitor_id=texts,
    known=st.dictionaries(st.text(max_size=5), values, max_size=3),
    wanted=shared(),
)
def test_nobody_is_given_another_while_nothing_changes(visitor_id, known, wanted):
    runs = reallocated([], wanted)
    # Compiled twice, as two processes do.
    one, other = a_campaign(1, runs), a_campaign(1, runs)
    first = rules.decide([one], known, visitor_id)
    assert rules.decide([other], known, visitor_id) == first
    # Nor does it matter what else there is, or what is known of whom no condition asks for.
    assert first == [
        each for each in rules.decide([a_campaign(2, runs), one], {}, visitor_id) if each in first
    ]
    owner = spread(runs)[bucket("group1", visitor_id)]
    assert [each.variation_id for each in first] == ([owner] if owner else [])


@given(
    visitor_ids=st.lists(texts, min_size=1, max_size=50),
    history=st.lists(shared(), min_size=2, max_size=5),
)
def test_whoever_has_seen_one_sees_it_again_whatever_its_share_becomes(visitor_ids, history):
    runs, seen = [], {}
    for wanted in history:
        runs = reallocated(runs, wanted)
        campaign = a_campaign(1, runs, has_moved=True)
        for each in visitor_ids:
            kept = {"group1": seen[each]} if each in seen else None
            found = rules.decide([campaign], {}, each, kept=kept)
            if each in seen:
                assert [choice.variation_id for choice in found] == [seen[each]]
            elif found:
                seen[each] = found[0].variation_id


def chi_square(counts, expected):
    return sum((counts[name] - want) ** 2 / want for name, want in expected.items())


def spread_out(assign, number):
    """Return how unevenly so many visitors are spread over a hundred buckets."""
    counts = Counter(map(assign, range(number)))
    return chi_square(counts, dict.fromkeys(range(BUCKETS), number / BUCKETS))


#: Of 99 degrees of freedom; one in a million would be above it.
MOST = 180


def test_a_million_visitors_are_spread_evenly():
    names = random.Random(20261129)
    for form in ("visitor-{}", "{:032x}", "é{}\U0001f600"):
        start = names.randrange(10**9)
        assert spread_out(lambda n: bucket("group1", form.format(start + n)), 1_000_000) < MOST  # noqa: B023


def test_that_would_notice_who_is_spread_unevenly():
    # Every two-hundredth goes where the first do.
    assert spread_out(lambda n: 0 if n % 200 == 0 else bucket("group1", str(n)), 100_000) > MOST


def test_two_groups_have_nothing_to_do_with_each_other():
    counts = Counter(
        (bucket("group1", str(n)) < 50, bucket("group2", str(n)) < 50) for n in range(100_000)
    )
    expected = dict.fromkeys([(a, b) for a in (True, False) for b in (True, False)], 25_000)
    # Of 3 degrees of freedom; one in ten thousand would be above it.
    assert chi_square(counts, expected) < 21.1
