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


class TrackingSettings(Group):
    """The tracking's settings."""

    TRACKING_PROPERTY = Setting("", a_public_key, "affiliations_tracking.E001")
    TRACKING_CLIENT_IDS: Setting[Any] = Setting(None, a_path_or_none, "affiliations_tracking.E002")


settings = TrackingSettings()
