"""The tracking's tables."""

from .customers import Customer, Identity
from .properties import EventType, Property, make_public_key

__all__ = ["Customer", "EventType", "Identity", "Property", "make_public_key"]
