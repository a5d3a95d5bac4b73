"""Say to whom a variation group is shown: any of some lists of conditions, all of one list.

Pure. A condition compares what is known of a visitor with what was asked for, the way Flagship's
SDKs do: strings by case, numbers as Python has them, and what cannot be compared is no match.

    is_meant = compiled([[Condition("plan", "EQUALS", "gold")]])
    is_meant({"plan": "gold"}, "visitor-1")
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .exceptions import InvalidTargeting

__all__ = [
    "ALL_USERS",
    "MAX_CONDITIONS",
    "OPERATORS",
    "PREFIX",
    "USERS",
    "Condition",
    "compiled",
    "holds",
    "read",
]

#: Keys that stand for everybody, and for who has one of some ids.
ALL_USERS, USERS = "fs_all_users", "fs_users"
#: How keys begin that stand for what this suite knows of somebody, and no client.
PREFIX = "aff_"

MAX_CONDITIONS = 200
MAX_KEY = 200
MAX_VALUES = 1000
MAX_VALUE = 1000

Known = Mapping[str, Any]
Test = Callable[[Known, str], bool]
Compare = Callable[[Any, Any], bool]


class Condition(NamedTuple):
    """What has to be known of a visitor: a key, one of OPERATORS, and one value or several."""

    key: str
    operator: str
    value: Any


def _contains(found: Any, wanted: Any) -> bool:
    return str(wanted) in str(found)


def _starts(found: Any, wanted: Any) -> bool:
    return str(found).startswith(str(wanted))


def _ends(found: Any, wanted: Any) -> bool:
    return str(found).endswith(str(wanted))


#: A version as semver.org has it; a `v` before it and what was built are passed over.
_SEMVER = re.compile(
    r"v?(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?",
    re.ASCII,
)


def _version(text: Any) -> tuple[Any, ...] | None:
    """Return what versions are ordered by (Semantic Versioning 2.0.0, section 11), or None."""
    match = _SEMVER.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    before = match[4]
    # Numbers come before words, and whatever comes before a release is less than it.
    parts = [
        (0, len(each.lstrip("0")), each.lstrip("0")) if each.isdigit() else (1, 0, each)
        for each in (before.split(".") if before else ())
    ]
    return int(match[1]), int(match[2]), int(match[3]), not before, parts


def _by_version(compare: Compare) -> Compare:
    def compared(found: Any, wanted: Any) -> bool:
        one, other = _version(found), _version(wanted)
        return one is not None and other is not None and compare(one, other)

    return compared


#: What the SDKs know.
_SHARED: dict[str, Compare] = {
    "EQUALS": operator.eq,
    "NOT_EQUALS": operator.ne,
    "CONTAINS": _contains,
    "NOT_CONTAINS": lambda found, wanted: not _contains(found, wanted),
    "GREATER_THAN": operator.gt,
    "LOWER_THAN": operator.lt,
    "GREATER_THAN_OR_EQUALS": operator.ge,
    "LOWER_THAN_OR_EQUALS": operator.le,
    "STARTS_WITH": _starts,
    "ENDS_WITH": _ends,
}
#: What the server alone knows.
_OURS: dict[str, Compare] = {
    "SEMVER_EQUALS": _by_version(operator.eq),
    "SEMVER_NOT_EQUALS": _by_version(operator.ne),
    "SEMVER_GREATER_THAN": _by_version(operator.gt),
    "SEMVER_LOWER_THAN": _by_version(operator.lt),
    "SEMVER_GREATER_THAN_OR_EQUALS": _by_version(operator.ge),
    "SEMVER_LOWER_THAN_OR_EQUALS": _by_version(operator.le),
}
_COMPARE = {**_SHARED, **_OURS}
#: That a key is there, or is not: the value says whether so.
PRESENCE = ("EXISTS", "NOT_EXISTS")
#: Of several values all have to differ.
OF_ALL = frozenset({"NOT_EQUALS", "NOT_CONTAINS", "SEMVER_NOT_EQUALS"})
OPERATORS = (*_COMPARE, *PRESENCE)
SHARED = frozenset(_SHARED)


def holds(condition: Condition, known: Known, visitor_id: str) -> bool:
    """Tell whether a condition holds of a visitor."""
    return _test(condition)(known, visitor_id)


def compiled(groups: Iterable[Iterable[Condition]]) -> Test | None:
    """Return a function that tells whether somebody is meant, None where everybody is.

    It is given what is known of a visitor, and their id.
    """
    lists = [[_test(each) for each in group if each.key != ALL_USERS] for group in groups]
    if any(not tests for tests in lists):
        return None
    if len(lists) == 1:
        tests = lists[0]
        return tests[0] if len(tests) == 1 else _all(tests)
    return _any([tests[0] if len(tests) == 1 else _all(tests) for tests in lists])


def _all(tests: Sequence[Test]) -> Test:
    if len(tests) == 2:
        one, other = tests
        return lambda known, visitor_id: one(known, visitor_id) and other(known, visitor_id)

    def test(known: Known, visitor_id: str) -> bool:
        for each in tests:  # noqa: SIM110 # twice as fast as all(), and asked for each decision
            if not each(known, visitor_id):
                return False
        return True

    return test


def _any(tests: Sequence[Test]) -> Test:
    def test(known: Known, visitor_id: str) -> bool:
        for each in tests:  # noqa: SIM110 # as above
            if each(known, visitor_id):
                return True
        return False

    return test


def _test(condition: Condition) -> Test:
    key, name, wanted = condition
    if key == ALL_USERS:
        return lambda known, visitor_id: True
    if name in PRESENCE:
        is_there = (name == "EXISTS") == bool(wanted)
        if key == USERS:
            return lambda known, visitor_id: is_there
        return lambda known, visitor_id: (known.get(key) is not None) == is_there
    compare = _COMPARE[name]
    values = wanted if isinstance(wanted, list) else [wanted]
    if key == USERS:
        return lambda known, visitor_id: _compared(compare, name, visitor_id, values)
    if len(values) == 1:
        # As most conditions have it, and half as fast otherwise.
        return _simple(key, compare, values[0])

    def test(known: Known, visitor_id: str) -> bool:
        found = known.get(key)
        return found is not None and _compared(compare, name, found, values)

    return test


def _simple(key: str, compare: Compare, wanted: Any) -> Test:
    if compare is operator.eq:
        return lambda known, visitor_id: known.get(key) == wanted

    def test(known: Known, visitor_id: str) -> bool:
        found = known.get(key)
        if found is None:
            return False
        try:
            return compare(found, wanted)
        except (TypeError, ValueError, OverflowError):
            return False

    return test


def _compared(compare: Compare, name: str, found: Any, values: Sequence[Any]) -> bool:
    try:
        if name in OF_ALL:
            return all(compare(found, each) for each in values)
        return any(compare(found, each) for each in values)
    except (TypeError, ValueError, OverflowError):
        # Of several values the SDKs stop at the first that cannot be compared, too.
        return False


def read(told: Any) -> list[list[Condition]]:
    """Return targeting as it is stored; raises InvalidTargeting, which says where it is wrong.

    `told` is a list of lists of {"key": str, "operator": one of OPERATORS, "value": …}. A value is
    text, a number, true or false, or a list of these; that of EXISTS and NOT_EXISTS true or false.
    """
    if not isinstance(told, list) or not told:
        raise InvalidTargeting("targeting: must be a list of lists of conditions, one at least")
    found = []
    for number, group in enumerate(told, 1):
        if not isinstance(group, list) or not group:
            raise InvalidTargeting(f"targeting: list {number} must have a condition at least")
        found.append(
            [_read(each, f"list {number}, condition {i}") for i, each in enumerate(group, 1)]
        )
    if sum(map(len, found)) > MAX_CONDITIONS:
        raise InvalidTargeting(f"targeting: must have at most {MAX_CONDITIONS} conditions")
    return found


def _read(told: Any, where: str) -> Condition:
    if not isinstance(told, dict) or not {"key", "operator"} <= told.keys():
        raise InvalidTargeting(f"targeting: {where} must have a key, an operator and a value")
    key, name, value = told["key"], told["operator"], told.get("value")
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise InvalidTargeting(
            f"targeting: {where}: the key must be 1 to {MAX_KEY} characters that can be printed"
        )
    if name not in OPERATORS:
        raise InvalidTargeting(
            f"targeting: {where}: the operator must be one of {', '.join(OPERATORS)}"
        )
    if name in PRESENCE:
        if not isinstance(value, bool):
            raise InvalidTargeting(f"targeting: {where}: the value must be true or false")
    elif key != ALL_USERS:
        _check_value(value, name, where)
    return Condition(key, name, value)


def _check_value(value: Any, name: str, where: str) -> None:
    values = value if isinstance(value, list) else [value]
    if len(values) > MAX_VALUES:
        raise InvalidTargeting(f"targeting: {where} must have at most {MAX_VALUES} values")
    for each in values:
        if not isinstance(each, str | int | float):
            raise InvalidTargeting(
                f"targeting: {where}: a value must be text, a number, true or false"
            )
        if isinstance(each, str) and (len(each) > MAX_VALUE or _UNSTORABLE.search(each)):
            raise InvalidTargeting(
                f"targeting: {where}: a value must be text of at most {MAX_VALUE} characters, "
                "without NUL"
            )
        if isinstance(each, float) and each - each != 0:
            raise InvalidTargeting(f"targeting: {where}: a number must be finite")
        if name.startswith("SEMVER_") and _version(each) is None:
            raise InvalidTargeting(f"targeting: {where}: a version must be such as 1.2.3")


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
