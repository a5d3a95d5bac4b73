"""What the page about the models works out by hand is what the reports say.

The tables are read from the page, both the journeys and the figures, so that neither can go astray.
"""

import re
from fractions import Fraction
from pathlib import Path

import pytest
from django.db import connection

from affiliations import attribution
from affiliations.attribution.chains import Chain, Step
from affiliations.attribution.rules import RULES
from affiliations.money import apportion
from tests.attribution.factories import (
    CAME_BY,
    DAY,
    START,
    by_label,
    converted,
    touched,
    travelled,
)
from tests.core.factories import make_user
from tests.tracking.factories import make_property, say

pytestmark = pytest.mark.django_db

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "attribution-models.md"
MARCH = {"since": START, "until": START + 31 * DAY, "by": "channel", "trigger": "Order placed"}


def tables(path=PAGE):
    """Return the page's tables, each a list of the rows under its head, with the names of it."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", path.read_text(encoding="utf-8"), re.MULTILINE):
        head, _, *rows = (
            [cell.strip() for cell in line.strip("|").replace("`", "").split("|")]
            for line in block.splitlines()
        )
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def table(*head):
    """Return the rows of the one table that has this head."""
    [found] = [each for each in tables() if tuple(each[0]) == head]
    return found


def number(cell):
    """Read a number such as 66 2/3."""
    return sum(map(Fraction, cell.replace(",", "").split()), Fraction())


def figures(row):
    return {label: number(cell) for label, cell in list(row.items())[1:]}


@pytest.fixture(params=["duckdb", "database"])
def engine(request):
    if request.param == "database" and connection.vendor == "mysql":
        pytest.skip("computes no reports")
    return request.param


# One path

PATH = ("paid_search", "email", "organic_social", "direct")


@pytest.fixture
def path():
    """The path of the page, as it is told there."""
    shop, user = make_property(), make_user()
    say(shop, f"user:{user.pk} cookie:anna")
    for row in table("day", "what"):
        day, what = int(row["day"]), row["what"]
        if what == "signed up":
            converted(shop, user, day, trigger="Signed up")
        elif what == "ordered":
            converted(shop, user, day, minor=1000, currency="EUR")
        else:
            touched(shop, "cookie:anna", day=day, **CAME_BY[what])


def test_the_rules_give_what_the_page_says(path, engine):
    shown = {row["model"]: figures(row) for row in table("model", *PATH)}
    assert tuple(shown) == tuple(RULES)
    found = attribution.attribute(list(shown), lead="Signed up", engine=engine, **MARCH)
    for model, credited in shown.items():
        assert sum(credited.values()) == 1
        assert by_label(found, model=model) == pytest.approx(
            {label: float(credit) for label, credit in credited.items()}, abs=1e-9
        )


def test_the_weights_by_time_are_those_in_the_text(path):
    weights = [Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(1)]
    assert sum(weights) == Fraction(15, 8)
    [shown] = [row for row in table("model", *PATH) if row["model"] == "time_decay"]
    assert list(figures(shown).values()) == [each / sum(weights) for each in weights]


def test_money_is_divided_as_the_page_says(path, engine):
    parts, whole, left, gets = (list(figures(row).values()) for row in table("", *PATH))
    [shown] = [row for row in table("model", *PATH) if row["model"] == "time_decay"]
    credited = list(figures(shown).values())
    assert parts == [1000 * credit for credit in credited]
    assert whole == [int(part) for part in parts]
    assert sum(left) == 1000 - sum(whole) == 2
    assert gets == [a + b for a, b in zip(whole, left, strict=True)] == apportion(1000, credited)
    found = attribution.attribute("time_decay", engine=engine, **MARCH)
    assert by_label(found, "amount_minor") == dict(zip(PATH, gets, strict=True))


# All journeys

CHANNELS = ("email", "paid_search")
ENDS = ("converted", "lost")
OTHER = ("label", "by the effects alone")


def people():
    """Return the journeys of the page, each with whether it ended with an order."""
    return [
        (re.findall(r"\w+", row["journey"]), row["end"] == "ordered")
        for row in table("person", "journey", "end")
    ]


@pytest.fixture
def journeys():
    shop = make_property()
    for path, won in people():
        travelled(shop, path, won=won)


def test_the_steps_are_those_of_the_journeys():
    steps = [
        Step(tuple(path[:place][-1:]), label, 1, int(is_end and won), int(is_end and not won))
        for path, won in people()
        for place, label in enumerate(path)
        for is_end in [place == len(path) - 1]
    ]
    chain = Chain(steps)
    assert chain.labels == list(CHANNELS)
    start, *rows = map(figures, table("from", *(f"to {each}" for each in CHANNELS), *ENDS))
    assert list(start.values()) == pytest.approx([*chain.start, 0, 0])
    for row, onward, won in zip(rows, chain.steps, chain.win, strict=True):
        assert sum(row.values()) == 1
        assert list(row.values())[:-1] == pytest.approx([*onward, won])


def test_the_chains_give_what_the_page_says(journeys, engine):
    shown = {row["model"]: figures(row) for row in table("model", *CHANNELS)}
    found = attribution.attribute(list(shown), engine=engine, **MARCH)
    for model, credited in shown.items():
        assert sum(credited.values()) == 3
        assert by_label(found, model=model) == pytest.approx(
            {label: float(credit) for label, credit in credited.items()}, abs=1e-9
        )
    rows = table("label", "removal effect", "Shapley's value")
    for model, column in (("markov", "removal effect"), ("shapley", "Shapley's value")):
        assert by_label(found, "effect", model) == pytest.approx(
            {row["label"]: float(number(row[column])) for row in rows}, abs=1e-12
        )


def test_the_other_total_comes_from_the_effects(journeys):
    effects = by_label(attribution.attribute("markov", **MARCH), "effect")
    shown = {row["label"]: number(row["by the effects alone"]) for row in table(*OTHER)}
    assert {
        label: effect / sum(effects.values()) * 3 for label, effect in effects.items()
    } == pytest.approx({label: float(total) for label, total in shown.items()})


# What is said besides


def test_one_conversion_does_not_end_a_path(engine):
    shop = make_property()
    user = travelled(shop, ["email"], won=True)
    converted(shop, user, 12)
    found = attribution.attribute("last", engine=engine, **MARCH)
    assert by_label(found) == by_label(found, "paths") == {"email": 2}


def test_of_equal_remainders_the_earlier_touchpoint_gets_the_unit(engine):
    travelled(make_property(), ["paid_search", "email"], won=True, minor=1001, currency="EUR")
    found = attribution.attribute("linear", engine=engine, **MARCH)
    assert by_label(found, "amount_minor") == {"paid_search": 501, "email": 500}


@pytest.mark.parametrize(
    ("path", "lead", "shares"),
    [
        # There are no others, so that the three share their part.
        (["email", "paid_search", "direct"], 2.5, ["1/3", "1/3", "1/3"]),
        # Two of the three are one.
        (["email", "paid_search"], 1.5, ["2/3", "1/3"]),
        (["email", "paid_search", "direct"], 3.5, ["3/10", "1/10", "6/10"]),
        # Of several leads the latest counts; without one it is a U.
        (
            ["email", "paid_search", "organic_social", "direct"],
            2.5,
            ["3/10", "3/10", "1/10", "3/10"],
        ),
        (
            ["email", "paid_search", "organic_social", "direct"],
            3.5,
            ["3/10", "1/10", "3/10", "3/10"],
        ),
        (["email", "paid_search", "direct"], None, ["2/5", "1/5", "2/5"]),
    ],
)
def test_a_w_that_lacks_something(path, lead, shares):
    shop = make_property()
    user = travelled(shop, path, won=True)
    if lead:
        for day in {1.2, lead}:
            converted(shop, user, day, trigger="Signed up")
    found = attribution.attribute("w_shaped", lead="Signed up", **MARCH)
    assert by_label(found) == pytest.approx(
        {label: float(Fraction(share)) for label, share in zip(path, shares, strict=True)}
    )


def test_a_label_on_lost_journeys_only_has_an_effect_and_no_row():
    shop = make_property()
    travelled(shop, ["direct", "email"], won=False)
    travelled(shop, ["email"], won=True)
    found = attribution.attribute(["markov", "shapley"], **MARCH)
    assert by_label(found, model="markov") == {"email": 1}
    # All come through the mail; half of them after the other, which adds that much to it.
    assert by_label(found, "effect", "markov") == {"email": 1}
    assert by_label(found, "effect", "shapley") == pytest.approx({"email": 0.75})
