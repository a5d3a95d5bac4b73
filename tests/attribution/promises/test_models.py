"""The models say what their definitions do: whatever happened, and whatever it is called."""

import random
from dataclasses import replace
from math import isclose

import ibis
import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from affiliations.attribution import journeys, reports, rules
from affiliations.attribution.questions import CHAINS, MODELS
from tests.attribution import oracle
from tests.attribution.worlds import HOSTILE, LARGEST, TICK, rich, single, worlds

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor == "mysql", reason="casts to other names of types"),
]

LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
SAME = 1e-9
ENGINES = ("duckdb", "database")
LARGE = [0, 1, -1, 99, -100, 2**53 + 1, LARGEST, -LARGEST, LARGEST - 1, 2**63 - 1, 1 - 2**63, None]


def many(few, long):
    """Run a test with so many examples, always the same ones, and in the long form with others."""
    return pytest.mark.parametrize(
        "number", [few, pytest.param(long, marks=LONG, id=f"long-{long}")]
    )


def checked(number, check, **strategies):
    """Hold a check against so many examples."""
    run = hypothesis_settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run(given(**strategies)(check))()


def wrong_credits(world, models=MODELS, engine="duckdb"):
    """Return what a world's touchpoints have earned that is not what the oracle says."""
    found = world.earned(models, engine)
    wrong = []
    for model in models:
        expected = oracle.earned(model, world.touches, world.sales, world.asked)
        if set(found) != set(expected):
            return [("rows", set(found) ^ set(expected))]
        for key, (credit, minor) in expected.items():
            ours = found[key][model]
            if abs(ours[0] - credit) > SAME or ours[1] != minor:
                wrong.append((model, key, ours, (float(credit), minor)))
    return wrong + not_whole(world, found, models)


def not_whole(world, found, models):
    """Return the conversions whose credits do not sum to 1, or money not to the amount."""
    wrong = []
    for sale in world.sales:
        theirs = [each for (conversion, _), each in found.items() if conversion == sale.conversion]
        for model in models if theirs else ():
            parts, minors = zip(*(each[model] for each in theirs), strict=True)
            if not isclose(sum(parts), 1, abs_tol=SAME) or min(parts) < -SAME:
                wrong.append((model, sale, parts))
            whole = None if None in minors else sum(minors)
            if whole != sale.minor or (None in minors and set(minors) != {None}):
                wrong.append((model, sale, minors))
    return wrong


def wrong_totals(world, models=MODELS, engine="duckdb"):
    """Return the rows of a report that are not what the oracle says."""
    found = world.totals(models, engine)
    expected = {
        (model, label, currency): row
        for model in models
        for (label, currency), row in oracle.totals(
            model, world.touches, world.sales, world.asked
        ).items()
    }
    return differing(found, expected)


def differing(found, expected):
    """Return which rows are not the same, but for the last digits of a float."""
    keys = set(found) | set(expected)
    return [key for key in keys if not alike(found.get(key), expected.get(key))]


def alike(one, other):
    if one is None or other is None:
        return False
    for name in ("conversions", "effect"):
        if (one[name] is None) != (other[name] is None):
            return False
        if one[name] is not None and abs(one[name] - other[name]) > SAME:
            return False
    return all(one[name] == other[name] for name in ("amount_minor", "paths", "touchpoints"))


@many(8, 1000)
@pytest.mark.parametrize("engine", ENGINES)
def test_each_touchpoint_earns_what_the_definitions_say(engine, number):
    def check(world):
        assert wrong_credits(world, engine=engine) == []

    checked(number, check, world=worlds(fewest=3))


