"""Delete networks that partners' people were seen in long ago."""

from __future__ import annotations

from typing import Any

from ....management.purging import PurgeCommand
from ...privacy import purge_networks


class Command(PurgeCommand):
    """Delete digests of networks that no partner's people have logged in from since."""

    help = __doc__
    unit = "networks"

    def purge(self, *args: Any, **options: Any) -> int:
        """Delete them."""
        return purge_networks(*args, **options)
