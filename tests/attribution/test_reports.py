"""Who has earned what: worked by hand."""

import pytest
from django.db import connection

from affiliations import attribution
from affiliations.attribution.exceptions import InvalidReport
from affiliations.attribution.questions import MODELS
from tests.attribution.factories import DAY, START, by_label, converted, touched
from tests.core.factories import make_user
from tests.tracking.factories import make_property, say

pytestmark = pytest.mark.django_db

MARCH = {"since": START, "until": START + 31 * DAY, "by": "source"}


@pytest.fixture(params=["duckdb", "database"])
def engine(request):
    if request.param == "database" and connection.vendor == "mysql":
        pytest.skip("computes no reports")
    return request.param


@pytest.fixture
def shop():
    return make_property()


@pytest.fixture
def anna(shop):
    """Four touchpoints in 14 days, and an order of 1.00 EUR."""
    user = make_user()
    say(shop, f"user:{user.pk} cookie:anna")
    for day, source in ((1, "google"), (8, "bing"), (11.5, "mail"), (15, "google")):
        touched(shop, "cookie:anna", source, day)
    converted(shop, user, 16, minor=100, currency="EUR")
    return user


@pytest.mark.parametrize(
    ("model", "shares", "cents"),
    [
        ("last", {"google": 1, "bing": 0, "mail": 0}, {"google": 100, "bing": 0, "mail": 0}),
        ("first", {"google": 1, "bing": 0, "mail": 0}, {"google": 100, "bing": 0, "mail": 0}),
        (
            "linear",
            {"google": 0.5, "bing": 0.25, "mail": 0.25},
            {"google": 50, "bing": 25, "mail": 25},
        ),
        (
            "position_based",
            {"google": 0.8, "bing": 0.1, "mail": 0.1},
            {"google": 80, "bing": 10, "mail": 10},
        ),
        (
            # 1/4, 1/2, 2^-1/2 and 1, which are 2.457107 together.
            "time_decay",
            {"google": 0.508728, "bing": 0.203491, "mail": 0.287780},
            {"google": 51, "bing": 20, "mail": 29},
        ),
    ],
)
def test_a_path_of_four(anna, engine, model, shares, cents):
    found = attribution.attribute(model, engine=engine, **MARCH)
    assert by_label(found) == pytest.approx(shares, abs=1e-6)
    assert by_label(found, "amount_minor") == cents


def test_of_one_touchpoint_all_models_agree(shop, engine):
    for number, source in enumerate(["google", "google", "bing"]):
        user = make_user()
        say(shop, f"user:{user.pk} cookie:c{number}")
        touched(shop, f"cookie:c{number}", source, 3)
        converted(shop, user, 4, minor=999, currency="EUR")
    found = attribution.attribute(MODELS, engine=engine, lead="Signed up", **MARCH)
    for model in MODELS:
        assert by_label(found, model=model) == pytest.approx({"google": 2, "bing": 1}, abs=1e-9)
        assert by_label(found, "amount_minor", model) == {"google": 1998, "bing": 999}


def test_what_is_too_small_for_a_number_is_next_to_nothing(anna, engine, settings):
    settings.AFFILIATE_ATTRIBUTION_HALF_LIFE = DAY / 24 / 60
    found = attribution.attribute("time_decay", engine=engine, **MARCH)
    assert by_label(found) == pytest.approx({"google": 1, "bing": 0, "mail": 0})
    assert by_label(found, "amount_minor") == {"google": 100, "bing": 0, "mail": 0}


def test_the_last_units_of_large_amounts_are_not_lost(shop, engine):
    user = make_user()
    say(shop, f"user:{user.pk} cookie:anna")
    for day, source in enumerate(["google", "bing", "mail"]):
        touched(shop, "cookie:anna", source, day)
    converted(shop, user, 16, minor=2**62 - 1, currency="EUR")
    found = attribution.attribute("last", engine=engine, **MARCH)
    assert by_label(found, "amount_minor") == {"mail": 2**62 - 1, "google": 0, "bing": 0}


def test_amounts_that_no_column_holds_are_refused(shop, engine):
    user = make_user()
    say(shop, f"user:{user.pk} cookie:anna")
    touched(shop, "cookie:anna", "google", 1)
    for day in (16, 17):
        converted(shop, user, day, minor=2**63 - 1, currency="EUR")
    wrong = "since: the amounts add up to more than 2.63 minor units"
    for model in ("last", "linear"):
        with pytest.raises(InvalidReport, match=wrong):
            attribution.attribute(model, engine=engine, **MARCH)
    with pytest.raises(InvalidReport, match=wrong):
        attribution.top_paths(engine=engine, **MARCH)
    assert attribution.durations(engine=engine, **MARCH).num_rows == 2


def test_nothing_happened(engine, shop):
    assert attribution.compare(engine=engine, **MARCH).num_rows == 0
    assert attribution.top_paths(engine=engine, **MARCH).num_rows == 0
    assert attribution.durations(engine=engine, **MARCH).num_rows == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "best"}, "model: must be one of last, "),
        ({"model": "'; DROP TABLE x"}, "model: must be one of"),
        ({"model": []}, "model: must name one model"),
        ({"model": ["last", "last"]}, "model: must name one model, or several different ones"),
        ({"model": "w_shaped"}, "lead: w_shaped needs"),
        ({"by": "colour"}, "by: must be one of partner, link,"),
        ({"until": START}, "until: must be later than since"),
        ({"since": "2026-03-01"}, "since: must be a datetime"),
        ({"until": START.replace(tzinfo=None)}, "until: must be an aware datetime"),
        ({"lookback": -DAY}, "lookback: must be a timedelta above zero"),
        ({"lookback": DAY * 999_999}, "lookback: goes back to before the year 1"),
        ({"order": 0}, "order: must be a whole number from 1 to 4"),
        ({"order": True}, "order: must be"),
        ({"order": 1e400}, "order: must be"),
        ({"model": None}, "model: must be a name, or a list of names"),
        ({"model": [None]}, "model: must be one of last, "),
        ({"model": "x" * 2**20}, "model: must be one of last, "),
        ({"by": None}, "by: must be one of partner, link,"),
        ({"trigger": "a\0"}, "trigger: must be text without NUL and half letters"),
        ({"trigger": "\ud800"}, "trigger: must be text"),
        ({"trigger": 5}, "trigger: must be text"),
        ({"lead": "\0"}, "lead: must be text"),
        ({"lookback": float("nan")}, "lookback: must be a timedelta above zero"),
        ({"seed": -1}, "seed: must be a whole number from 0 on"),
        ({"seed": float("nan")}, "seed: must be"),
        ({"engine": "abacus"}, "engine: must be one of duckdb, database, spark"),
    ],
)
def test_what_cannot_be_asked(wrong, message):
    with pytest.raises(InvalidReport, match=f"^{message}"):
        attribution.attribute(**{**MARCH, **wrong})


def test_comparing_by_one_model_that_needs_more():
    with pytest.raises(InvalidReport, match=r"^lead: w_shaped needs"):
        attribution.compare(["w_shaped"], **MARCH)
