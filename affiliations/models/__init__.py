"""The core's tables."""

from ..exceptions import InvalidCallBackURL, InvalidCallbackURL
from .callbacks import Callback, CallbackAttempt, Destination
from .conversions import Conversion, Reversal, Share
from .keys import ApiKey
from .partners import Partner, Subscription
from .visitors import Visitor

__all__ = [
    "ApiKey",
    "Callback",
    "CallbackAttempt",
    "Conversion",
    "Destination",
    "InvalidCallBackURL",
    "InvalidCallbackURL",
    "Partner",
    "Reversal",
    "Share",
    "Subscription",
    "Visitor",
]
