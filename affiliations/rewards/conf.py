"""Hold the settings of the rewards: name, default, rule and check id, one line each."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from ..conf import Group, Setting, a_bool, a_number, a_path, a_rate
from ..exceptions import InvalidMoney
from ..money import DECIMAL_PLACES, Money

_DOMAIN = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})+")


def a_hold(value: Any) -> str:
    """Accept a timedelta from nothing to ten years."""
    if isinstance(value, timedelta) and timedelta(0) <= value <= timedelta(days=3650):
        return ""
    return "must be a datetime.timedelta from 0 to 3,650 days"


def minimums(value: Any) -> str:
    """Accept a dictionary of currencies and the least that is paid out in each, in major units."""
    if not isinstance(value, dict):
        return "must be a dictionary of currencies and amounts"
    for currency, amount in value.items():
        if currency not in DECIMAL_PLACES:
            return f"holds {currency!r:.40}, but each is an ISO 4217 code in capitals"
        try:
            if Money.of(amount, currency).minor < 0:
                return f"holds {amount} for {currency}, but no minimum is below zero"
        except InvalidMoney as error:
            return f"holds {currency!r:.40}: {amount!r:.40}, but {error}"
    return ""


def paths(value: Any) -> str:
    """Accept a sequence of dotted paths to callables, or of callables."""
    if not isinstance(value, list | tuple):
        return "must be a list or tuple of dotted paths"
    for item in value:
        if problem := a_path(item):
            return f"holds {item!r:.80}, but each {problem}"
    return ""


def domains(value: Any) -> str:
    """Accept a sequence of domain names in small letters."""
    if not isinstance(value, list | tuple):
        return "must be a list or tuple of domain names"
    for item in value:
        if not (isinstance(item, str) and _DOMAIN.fullmatch(item)):
            return f"holds {item!r:.80}, but each is a domain name in small letters"
    return ""


class RewardsSettings(Group):
    """The rewards' settings."""

    HOLD = Setting(timedelta(days=30), a_hold, "affiliations_rewards.E001")
    APPROVAL = Setting(False, a_bool, "affiliations_rewards.E002")
    PAYOUT_MINIMUM: Setting[Any] = Setting({}, minimums, "affiliations_rewards.E003")
    # None of them, unless a site says so: what is flagged is held until staff have looked at it,
    # and where nobody knows of that, partners would wait for their money for ever.
    FLAGS: Setting[Any] = Setting((), paths, "affiliations_rewards.E004")
    FLAG_SECONDS = Setting(10, a_number(1, 86_400), "affiliations_rewards.E005")
    FLAG_VELOCITY: Setting[Any] = Setting(
        (20, timedelta(hours=1)), a_rate(days=30), "affiliations_rewards.E006"
    )
    FLAG_MAIL_DOMAINS: Setting[Any] = Setting((), domains, "affiliations_rewards.E007")


settings = RewardsSettings()

#: Of a currency that AFFILIATE_PAYOUT_MINIMUM does not name, in major units.
USUAL_MINIMUM = 50


def minimum(currency: str) -> Money:
    """Return the least that is paid out in a currency."""
    named = settings.PAYOUT_MINIMUM
    if currency in named:
        return Money.of(named[currency], currency)
    return Money.of(USUAL_MINIMUM, currency)
