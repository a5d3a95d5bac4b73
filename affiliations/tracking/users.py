"""What users of the site go by: their key, and whatever its programs call them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils.module_loading import import_string

from .conf import settings
from .exceptions import InvalidName
from .identities import Kind, Name, name

__all__ = ["names_of", "usable"]


def names_of(user: Any) -> list[Name]:
    """Return the names of a user, the key first, and then what AFFILIATE_TRACKING_CLIENT_IDS says.

    What nobody could be known by is left out.
    """
    hook = settings.TRACKING_CLIENT_IDS
    if isinstance(hook, str):
        hook = import_string(hook)
    ids = hook(user) if hook is not None else ()
    return usable([(Kind.USER, str(user.pk)), *((Kind.CLIENT, each) for each in ids)])


def usable(told: Iterable[tuple[str, Any]]) -> list[Name]:
    """Return the names that kinds and values are, without those that nobody could be known by."""
    found = []
    for kind, value in told:
        try:
            found.append(name(kind, value))
        except InvalidName:
            continue
    return found
