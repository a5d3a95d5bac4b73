"""The links' settings: every wrong value is said, by an id of its own."""

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from affiliations.links.conf import LinksSettings, is_host_of, service_fee

WRONG = {
    "AFFILIATE_LINKS_GATE": ["shut", None, True],
    "AFFILIATE_LINKS_REFERERS": ["click.example", ["https://a.example"], ["A.example"], [3], None],
    "AFFILIATE_LINKS_TRANSACTION_KEYS": ["tid", ["a b"], ["a", "a"], list("abcdefghijk")],
    "AFFILIATE_LINKS_PURCHASED": [True, "hook", 3],
    "AFFILIATE_LINKS_MINIMUM_SERVICE_FEE": [-1, 1.5, True, "x", None, {"eur": 1}, {"EUR": "1.234"}],
    "AFFILIATE_LINKS_CURRENCY": ["eur", "XXX", None],
    "AFFILIATE_LINKS_INACTIVE": ["404", None],
    "AFFILIATE_LINKS_LANDING_HOSTS": ["a.example", ["*"], [None]],
    "AFFILIATE_LINKS_LANDING_PAGE": ["nodots", 1],
    "AFFILIATE_REFUND_ALERTS": ["a@b.example", ["nobody"], [None]],
}


def found(**settings):
    with override_settings(**settings):
        return [message.id for message in run_checks(tags=["affiliations"])]


def test_no_setting_is_left_out():
    declared = LinksSettings.declared()
    assert list(WRONG) == [each.setting for each in declared]
    assert len({each.check_id for each in declared}) == len(declared)
    assert found() == []


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_every_setting_wrong_in_turn(name, value):
    [setting] = [each for each in LinksSettings.declared() if each.setting == name]
    assert found(**{name: value}) == [setting.check_id]


@pytest.mark.parametrize(
    "right",
    [
        {"AFFILIATE_LINKS_REFERERS": ["click.example.com", "*.go2cloud.org"]},
        {"AFFILIATE_LINKS_MINIMUM_SERVICE_FEE": {"EUR": "1.50", "JPY": 100}},
        {"AFFILIATE_LINKS_MINIMUM_SERVICE_FEE": "0.5"},
        {"AFFILIATE_LINKS_PURCHASED": "tests.links.test_checks.found"},
        {"AFFILIATE_REFUND_ALERTS": ["thomas@shop.example"]},
    ],
)
def test_right_ones_are_no_news(right):
    assert found(**right) == []


def test_a_path_that_leads_nowhere():
    path = "tests.links.nothing.here"
    assert found(AFFILIATE_LINKS_PURCHASED=path) == ["affiliations_links.E010"]


def test_a_gate_that_never_opens():
    assert found(AFFILIATE_LINKS_GATE="referer") == ["affiliations_links.W011"]
    assert found(AFFILIATE_LINKS_GATE="referer", AFFILIATE_LINKS_REFERERS=["a.example"]) == []


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("click.example", True),
        ("a.click.example", False),
        ("xclick.example", False),
        ("a.net.example", True),
        ("a.b.net.example", True),
        ("net.example", False),
        ("xnet.example", False),
        ("", False),
    ],
)
def test_whose_host_it_is(host, is_one):
    assert is_host_of(host, ["click.example", "*.net.example"]) is is_one


def test_the_fee_is_of_a_currency():
    with override_settings(AFFILIATE_LINKS_MINIMUM_SERVICE_FEE={"EUR": "1.50"}):
        assert (service_fee("EUR"), service_fee("USD")) == (1.5, 0)
    with override_settings(AFFILIATE_LINKS_MINIMUM_SERVICE_FEE=2):
        assert service_fee("USD") == 2
