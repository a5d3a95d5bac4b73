"""Send what invitations are due."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from ... import mails


class Command(BaseCommand):
    """Write to the people whom members have invited, where no task has done so yet."""

    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        """Send them, and say how many."""
        self.stdout.write(f"{mails.send_due()} invitations sent.")
