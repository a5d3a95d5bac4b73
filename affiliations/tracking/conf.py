"""Hold the settings of the tracking: name, default, rule and check id, one line each."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..conf import Group, Setting, a_password, a_path_or_none

__all__ = ["DATABASE", "Rate", "a_rate_or_none", "rate_of", "read_rate", "settings"]

#: What AFFILIATE_TRACKING_SINK is by default: hits are written where they are told.
DATABASE = "database"

#: Characters of a public key.
MAX_KEY = 64
_KEY = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_KEY}}}")
_RATE = re.compile(r"([1-9][0-9]{0,8})/([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
#: How often somebody may write, where the site does not say.
LIMITS = {"address": "20000/h", "key": None}


class Rate(NamedTuple):
    """So many times within so many seconds."""

    number: int
    seconds: int


def a_public_key(value: Any) -> str:
    """Accept a public key, or "" for none."""
    if isinstance(value, str) and (not value or _KEY.fullmatch(value)):
        return ""
    return f"must be empty, or 1 to {MAX_KEY} letters, digits, - and _ of ASCII"


def a_share(value: Any) -> str:
    """Accept a number from 0 to 1."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return ""
    return "must be a number from 0 to 1"


def paths(value: Any) -> str:
    """Accept a sequence of paths of this site."""
    if isinstance(value, list | tuple) and all(
        isinstance(each, str) and each.startswith("/") for each in value
    ):
        return ""
    return "must be a list or tuple of paths that begin with /"


def a_rate_or_none(value: Any) -> str:
    """Accept what `read_rate` reads, and None for no limit."""
    if value is None or (isinstance(value, str) and _RATE.fullmatch(value)):
        return ""
    return "must be 'N/s', 'N/m', 'N/h', 'N/d' or None"


def some_limits(value: Any) -> str:
    """Accept a dictionary with some of LIMITS, each a rate, or None for no limit."""
    if not isinstance(value, dict) or not value.keys() <= LIMITS.keys():
        return "must be a dictionary that has no other keys than 'address' and 'key'"
    for name, each in value.items():
        if problem := a_rate_or_none(each):
            return f"holds {each!r:.80} as {name}, but {problem.replace('be', 'hold', 1)}"
    return ""


@lru_cache(maxsize=16)
def read_rate(text: str) -> Rate:
    """Return the rate that a text such as "100/m" is."""
    number, unit = text.split("/")
    return Rate(int(number), _SECONDS[unit])


def rate_of(limit: str) -> Rate | None:
    """Return one of LIMITS as the site has it, None where there is none."""
    text = settings.TRACKING_LIMITS.get(limit, LIMITS[limit])
    return read_rate(text) if text else None


def a_key(value: Any) -> str:
    """Accept what may be a key in Redis."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9:._{}-]{1,100}", value):
        return ""
    return "must be 1 to 100 letters, digits, or one of : . _ - { }"


def a_sink(value: Any) -> str:
    """Accept "database", and the URL of a Redis without a password."""
    if value == DATABASE:
        return ""
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        fits = parts.scheme in ("redis", "rediss", "unix") and bool(parts.netloc or parts.path)
        has_password = parts.password is not None or "password=" in parts.query
    except ValueError:
        fits = has_password = False
    if fits and has_password:
        return "must be without a password, which AFFILIATE_TRACKING_SINK_PASSWORD is for"
    return "" if fits else "must be 'database', or a URL such as 'redis://127.0.0.1:6379/0'"


class TrackingSettings(Group):
    """The tracking's settings."""

    TRACKING_PROPERTY = Setting("", a_public_key, "affiliations_tracking.E001")
    TRACKING_CLIENT_IDS: Setting[Any] = Setting(None, a_path_or_none, "affiliations_tracking.E002")
    TRACKING_SAMPLE = Setting(1.0, a_share, "affiliations_tracking.E005")
    TRACKING_EXCLUDE: Setting[Any] = Setting(("/admin/",), paths, "affiliations_tracking.E006")
    TRACKING_LIMITS: Setting[Any] = Setting(LIMITS, some_limits, "affiliations_tracking.E007")
    TRACKING_SINK = Setting(DATABASE, a_sink, "affiliations_tracking.E008", secret=True)
    TRACKING_SINK_PASSWORD = Setting("", a_password, "affiliations_tracking.E009", secret=True)
    TRACKING_STREAM = Setting("affiliations:hits", a_key, "affiliations_tracking.E010")


settings = TrackingSettings()
