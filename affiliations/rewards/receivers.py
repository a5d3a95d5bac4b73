"""React to the signals of Django and of the core."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from django.contrib.auth.signals import user_logged_in

from ..models import Conversion, Share
from ..services import guarded
from ..signals import conversion_recorded, conversion_reversed, user_exported, user_forgotten
from . import commissions, flags, privacy, reviews


def earn(*, conversion: Conversion, shares: Sequence[Share], **kwargs: Any) -> None:
    """Post what the conversion's partners have earned."""
    commissions.earn(conversion, shares)


def take_back(*, conversion: Conversion, **kwargs: Any) -> None:
    """Post what they have lost of it; where that is all, nobody has to look at it any more."""
    commissions.take_back(conversion)
    reviews.close(conversion)


def see_network(*, request: Any, user: Any, **kwargs: Any) -> None:
    """Know the networks of partners' people again."""
    if request is not None and flags.sees_networks():
        guarded(partial(flags.see_network, request, user), "A partner's network was not noted")


RECEIVERS = (
    (conversion_recorded, earn),
    (conversion_reversed, take_back),
    (user_logged_in, see_network),
    (user_exported, privacy.export),
    (user_forgotten, privacy.forget),
)


def connect() -> None:
    """Connect everything in this module, once."""
    for signal, receiver in RECEIVERS:
        signal.connect(receiver, dispatch_uid=f"affiliations.rewards.{receiver.__name__}")


def disconnect() -> None:
    """Let conversions earn nothing, as if the app was not installed."""
    for signal, receiver in RECEIVERS:
        signal.disconnect(dispatch_uid=f"affiliations.rewards.{receiver.__name__}")