@many(8, 1000)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_report_says_what_the_definitions_do(engine, number):
    def check(world):
        assert wrong_totals(world, engine=engine) == []

    checked(number, check, world=worlds())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_path_with_all_that_rules_look_at(engine):
    assert wrong_credits(rich(), engine=engine) == []
    assert wrong_totals(rich(), engine=engine) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_the_largest_amounts_are_divided_to_the_unit(engine):
    of_three, of_seven, of_one = single(0, 1, 2, 3), single(0, *range(1, 8)), single(0, 9)
    touches, sales = [], []
    for who, world in (("a", of_three), ("b", of_seven), ("c", of_one)):
        for each in world.touches:
            touches.append(each._replace(person=who, touch=len(touches) + 1))
        for minor in LARGE:
            [sale] = world.sales
            sales.append(sale._replace(conversion=len(sales) + 1, person=who, minor=minor))
    world = replace(of_one, touches=tuple(touches), sales=tuple(sales))
    assert wrong_credits(world, engine=engine) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_all_hostile_labels_at_once(engine):
    world = single(1000, *range(len(HOSTILE) // 3), by="campaign")
    for begin in range(3):
        labels = HOSTILE[begin::3]
        names = {f"s{n}": labels[n % len(labels)] for n in range(1, len(world.touches) + 1)}
        assert wrong_totals(world.relabelled(names), ("linear", "markov"), engine) == []


def other_names(world, seed):
    """Hold a report of other names to be the same but for these."""
    used = list({each.label for each in world.touches})
    # Of a landing that names nothing the visit keeps its own, so that None stays what it is.
    free = [label for label in HOSTILE if label is not None]
    others = random.Random(seed).sample(free, len(used))
    names = {**dict(zip(used, others, strict=True)), None: None}
    # Other names are no other channels, but for what is direct.
    world = world if world.by != "channel" else replace(world, by="sub5")
    found, renamed = world.totals(MODELS), world.relabelled(names).totals(MODELS)
    moved = {(model, names[label], money): x for (model, label, money), x in found.items()}
    assert differing(renamed, moved) == []


@many(5, 500)
def test_other_names_change_nothing_but_the_names(number):
    checked(number, other_names, world=worlds(fewest=3), seed=st.integers(0, 2**32))


def other_numbers(world, seed):
    """Hold a report of the same rows in another order, by other numbers, to be the same."""
    draw = random.Random(seed)
    touches, sales = list(world.touches), list(world.sales)
    draw.shuffle(touches)
    draw.shuffle(sales)
    # The same order, but other numbers.
    numbers = sorted(draw.sample(range(2**60), len(touches)))
    ranks = sorted(each.touch for each in touches)
    of = dict(zip(ranks, numbers, strict=True))
    touches = tuple(each._replace(touch=of[each.touch]) for each in touches)
    other = replace(world, touches=touches, sales=tuple(sales))
    assert differing(world.totals(MODELS), other.totals(MODELS)) == []


@many(5, 500)
def test_the_order_of_rows_and_the_numbers_of_touchpoints_do_not_matter(number):
    checked(number, other_numbers, world=worlds(fewest=3), seed=st.integers(0, 2**32))


def on_no_path(world):
    """Hold a channel that nobody met before they converted to earn nothing."""
    # Somebody who never converts, and one who had not met it when they did.
    at = world.touches[0].at
    met = [
        world.touches[0]._replace(person=who, touch=1000 + n, at=when, label="nobody's")
        for n, (who, when) in enumerate(
            [("nobody", at), ("late", at + 2 * TICK), ("nobody", at + 1)]
        )
    ]
    sale = oracle.Sale(1000, "late", at + TICK, 500, "EUR")
    known = [x._replace(label=x.label or "") for x in world.touches]
    late = known[0]._replace(person="late", touch=2000, is_hit=False, at=at)
    world = replace(
        world,
        touches=(*known, late, *met),
        sales=(*world.sales, sale),
        by="sub1",
        # All that they did is looked at.
        since=0,
        until=100 * TICK,
    )
    found = world.totals(MODELS)
    assert {label for _, label, _ in found} & {"nobody's"} == set()
    expected = oracle.journeys(world.touches, world.sales, world.asked)
    assert "nobody's" in oracle.labels_of(expected)
    assert oracle.removal_effects(expected)["nobody's"] == 0
    assert wrong_totals(world, CHAINS) == []


@many(5, 500)
def test_a_channel_that_is_on_no_path_earns_nothing(number):
    checked(number, on_no_path, world=worlds(labels=["", "a", "b"], fewest=3))


@pytest.mark.parametrize("by", ["source", "sub5"])
def test_of_the_same_moment_the_lower_number_is_first(by):
    world = single(100, 3, 3, 3, by=by)
    for model, label in (("first", "s1"), ("last", "s3")):
        assert world.totals([model])[model, label, "EUR"]["conversions"] == 1
        mixed = replace(world, touches=world.touches[::-1])
        assert mixed.totals([model])[model, label, "EUR"]["conversions"] == 1


def caught(check, **strategies):
    """Tell whether a broken variant is caught within as many examples as there are by default."""
    try:
        checked(15, check, **strategies)
    except AssertionError:
        return True
    return False


def totals_of(*models):
    """Return a check of what a report says by some of the models."""

    def check(world):
        assert wrong_totals(world, models) == []

    return check


def without_normalising(at, given, pick):
    return pick(at.position == at.count, 2.0, 1.0)


def off_by_one(at, given, pick):
    return pick(at.position == 2, 1.0, pick(at.count == 1, 1.0, 0.0))


def of_two_not_halved(at, given, pick):
    between = (1 - given.first - given.last) / at.count
    return pick(at.position == 1, given.first, pick(at.position == at.count, given.last, between))


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("linear", without_normalising),
        ("first", off_by_one),
        ("position_based", of_two_not_halved),
        ("w_shaped", rules.position_based),
        ("last_non_direct", rules.last),
        ("time_decay", rules.linear),
    ],
)
def test_teeth_a_rule_that_is_another(monkeypatch, name, broken):
    for module in (journeys, reports):
        monkeypatch.setattr(module, "RULES", {**rules.RULES, name: broken})
    assert wrong_credits(rich(), [name])


