"""The tracking's tables."""

from .customers import Customer, Identity
from .hits import Hit, HitKey
from .properties import EventType, Property, make_public_key

__all__ = ["Customer", "EventType", "Hit", "HitKey", "Identity", "Property", "make_public_key"]
