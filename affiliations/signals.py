"""Declare what the core announces, always inside the transaction that wrote it."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.dispatch import Signal

from . import savepoints

__all__ = [
    "callbacks_enqueued",
    "conversion_recorded",
    "conversion_reversed",
    "user_exported",
    "user_forgotten",
    "visitor_identified",
    "visitor_registered",
]


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
            called = _complain if receiver in async_receivers else receiver
            savepoints.guarded(
                partial(called, signal=self, sender=sender, **named),
                f"A receiver failed and was undone: {receiver!r}",
                using,
            )


def _complain(**named: Any) -> None:
    raise TypeError("it is async; connect a plain function")


#: visitor: somebody arrived through a partner's link.
visitor_registered = GuardedSignal()

#: ident ("" without a cookie), user: a browser has become a user.
visitor_identified = GuardedSignal()

#: conversion, shares (with visitors and partners at hand): they and its callbacks are written.
conversion_recorded = GuardedSignal()

#: conversion, reversal: some of it no longer counts, or, once its `reversed_on` is set, nothing.
conversion_reversed = GuardedSignal()

#: user, idents (of the user's browsers), data (to add to, under a key of the app's own): what is
#: held on a user is being collected. A failing receiver fails the export: it must not be silent.
user_exported = Signal()

#: user, idents, counts (to add to): a user is being erased. A failing receiver undoes all of it.
user_forgotten = Signal()

#: callbacks: rows of the outbox that wait for their delivery. Whoever listens defers to the commit
#: and writes nothing, so that no savepoint has to be paid for at each conversion.
callbacks_enqueued = Signal()
