"""Who is meant: every operator, with every kind of value, and where nothing is known."""

import json
from pathlib import Path

import pytest

from affiliations.experiments.exceptions import InvalidTargeting
from affiliations.experiments.targeting import OPERATORS, Condition, compiled, holds, read

#: What both SDKs decide, each operator with each pair of values.
ROWS = json.loads((Path(__file__).parent / "data" / "targeting.json").read_text())


def meant(operator, found, wanted, key="k"):
    known = {} if found == "__MISSING__" else {key: found}
    return holds(Condition(key, operator, wanted), known, "somebody")


OURS = ("SEMVER_EQUALS", "EXISTS", "NOT_EXISTS")


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row["operator"] not in OURS], ids=json.dumps
)
def test_as_the_sdks_decide(row):
    """Where they differ, as the one that finds something: each is deaf to something else."""
    said = meant(row["operator"], row["context"], row["targeting"])
    assert said == (row["sdk_2_1_5"] or row["sdk_3_0_1"])


#: What is known of somebody, and for each operator whether it holds against each of WANTED.
WANTED = ["b", "", "18", 18, 1.5, True, False, ["a", "b"], [17, 18], []]
KNOWN = ["b", "abc", "", "18", 18, 18.0, 19, 1.5, True, False, "__MISSING__"]


def row_of(operator, found):
    return "".join("+" if meant(operator, found, wanted) else "." for wanted in WANTED)


def table():
    """Return the whole of it, as it stands in the file beside this."""
    lines = [
        "# operator, what is known, and whether it holds against each of: " + json.dumps(WANTED)
    ]
    for operator in OPERATORS:
        lines += [
            f"{operator:30} {json.dumps(found):14} {row_of(operator, found)}" for found in KNOWN
        ]
    return "\n".join(lines) + "\n"


def test_every_operator_with_every_kind():
    assert table() == (Path(__file__).parent / "data" / "operators.txt").read_text()


@pytest.mark.parametrize("operator", OPERATORS)
def test_where_nothing_is_known_nothing_holds(operator):
    said = [meant(operator, "__MISSING__", wanted) for wanted in WANTED]
    if operator == "NOT_EXISTS":
        assert meant(operator, "__MISSING__", True)
    elif operator == "EXISTS":
        assert meant(operator, "__MISSING__", False)
    else:
        assert not any(said)


@pytest.mark.parametrize(
    ("one", "operator", "other", "said"),
    [
        ("1.2.3", "SEMVER_EQUALS", "v1.2.3", True),
        ("1.2.3+build", "SEMVER_EQUALS", "1.2.3", True),
        ("1.10.0", "SEMVER_GREATER_THAN", "1.9.0", True),
        ("1.0.0-alpha", "SEMVER_LOWER_THAN", "1.0.0", True),
        # The order that semver.org gives as an example.
        ("1.0.0-alpha", "SEMVER_LOWER_THAN", "1.0.0-alpha.1", True),
        ("1.0.0-alpha.1", "SEMVER_LOWER_THAN", "1.0.0-alpha.beta", True),
        ("1.0.0-beta.2", "SEMVER_LOWER_THAN", "1.0.0-beta.11", True),
        ("1.0.0-beta.11", "SEMVER_LOWER_THAN", "1.0.0-rc.1", True),
        ("1.0.0-rc.1", "SEMVER_GREATER_THAN_OR_EQUALS", "1.0.0", False),
        ("2.0.0", "SEMVER_LOWER_THAN_OR_EQUALS", ["1.0.0", "2.0.0"], True),
        ("1.2.3", "SEMVER_NOT_EQUALS", ["1.2.4", "1.2.3"], False),
        ("1.2", "SEMVER_NOT_EQUALS", "1.2.3", False),
        (1.2, "SEMVER_EQUALS", "1.2.0", False),
        ("9" * 30 + ".0.0", "SEMVER_GREATER_THAN", "1.0.0", False),
    ],
)
def test_versions(one, operator, other, said):
    assert meant(operator, one, other) is said


@pytest.mark.parametrize(
    ("wanted", "operator", "said"),
    [
        ("somebody", "EQUALS", True),
        (["x", "somebody"], "EQUALS", True),
        ("some", "STARTS_WITH", True),
        ("somebody", "NOT_EQUALS", False),
        (True, "EXISTS", True),
    ],
)
def test_the_visitors_own_id(wanted, operator, said):
    # Whatever a client says of it is somebody's word about themselves.
    condition = Condition("fs_users", operator, wanted)
    assert holds(condition, {"fs_users": "x"}, "somebody") is said


@pytest.mark.parametrize("operator", OPERATORS)
def test_everybody_is_meant_whatever_else_is_said(operator):
    assert holds(Condition("fs_all_users", operator, "x"), {}, "")


def test_any_of_some_lists_and_all_of_each():
    gold, old = Condition("plan", "EQUALS", "gold"), Condition("age", "GREATER_THAN", 60)
    vip, everybody = Condition("vip", "EQUALS", True), Condition("fs_all_users", "EQUALS", "")
    is_meant = compiled([[gold, old], [vip]])
    said = [
        is_meant(known, "v")
        for known in (
            {"plan": "gold", "age": 61},
            {"plan": "gold"},
            {"age": 61},
            {"vip": True},
            {},
        )
    ]
    assert said == [True, False, False, True, False]
    assert compiled([[gold], [everybody]]) is None
    assert compiled([[gold, everybody]])({"plan": "gold"}, "v")
    assert not compiled([])({}, "v")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (None, "must be a list"),
        ([], "one at least"),
        ([[]], "list 1 must have a condition"),
        ([["x"]], "list 1, condition 1 must have a key"),
        ([[{"key": "", "operator": "EQUALS", "value": 1}]], "the key must be"),
        ([[{"key": "a\0", "operator": "EQUALS", "value": 1}]], "the key must be"),
        ([[{"key": "a", "operator": "LIKE", "value": 1}]], "the operator must be"),
        ([[{"key": "a", "operator": ["EQUALS"], "value": 1}]], "the operator must be"),
        ([[{"key": "a", "operator": "EQUALS", "value": None}]], "a value must be text"),
        ([[{"key": "a", "operator": "EQUALS", "value": [["a"]]}]], "a value must be text"),
        ([[{"key": "a", "operator": "EQUALS", "value": "\0"}]], "without NUL"),
        ([[{"key": "a", "operator": "EQUALS", "value": "x" * 1001}]], "at most 1000"),
        ([[{"key": "a", "operator": "EQUALS", "value": ["x"] * 1001}]], "at most 1000 values"),
        ([[{"key": "a", "operator": "EQUALS", "value": float("nan")}]], "finite"),
        ([[{"key": "a", "operator": "EXISTS", "value": "yes"}]], "true or false"),
        ([[{"key": "a", "operator": "SEMVER_EQUALS", "value": "1.2"}]], "such as 1.2.3"),
        ([[{"key": "a", "operator": "EQUALS", "value": 1}] * 201], "at most 200"),
    ],
)
def test_what_is_no_targeting(told, said):
    with pytest.raises(InvalidTargeting, match=said) as error:
        read(told)
    assert str(error.value).startswith("targeting: ")
