"""React to the signals of the core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..models import Conversion, Share
from ..signals import conversion_recorded, conversion_reversed
from . import commissions


def earn(*, conversion: Conversion, shares: Sequence[Share], **kwargs: Any) -> None:
    """Post what the conversion's partners have earned."""
    commissions.earn(conversion, shares)


def take_back(*, conversion: Conversion, **kwargs: Any) -> None:
    """Post what they have lost of it."""
    commissions.take_back(conversion)


def connect() -> None:
    """Connect everything in this module, once."""
    conversion_recorded.connect(earn, dispatch_uid="affiliations.rewards.earn")
    conversion_reversed.connect(take_back, dispatch_uid="affiliations.rewards.take_back")


def disconnect() -> None:
    """Let conversions earn nothing, as if the app was not installed."""
    conversion_recorded.disconnect(dispatch_uid="affiliations.rewards.earn")
    conversion_reversed.disconnect(dispatch_uid="affiliations.rewards.take_back")
