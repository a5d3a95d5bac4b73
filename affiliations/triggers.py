"""Tie Django signals to conversions, as `AFFILIATE_TRIGGERS` declares them.

A receiver decides whether its trigger's conditions are met, and then calls `complete_trigger`. It
is called with the signal's own arguments and `affiliate_trigger_name`.

Settings import `Trigger` from here, before there are any models. All else needs them, and so is
taken from `firing` when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .firing import (
        acomplete_trigger,
        complete_trigger,
        object_created,
        object_saved,
        signal_sent,
        user_logged_in,
    )

__all__ = [
    "Trigger",
    "acomplete_trigger",
    "complete_trigger",
    "object_created",
    "object_saved",
    "signal_sent",
    "user_logged_in",
]

#: Where an option's value is found on the signal's instance: an attribute path such as
#: "cart.owner", or a callable that is given the instance.
Finder = str | Callable[[Any], Any] | None


class Trigger(NamedTuple):
    """One item of `AFFILIATE_TRIGGERS`; a plain tuple of the first four is one too.

    - name: what staff and partners call it.
    - signal, receiver: dotted paths.
    - sender: a dotted path, "app_label.Model", "AUTH_USER_MODEL", a class, or None for any.
    - user, visitor: find whom the instance belongs to. Without `user`, that is the instance itself
      if it is a user, or else its `user`.
    - amount, currency: find what it was worth, in major units, as a Decimal, an int or a str;
      `currency` may also be an ISO 4217 code itself.
    - reference: finds what identifies it; without one, its model and primary key do.
    - repeat: whether every reference converts, or only a person's first.
    """

    name: str
    signal: Any
    receiver: Any
    sender: Any
    user: Finder = None
    visitor: Finder = None
    amount: Finder = None
    currency: Finder = None
    reference: Finder = None
    repeat: bool = True


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("affiliations.firing"), name)