def test_teeth_each_amount_rounded_by_itself(monkeypatch):
    def credited(rows, models):
        rows = whole(rows, models)
        return rows.mutate(
            **{
                f"minor_{name}": (rows.amount_minor * rows[f"credit_{name}"]).round().cast("int64")
                for name in models
            }
        )

    whole = journeys.credited
    monkeypatch.setattr(journeys, "credited", credited)
    assert wrong_credits(rich(), ["linear"])
    assert wrong_credits(single(LARGEST - 1, 1, 2), ["linear"])


def test_teeth_weights_that_are_not_divided_by_their_sum(monkeypatch):
    def credited(rows, models):
        rows = whole(rows, models)
        return rows.mutate(**{f"credit_{name}": rows[f"weight_{name}"] for name in models})

    whole = journeys.credited
    monkeypatch.setattr(journeys, "credited", credited)
    assert caught(totals_of("linear"), world=worlds(fewest=3))


def test_teeth_a_lookback_that_is_one_longer(monkeypatch):
    def paths(touches, conversions, *, by, lookback):
        return right(touches, conversions, by=by, lookback=lookback + 1)

    right = journeys.paths
    monkeypatch.setattr(journeys, "paths", paths)
    assert wrong_credits(single(100, 8, 9, lookback=2 * TICK), ["linear"])


def test_teeth_a_landing_that_is_one_more_touchpoint(monkeypatch):
    monkeypatch.setattr(journeys, "arrivals", lambda touches: touches.drop("is_hit"))
    assert wrong_totals(rich(), ["linear"])


def test_teeth_a_landing_that_may_be_too_late(monkeypatch):
    monkeypatch.setattr(journeys, "LANDING", journeys.LANDING + 1)
    visit, hit = single(100, 1, 3).touches
    world = single(100, 1, 3)
    late = replace(world, touches=(visit, hit._replace(is_hit=True, at=hit.at + 1)))
    assert wrong_credits(late, ["linear"])
    monkeypatch.undo()
    assert wrong_credits(late, ["linear"]) == []


def test_teeth_journeys_of_those_who_converted_alone(monkeypatch):
    def steps(touches, rows, **asked):
        found = right(touches, rows, **asked)
        return found._replace(lost=found.lost.filter(ibis.literal(False)))

    right = journeys.steps
    monkeypatch.setattr(journeys, "steps", steps)
    assert wrong_totals(rich(), ["markov"])


def follow(monkeypatch, change):
    """Have paths be those of changed touchpoints, or in a changed order."""
    right = journeys.paths

    def paths(touches, conversions, **asked):
        return change(right, touches, conversions, asked)

    monkeypatch.setattr(journeys, "paths", paths)


def in_order_of(*names):
    """Return a change that has what stands on a path be in another order."""

    def change(right, touches, conversions, asked):
        rows = right(touches, conversions, **asked)
        order = ibis.window(group_by="conversion", order_by=[each(rows) for each in names])
        return rows.mutate(position=ibis.row_number().over(order) + 1)

    return change


def test_teeth_an_order_by_name(monkeypatch):
    follow(monkeypatch, in_order_of(lambda rows: rows.label))
    assert caught(other_names, world=worlds(fewest=3), seed=st.integers(0, 2**32))


def test_teeth_an_order_by_what_rows_are_numbered(monkeypatch):
    follow(monkeypatch, in_order_of(lambda rows: rows.touch % 7))
    assert caught(other_numbers, world=worlds(fewest=3), seed=st.integers(0, 2**32))


def test_teeth_what_was_met_after_the_conversion(monkeypatch):
    follow(
        monkeypatch,
        lambda right, touches, conversions, asked: right(
            touches.mutate(touched_at=touches.touched_at - 2 * TICK), conversions, **asked
        ),
    )
    assert caught(on_no_path, world=worlds(labels=["", "a", "b"], fewest=3))
