"""Delete old visitors that came to nothing."""

from __future__ import annotations

from typing import Any

from ...privacy import purge_visitors
from ..purging import PurgeCommand


class Command(PurgeCommand):
    """Delete visitors whose last click is old, and who came to nothing."""

    help = __doc__
    unit = "visitors"

    def purge(self, *args: Any, **options: Any) -> int:
        """Delete them."""
        return purge_visitors(*args, **options)
