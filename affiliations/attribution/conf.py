"""Hold the settings of the attribution: name, default, rule and check id, one line each."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from ..conf import Group, Setting, a_period
from .rules import Parameters

__all__ = ["parameters", "settings"]


def two_weights(value: Any) -> str:
    """Accept a pair of numbers above 0 whose sum is at most 1."""
    if isinstance(value, list | tuple) and len(value) == 2:
        numbers = [each for each in value if type(each) in (int, float) and each > 0]
        if len(numbers) == 2 and sum(numbers) <= 1:
            return ""
    return "must be a pair of numbers above 0 whose sum is at most 1"


def a_size(value: Any) -> str:
    """Accept a size of memory, such as "1GB"."""
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,5}(MB|GB)", value):
        return ""
    return "must be a size such as '512MB' or '1GB'"


def a_directory(value: Any) -> str:
    """Accept "" and the path of a directory."""
    if (
        value == ""
        or hasattr(value, "__fspath__")
        or (isinstance(value, str) and "\0" not in value)
    ):
        return ""
    return "must be empty, or the path of a directory"


class AttributionSettings(Group):
    """The attribution's settings."""

    ATTRIBUTION_LOOKBACK = Setting(timedelta(days=30), a_period, "affiliations_attribution.E001")
    ATTRIBUTION_HALF_LIFE = Setting(timedelta(days=7), a_period, "affiliations_attribution.E002")
    ATTRIBUTION_POSITION: Setting[Any] = Setting(
        (0.4, 0.4), two_weights, "affiliations_attribution.E003"
    )
    ATTRIBUTION_MEMORY = Setting("1GB", a_size, "affiliations_attribution.E004")
    ATTRIBUTION_EXPORT: Setting[Any] = Setting("", a_directory, "affiliations_attribution.E005")


settings = AttributionSettings()


def parameters() -> Parameters:
    """Return what the site has chosen of the rules."""
    first, last = settings.ATTRIBUTION_POSITION
    half_life = settings.ATTRIBUTION_HALF_LIFE // timedelta(microseconds=1)
    return Parameters(first, last, half_life)
