"""Delete old transactions that came to nothing."""

from __future__ import annotations

from typing import Any

from ....management.purging import PurgeCommand
from ...privacy import purge_transactions


class Command(PurgeCommand):
    """Delete transactions whose last click is old, and of which nobody was paid."""

    help = __doc__
    unit = "transactions"

    def purge(self, *args: Any, **options: Any) -> int:
        """Delete them."""
        return purge_transactions(*args, **options)
