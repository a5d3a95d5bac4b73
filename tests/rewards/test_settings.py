"""The rewards' settings: every wrong value is said, by an id of its own."""

from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from affiliations.rewards.conf import RewardsSettings, minimum

HOUR = timedelta(hours=1)
WRONG = {
    "AFFILIATE_HOLD": [30, None, timedelta(-1), timedelta(days=3651)],
    "AFFILIATE_APPROVAL": [None, 1, "yes"],
    "AFFILIATE_PAYOUT_MINIMUM": [
        50,
        None,
        {"EUR": -1},
        {"eur": 10},
        {"XYZ": 1},
        {"EUR": "1.234"},
        {"EUR": "x"},
    ],
    "AFFILIATE_FLAGS": ["velocity", None, ["velocity"], [3], {"a.b": 1}],
    "AFFILIATE_FLAG_SECONDS": [0, -1, True, "5", 1.5, None, 86_401, timedelta(seconds=5)],
    "AFFILIATE_FLAG_VELOCITY": [
        None,
        20,
        (),
        (20,),
        (20, 3600),
        (0, HOUR),
        (True, HOUR),
        (1.5, HOUR),
        (1_000_001, HOUR),
        (20, timedelta(0)),
        (20, timedelta(days=31)),
        (20, HOUR, HOUR),
        {20: HOUR, 30: HOUR},
    ],
    "AFFILIATE_FLAG_MAIL_DOMAINS": [
        "trash.example",
        None,
        [None],
        ["Trash.example"],
        ["trash"],
        ["a@trash.example"],
        [".trash.example"],
    ],
}


def found(**settings):
    with override_settings(**settings):
        return [message.id for message in run_checks(tags=["affiliations"])]


def test_no_setting_is_left_out():
    declared = RewardsSettings.declared()
    assert list(WRONG) == [each.setting for each in declared]
    assert len({each.check_id for each in declared}) == len(declared)
    assert found() == []


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_every_setting_wrong_in_turn(name, value):
    [setting] = [each for each in RewardsSettings.declared() if each.setting == name]
    assert found(**{name: value}) == [setting.check_id]


@pytest.mark.parametrize(
    "right",
    [
        {"AFFILIATE_HOLD": timedelta(0)},
        {"AFFILIATE_PAYOUT_MINIMUM": {"EUR": "12.50", "JPY": 100}},
        {"AFFILIATE_FLAGS": ["affiliations.rewards.flags.velocity", found]},
        {"AFFILIATE_FLAG_VELOCITY": [1, timedelta(minutes=5)]},
        {"AFFILIATE_FLAG_MAIL_DOMAINS": ["trash.example", "xn--9kq967o.com"]},
    ],
)
def test_right_ones_are_no_news(right):
    assert found(**right) == []


async def nobody_awaits(commission):
    return ""


@pytest.mark.parametrize(
    "flag",
    [
        "affiliations.rewards.flags.nothing",
        "nothing.at.all",
        "affiliations.rewards.flags.SALT",
        "tests.core.raises_on_import.flag",
        nobody_awaits,
    ],
)
def test_a_flag_that_nobody_can_ask(flag):
    flags = ("affiliations.rewards.flags.velocity", flag)
    assert found(AFFILIATE_FLAGS=flags) == ["affiliations_rewards.E010"]


def test_what_is_not_named_has_the_usual_minimum():
    with override_settings(AFFILIATE_PAYOUT_MINIMUM={"EUR": "12.50"}):
        assert [str(minimum(each)) for each in ("EUR", "USD")] == ["12.50 EUR", "50.00 USD"]
