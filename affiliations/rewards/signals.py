"""Declare what the rewards announce, always inside the transaction that wrote it."""

from __future__ import annotations

from ..signals import GuardedSignal

__all__ = ["entry_posted", "payout_settled"]

#: entry: a line was added to the ledger.
entry_posted = GuardedSignal()

#: payout: it was paid, or has failed; and once more where what was paid came back.
payout_settled = GuardedSignal()
