"""Erase the addresses of people whom members would bring, and who never came."""

from __future__ import annotations

from typing import Any

from ....management.purging import PurgeCommand
from ...privacy import purge_indications


class Command(PurgeCommand):
    """Erase addresses that were indicated long ago, and that nobody has registered with."""

    help = __doc__
    unit = "addresses"
    verb = "erased"

    def purge(self, *args: Any, **options: Any) -> int:
        """Erase them."""
        return purge_indications(*args, **options)
