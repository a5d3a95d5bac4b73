"""Hold every setting of the suite: its name, default, rule and check id, one line each."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar, overload

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from .addresses import parse_allow, parse_proxy
from .money import DECIMAL_PLACES

T = TypeVar("T")
PREFIX = "AFFILIATE_"
MAX_NUMBER = 1_000_000

#: Answers what is wrong with a value, in words that follow the setting's name, or "".
Rule = Callable[[Any], str]


def a_bool(value: Any) -> str:
    """Accept True and False, and nothing that merely behaves like them."""
    return "" if isinstance(value, bool) else "must be True or False"


def a_token(value: Any) -> str:
    """Accept a name that reads the same in a URL, a cookie and a session, however encoded."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.~-]{1,64}", value):
        return ""
    return "must be 1 to 64 letters, digits, or one of _ . ~ -"


def tokens(at_most: int) -> Rule:
    """Accept a sequence of up to `at_most` different names."""

    def rule(value: Any) -> str:
        if not isinstance(value, list | tuple) or len(value) > at_most:
            return f"must be a list or tuple of up to {at_most} names"
        for item in value:
            if problem := a_token(item):
                return f"holds {item!r}, but each name {problem}"
        return "" if len(set(value)) == len(value) else "must not name a parameter twice"

    return rule


def a_period(value: Any) -> str:
    """Accept a timedelta above zero that a date can still be moved by."""
    if isinstance(value, timedelta) and timedelta(0) < value <= timedelta(days=36_500):
        return ""
    return "must be a datetime.timedelta above zero and of at most 36,500 days"


def a_path(value: Any) -> str:
    """Accept a dotted path or a callable; whether the path resolves is the checks' to say."""
    if callable(value) or (isinstance(value, str) and "." in value.strip(".")):
        return ""
    return "must be a dotted path to a callable, or a callable"


def a_path_or_none(value: Any) -> str:
    """Accept None besides what `a_path` accepts."""
    return "" if value is None else a_path(value)


def a_policy(value: Any) -> str:
    """Accept the name of a policy of ours, or the path of the site's own."""
    return "" if value in ("last", "first") else a_path(value).replace("be", "be 'last', 'first',")


def allowed(value: Any) -> str:
    """Accept a sequence of hosts, addresses and networks, each with a port or without."""
    if not isinstance(value, list | tuple):
        return "must be a list or tuple of hosts and networks"
    for item in value:
        try:
            parse_allow(item)
        except (AttributeError, TypeError, ValueError) as error:
            what = f"which {error}" if isinstance(item, str) else "which is no text"
            return f"holds {item!r}, {what}"
    return ""


def a_proxy(value: Any) -> str:
    """Accept "" and the URL of an HTTP proxy, without a password."""
    if value == "":
        return ""
    try:
        parse_proxy(value if isinstance(value, str) else "")
    except ValueError as error:
        return str(error)
    return ""


def a_password(value: Any) -> str:
    """Accept "" and text that can stand in a header once it is encoded."""
    # RFC 7617, section 2: no control characters.
    if isinstance(value, str) and value.isprintable():
        return ""
    return "must be empty, or text of printable characters"


def a_currency(value: Any) -> str:
    """Accept an ISO 4217 code in capitals."""
    if isinstance(value, str) and value in DECIMAL_PLACES:
        return ""
    return "must be an ISO 4217 code in capitals, such as 'EUR'"


def a_rate(days: int) -> Rule:
    """Accept a pair of a whole number and a timedelta of at most so many days."""

    def rule(value: Any) -> str:
        if isinstance(value, list | tuple) and len(value) == 2:
            number, period = value
            if (
                not a_number(1, MAX_NUMBER)(number)
                and isinstance(period, timedelta)
                and timedelta(0) < period <= timedelta(days=days)
            ):
                return ""
        return (
            f"must be a pair of a whole number from 1 to {MAX_NUMBER:,} and a datetime.timedelta "
            f"above zero and of at most {days} days"
        )

    return rule


def a_number(least: int, most: int) -> Rule:
    """Accept a whole number between two."""

    def rule(value: Any) -> str:
        if type(value) is int and least <= value <= most:
            return ""
        return f"must be a whole number from {least} to {most}"

    return rule


