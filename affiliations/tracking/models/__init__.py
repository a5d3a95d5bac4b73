"""The tracking's tables."""

from .customers import Customer, Identity
from .hits import Erased, Hit, HitKey
from .limits import Allowance
from .properties import EventType, Property, make_public_key

__all__ = [
    "Allowance",
    "Customer",
    "Erased",
    "EventType",
    "Hit",
    "HitKey",
    "Identity",
    "Property",
    "make_public_key",
]
