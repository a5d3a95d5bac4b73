"""The tracking's settings: every wrong value is said, by an id of its own."""

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from affiliations.tracking import stream
from affiliations.tracking.conf import TrackingSettings
from tests.tracking.factories import make_property

WRONG = {
    "AFFILIATE_TRACKING_PROPERTY": [None, True, "a b", "é", "x" * 65],
    "AFFILIATE_TRACKING_CLIENT_IDS": [True, "hook", 3],
    "AFFILIATE_TRACKING_SAMPLE": [True, -0.1, 1.1, "0.5", None, float("nan")],
    "AFFILIATE_TRACKING_EXCLUDE": ["/admin/", ["admin/"], [None], None],
    "AFFILIATE_TRACKING_LIMITS": [
        None,
        "100/s",
        {"network": "1/s"},
        {"address": 100},
        {"address": "0/s"},
        {"address": "1/w"},
        {"address": "1 / s"},
        {"key": "1000000000/d"},
        {"key": ""},
    ],
    "AFFILIATE_TRACKING_SINK": [
        None,
        "redis",
        "http://127.0.0.1/",
        "redis://:secret@127.0.0.1/0",
        "redis://127.0.0.1/0?password=secret",
        "redis://[",
    ],
    "AFFILIATE_TRACKING_SINK_PASSWORD": [None, "a\nb"],
    "AFFILIATE_TRACKING_STREAM": ["", None, "a b", "x" * 101],
}


def found(databases=(), **settings):
    with override_settings(**settings):
        messages = run_checks(tags=["affiliations"], databases=databases)
    return [each.id for each in messages if each.id.startswith("affiliations_tracking")]


def test_no_setting_is_left_out():
    declared = TrackingSettings.declared()
    assert list(WRONG) == [each.setting for each in declared]
    assert len({each.check_id for each in declared}) == len(declared)
    assert found() == []


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_every_setting_wrong_in_turn(name, value):
    [setting] = [each for each in TrackingSettings.declared() if each.setting == name]
    assert found(**{name: value}) == [setting.check_id]


def test_a_hook_that_is_not_there():
    settings = {"AFFILIATE_TRACKING_CLIENT_IDS": "tests.tracking.nothing"}
    assert found(**settings) == ["affiliations_tracking.E003"]
    assert found(AFFILIATE_TRACKING_CLIENT_IDS="tests.tracking.test_checks.found") == []


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.1", "rediss://user@redis.example:6380/3", "unix:///run/redis.sock?db=1"],
)
def test_a_redis(url, monkeypatch):
    assert found(AFFILIATE_TRACKING_SINK=url) == []
    monkeypatch.setattr(stream, "redis", None)
    assert found(AFFILIATE_TRACKING_SINK=url) == ["affiliations_tracking.E011"]


@pytest.mark.django_db
def test_a_property_that_is_not_there():
    settings = {"AFFILIATE_TRACKING_PROPERTY": "SHOP"}
    assert found(databases=["default"], **settings) == ["affiliations_tracking.W004"]
    assert found(**settings) == []
    make_property(public_key="SHOP")
    assert found(databases=["default"], **settings) == []
