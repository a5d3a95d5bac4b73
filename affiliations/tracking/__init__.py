"""Who somebody is, and what they did.

from affiliations import tracking
tracking.hit(request, "purchase", value=Money(1990, "EUR"), transaction_id=order.number)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .recording import hit

__all__ = ["hit"]


def __getattr__(name: str) -> Any:
    # Found when it is first used: Django imports this before there may be any models.
    if name in __all__:
        return getattr(import_module(".recording", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
