"""Sum amounts of minor units exactly, also where the sum is larger than any of them may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models

__all__ = ["halves", "joined"]

#: Each amount is taken apart by it, as SQLite cannot add beyond 2**63.
PART = 10**9


def halves(name: str, amount: Any, **options: Any) -> dict[str, Any]:
    """Return what to aggregate for the sum of `amount`, a field or an expression, as `name`.

    `options` are those of Sum, such as `filter`.
    """
    amount = models.F(amount) if isinstance(amount, str) else amount
    low = amount % PART
    return {
        f"{name}_low": models.Sum(low, **options),
        f"{name}_high": models.Sum((amount - low) / PART, **options),
    }


def joined(row: Mapping[str, Any], name: str) -> int:
    """Return the sum called `name` of what was aggregated; of no rows it is 0."""
    return int(row[f"{name}_high"] or 0) * PART + int(row[f"{name}_low"] or 0)
