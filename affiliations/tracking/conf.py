"""Hold the settings of the tracking: name, default, rule and check id, one line each."""

from __future__ import annotations

import re
from typing import Any

from ..conf import Group, Setting, a_path_or_none

__all__ = ["settings"]

#: Characters of a public key.
MAX_KEY = 64
_KEY = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_KEY}}}")


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


class TrackingSettings(Group):
    """The tracking's settings."""

    TRACKING_PROPERTY = Setting("", a_public_key, "affiliations_tracking.E001")
    TRACKING_CLIENT_IDS: Setting[Any] = Setting(None, a_path_or_none, "affiliations_tracking.E002")
    TRACKING_SAMPLE = Setting(1.0, a_share, "affiliations_tracking.E005")
    TRACKING_EXCLUDE: Setting[Any] = Setting(("/admin/",), paths, "affiliations_tracking.E006")


settings = TrackingSettings()
