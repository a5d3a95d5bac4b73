"""Declare what the core announces, always inside the transaction that wrote it."""

from __future__ import annotations

import logging
from typing import Any

from django.db import transaction
from django.dispatch import Signal

__all__ = [
    "callbacks_enqueued",
    "conversion_recorded",
    "conversion_reversed",
    "visitor_identified",
    "visitor_registered",
]

logger = logging.getLogger(__name__)


class GuardedSignal(Signal):
    """A signal whose receivers cannot harm what it announces, nor each other.

    Each receiver runs in a savepoint of its own: what a failing one wrote is undone, the failure
    is logged with its traceback, and the caller's transaction stays usable. Django's own
    `send_robust` catches the exception, but leaves a broken transaction behind.
    """

    def announce(self, sender: Any, *, using: str, **named: Any) -> None:
        """Send to every receiver, each guarded by a savepoint on the database `using`."""
        if not self.has_listeners(sender):
            return
        receivers, async_receivers = self._live_receivers(sender)
        for receiver in [*receivers, *async_receivers]:
            try:
                with transaction.atomic(using=using):
                    if receiver in async_receivers:
                        raise TypeError(f"{receiver!r} is async; connect a plain function")
                    receiver(signal=self, sender=sender, **named)
            except Exception:
                logger.exception("A receiver failed and was undone: %r", receiver)


#: visitor: somebody arrived through a partner's link.
visitor_registered = GuardedSignal()

#: ident ("" without a cookie), user: a browser has become a user.
visitor_identified = GuardedSignal()

#: conversion: its shares and callbacks are written.
conversion_recorded = GuardedSignal()

#: conversion: it no longer counts.
conversion_reversed = GuardedSignal()

#: callbacks: rows of the outbox that wait for their delivery. Whoever listens defers to the commit
#: and writes nothing, so that no savepoint has to be paid for at each conversion.
callbacks_enqueued = Signal()
