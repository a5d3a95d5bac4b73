"""Which touchpoints earned the conversions.

from affiliations import attribution
attribution.attribute(model="linear", since=first, until=last, by="channel")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .reports import attribute, compare, durations, top_paths

__all__ = ["attribute", "compare", "durations", "top_paths"]


def __getattr__(name: str) -> Any:
    # Found when it is first used: Django imports this before there may be any models, and a site
    # that makes no report need not wait for Ibis.
    if name in __all__:
        return getattr(import_module(".reports", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