def a_secret(value: Any) -> str:
    """Accept "" and text that nobody guesses."""
    if value == "" or (isinstance(value, str) and re.fullmatch(r"[!-~]{16,200}", value)):
        return ""
    return "must be empty, or 16 to 200 visible ASCII characters"


def secrets_by_host(value: Any) -> str:
    """Accept a dictionary of hosts, each with a token of printable ASCII."""
    if not isinstance(value, dict):
        return "must be a dictionary of hosts and their tokens"
    for host, token in value.items():
        if not (isinstance(host, str) and re.fullmatch(r"[a-z0-9.:\[\]_-]{1,255}", host)):
            return f"holds {host!r:.80}, which is no host in small letters"
        if not (isinstance(token, str) and re.fullmatch(r"[!-~]{1,500}", token)):
            return f"holds a token for {host} that is not 1 to 500 visible ASCII characters"
    return ""


def triggers(value: Any) -> str:
    """Accept a sequence; what is wrong inside an item, the trigger checks say item by item."""
    return "" if isinstance(value, list | tuple) else "must be a list or tuple of triggers"


class Setting(Generic[T]):
    """Read one setting at its use.

    The value is kept on the instance until Django announces a change: a look-up of a name that
    the site does not set costs 2.4 µs, most of what an untouched request may cost at all.
    """

    def __init__(self, default: T, rule: Rule, check_id: str, *, secret: bool = False) -> None:
        self.default = default
        self.rule = rule
        self.check_id = check_id
        self.secret = secret

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @property
    def setting(self) -> str:
        """The name that the site writes into its settings."""
        return PREFIX + self.name

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, instance: Group, owner: type) -> T: ...
    def __get__(self, instance: Group | None, owner: type) -> Setting[T] | T:
        if instance is None:
            return self
        value: T = getattr(django_settings, self.setting, self.default)
        instance.__dict__[self.name] = value
        return value


class Group:
    """Settings of one app, as attributes without the prefix."""

    def __init__(self) -> None:
        setting_changed.connect(self._forget_changed)

    @classmethod
    def declared(cls) -> list[Setting[Any]]:
        """Return every setting, in the order of the class."""
        return [value for value in vars(cls).values() if isinstance(value, Setting)]

    def _forget_changed(self, *, setting: str, **kwargs: Any) -> None:
        """Read a setting anew after `override_settings` and its kin have changed it."""
        self.__dict__.pop(setting.removeprefix(PREFIX), None)


class Settings(Group):
    """The core's settings."""

    QUERY_STRING_KEY = Setting("affiliate_id", a_token, "affiliations.E001")
    SESSION_KEY = Setting("affiliate_visitor_id", a_token, "affiliations.E002")
    WINDOW = Setting(timedelta(days=30), a_period, "affiliations.E003")
    ATTRIBUTION: Setting[Any] = Setting("last", a_policy, "affiliations.E004")
    SUBID_KEYS = Setting(
        ("sub1", "sub2", "sub3", "sub4", "sub5"), tokens(at_most=5), "affiliations.E005"
    )
    CLICK_ID_KEY = Setting("click_id", a_token, "affiliations.E006")
    CONSENT: Setting[Any] = Setting(None, a_path_or_none, "affiliations.E007")
    HONOUR_GPC = Setting(True, a_bool, "affiliations.E008")
    COOKIE = Setting(False, a_bool, "affiliations.E009")
    COOKIE_NAME = Setting("affiliate_ident", a_token, "affiliations.E010")
    END_ON_SUCCESS = Setting(False, a_bool, "affiliations.E011")
    RAISE_TRIGGER_ERRORS = Setting(False, a_bool, "affiliations.E012")
    TRIGGERS: Setting[Any] = Setting((), triggers, "affiliations.E013")
    CALLBACK_ALLOW: Setting[Any] = Setting((), allowed, "affiliations.E014")
    CALLBACKS_PER_HOST = Setting(4, a_number(1, 1000), "affiliations.E015")
    EGRESS_PROXY = Setting("", a_proxy, "affiliations.E016", secret=True)
    EGRESS_PROXY_PASSWORD = Setting("", a_password, "affiliations.E018", secret=True)
    CALLBACK_TOKENS: Setting[Any] = Setting({}, secrets_by_host, "affiliations.E019", secret=True)
    METRICS_TOKEN = Setting("", a_secret, "affiliations.E017", secret=True)


settings = Settings()
