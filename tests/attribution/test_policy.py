"""How a commission is split: worked by hand."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from django.utils.module_loading import import_string

from affiliations.attribution import policy, rules
from affiliations.attribution.conf import parameters
from affiliations.checks import check_settings
from affiliations.decisions import Candidate, decide, explain
from affiliations.services import record_conversion
from tests.core.factories import make_partner, make_visitor
from tests.rewards.factories import ORDER

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def clicks(*days):
    """Return a candidate for each of the days, by number."""
    return [
        Candidate(number, f"partner{number}", START + day * DAY, "session")
        for number, day in enumerate(days, 1)
    ]


def weights(name, *days):
    """Return what each click's share is, as it is stored, None where it has none."""
    found = decide(clicks(*days), name, import_string(f"affiliations.attribution.policy.{name}"))
    shares = {share.visitor_id: str(share.weight) for share in found.shares}
    return [shares.get(number) for number in range(1, len(days) + 1)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("last", [None, None, None, "1.000000"]),
        ("first", ["1.000000", None, None, None]),
        ("linear", ["0.250000"] * 4),
        ("position_based", ["0.400000", "0.100000", "0.100000", "0.400000"]),
        # 1/4, 1/2, 2^-1/2 and 1, which are 2.457107 together.
        ("time_decay", ["0.101746", "0.203491", "0.287780", "0.406983"]),
    ],
)
def test_a_path_of_four(name, expected):
    assert weights(name, 1, 8, 11.5, 15) == expected


@pytest.mark.parametrize("name", policy.__all__)
def test_one_click_earns_everything(name):
    assert weights(name, 3) == ["1.000000"]


def test_what_is_left_over_goes_to_the_earlier_ones():
    assert weights("linear", 1, 2, 3) == ["0.333334", "0.333333", "0.333333"]
    assert weights("position_based", 1, 2, 3, 4, 5) == [
        "0.400000",
        "0.066667",
        "0.066667",
        "0.066666",
        "0.400000",
    ]


@pytest.mark.parametrize(
    ("position", "of_two", "of_three"),
    [
        ((0.4, 0.4), ["0.500000", "0.500000"], ["0.400000", "0.200000", "0.400000"]),
        ((0.3, 0.1), ["0.750000", "0.250000"], ["0.300000", "0.600000", "0.100000"]),
        # Nothing is left for those between; 1 - 0.8 - 0.2 is less than that, of floats.
        ((0.8, 0.2), ["0.800000", "0.200000"], ["0.800000", None, "0.200000"]),
        ((0.9, 0.1), ["0.900000", "0.100000"], ["0.900000", None, "0.100000"]),
        ((0.7, 0.3), ["0.700000", "0.300000"], ["0.700000", None, "0.300000"]),
    ],
)
def test_a_site_weighs_the_ends_as_it_likes(settings, position, of_two, of_three):
    settings.AFFILIATE_ATTRIBUTION_POSITION = position
    assert weights("position_based", 1, 2) == of_two
    assert weights("position_based", 1, 2, 3) == of_three


def test_no_pair_of_hundredths_leaves_less_than_nothing(settings):
    for hundredths in range(1, 100):
        settings.AFFILIATE_ATTRIBUTION_POSITION = (hundredths / 100, (100 - hundredths) / 100)
        found = policy.position_based(clicks(1, 2, 3))
        assert all(weight > 0 for _, weight in found)
        assert sum(weight for _, weight in found) == 1


def test_a_site_says_how_long_a_click_counts(settings):
    settings.AFFILIATE_ATTRIBUTION_HALF_LIFE = DAY
    assert weights("time_decay", 1, 2) == ["0.333333", "0.666667"]
    assert weights("time_decay", 2, 2) == ["0.500000", "0.500000"]


def test_a_click_of_long_ago_earns_nothing_by_time_decay(settings):
    settings.AFFILIATE_ATTRIBUTION_HALF_LIFE = timedelta(microseconds=1)
    assert weights("time_decay", -300_000, 0, 0) == [None, "0.500000", "0.500000"]
    settings.AFFILIATE_ATTRIBUTION_HALF_LIFE = DAY
    assert weights("time_decay", 0, 40) == [None, "1.000000"]


@pytest.mark.parametrize("name", policy.__all__)
@pytest.mark.parametrize("number", [1, 2, 3, 7, 100])
def test_weights_are_those_of_the_rule_and_sum_to_one(name, number):
    days = [day**1.5 for day in range(number)]
    found = dict(getattr(policy, name)(clicks(*days)))
    assert sum(found.values()) == 1
    assert all(type(weight) is Fraction and weight > 0 for weight in found.values())
    raw = {}
    for position, each in enumerate(clicks(*days), 1):
        before = (clicks(*days)[-1].clicked_on - each.clicked_on) // timedelta(microseconds=1)
        place = rules.Place(position, number, before, number, 0)
        raw[each] = rules.RULES[name](place, parameters(), lambda test, a, b: a if test else b)
    for each, weight in raw.items():
        assert float(found.get(each, 0)) == pytest.approx(weight / sum(raw.values()), abs=1e-15)


@pytest.mark.django_db
def test_a_site_names_one_in_its_settings(settings):
    settings.AFFILIATE_ATTRIBUTION = "affiliations.attribution.policy.position_based"
    assert check_settings(None) == []
    visitors = [make_visitor(make_partner({ORDER: ""})) for _ in range(3)]
    for visitor, day in zip(visitors, (9, 6, 3), strict=True):
        visitor.clicked_on = datetime.now(UTC) - day * DAY
        visitor.save()
    known = {visitor.pk: "session" for visitor in visitors}
    conversion = record_conversion(trigger=ORDER, reference="A-1", known=known)
    shares = dict(conversion.shares.values_list("visitor", "weight"))
    assert [str(shares[each.pk]) for each in visitors] == ["0.400000", "0.200000", "0.400000"]
    assert "credited with 20.00%" in explain(conversion.decision)


def test_policies_do_without_what_reports_are_made_with():
    program = """
import sys
sys.modules.update(dict.fromkeys(["ibis", "duckdb", "pyarrow", "numpy"]))
from django.conf import settings
settings.configure()
from datetime import datetime
from affiliations.attribution import policy
from affiliations.decisions import Candidate
for name in policy.__all__:
    [(_, weight)] = getattr(policy, name)([Candidate(1, "a", datetime(2026, 1, 1), "session")])
    assert weight == 1
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


@pytest.mark.parametrize("name", policy.__all__)
def test_staff_are_told_in_words_what_decided(name):
    [told] = explain({"policy": f"affiliations.attribution.policy.{name}"}).splitlines()
    assert told.endswith(".")
    assert "policy" not in told
