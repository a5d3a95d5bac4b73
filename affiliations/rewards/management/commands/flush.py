"""Empty all tables, the ledger's too: Django's own command, which its tests run between two others.

The database refuses that anything is deleted from the ledger; whoever orders this means it.
"""

from __future__ import annotations

from typing import Any

from django.core.management.commands import flush
from django.db import connections

from ... import protection


class Command(flush.Command):
    """Django's own, with the ledger unprotected for as long as it takes."""

    def handle(self, **options: Any) -> None:
        """Empty the tables."""
        with protection.lifted(connections[options["database"]]):
            super().handle(**options)
