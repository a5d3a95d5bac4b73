"""Mail the refunds that nobody was told of yet: after a mail server was down, say."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from ... import alerts


class Command(BaseCommand):
    """Mail AFFILIATE_REFUND_ALERTS of what they have not been told of."""

    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        """Send what is due; raises what the mail server's refusal raises."""
        sent = alerts.send_due()
        self.stdout.write(f"{sent} refund{'' if sent == 1 else 's'} mailed")
