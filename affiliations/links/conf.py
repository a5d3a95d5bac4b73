"""Hold the settings of the links: name, default, rule and check id, one line each."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.http.request import validate_host

from ..conf import Group, Rule, Setting, a_currency, a_path_or_none, tokens
from ..exceptions import InvalidMoney
from ..money import Money

_HOST = re.compile(r"(\*\.)?[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


def one_of(*names: str) -> Rule:
    """Accept one of a few words."""

    def rule(value: Any) -> str:
        return "" if value in names else f"must be one of {', '.join(map(repr, names))}"

    return rule


def hosts(value: Any) -> str:
    """Accept a sequence of host names in small letters, each with all below it as "*.name"."""
    if not isinstance(value, list | tuple):
        return "must be a list or tuple of host names"
    for item in value:
        if not (isinstance(item, str) and _HOST.fullmatch(item)):
            return f"holds {item!r:.80}, but each is a host in small letters, or *. and a host"
    return ""


def addresses(value: Any) -> str:
    """Accept a sequence of e-mail addresses."""
    if not isinstance(value, list | tuple):
        return "must be a list or tuple of e-mail addresses"
    for item in value:
        try:
            validate_email(item)
        except (ValidationError, TypeError):
            return f"holds {item!r:.80}, which is no e-mail address"
    return ""


def a_fee(value: Any) -> str:
    """Accept an amount of major units that is not negative, or one for each currency."""
    for currency, amount in value.items() if isinstance(value, dict) else [(None, value)]:
        if isinstance(amount, bool) or not isinstance(amount, int | str | Decimal):
            return "must be a Decimal, an int or a str, or a dictionary of currencies and these"
        if currency is not None and a_currency(currency):
            return f"holds {currency!r:.40}, which is no ISO 4217 code in capitals"
        try:
            # What is said for any currency has to be an amount in the one with the most places.
            negative = Money.of(amount, currency or "CLF").minor < 0
        except InvalidMoney as error:
            return f"holds {amount!r:.40}: {error}"
        if negative:
            return "must not be negative"
    return ""


class LinksSettings(Group):
    """The links' settings."""

    LINKS_GATE = Setting(
        "either", one_of("either", "referer", "transaction", "open"), "affiliations_links.E001"
    )
    LINKS_REFERERS: Setting[Any] = Setting((), hosts, "affiliations_links.E002")
    LINKS_TRANSACTION_KEYS = Setting(
        ("transaction_id", "aff_sub"), tokens(at_most=10), "affiliations_links.E003"
    )
    LINKS_PURCHASED: Setting[Any] = Setting(None, a_path_or_none, "affiliations_links.E004")
    LINKS_MINIMUM_SERVICE_FEE: Setting[Any] = Setting(0, a_fee, "affiliations_links.E005")
    LINKS_CURRENCY = Setting("USD", a_currency, "affiliations_links.E006")
    LINKS_INACTIVE = Setting("landing", one_of("landing", "gone"), "affiliations_links.E007")
    LINKS_LANDING_HOSTS: Setting[Any] = Setting((), hosts, "affiliations_links.E008")
    LINKS_LANDING_PAGE: Setting[Any] = Setting(None, a_path_or_none, "affiliations_links.E012")
    REFUND_ALERTS: Setting[Any] = Setting((), addresses, "affiliations_links.E009")


settings = LinksSettings()


def service_fee(currency: str) -> Decimal:
    """Return the least that has to be exceeded for a payout, in major units of a currency."""
    fee = settings.LINKS_MINIMUM_SERVICE_FEE
    return Decimal(fee.get(currency, 0) if isinstance(fee, dict) else fee)


def is_host_of(host: str, allowed: Any) -> bool:
    """Tell whether a host is one of `allowed`, or below one that is written "*.name"."""
    return any(
        host.endswith(each[1:]) if each.startswith("*.") else host == each for each in allowed
    )


def may_lead_to(host: str, *, anywhere: bool = True) -> bool:
    """Tell whether a landing page may be on a host: one of AFFILIATE_LINKS_LANDING_HOSTS, or ours.

    Where that setting is empty it may be on any, unless `anywhere` is false.
    """
    named = settings.LINKS_LANDING_HOSTS
    if anywhere and not named:
        return True
    # "*" is every name that this site might be asked for by, and so none of its own.
    ours = [each for each in django_settings.ALLOWED_HOSTS if each != "*"]
    return is_host_of(host, named) or validate_host(host, ours)
