"""Declare what the links announce, always inside the transaction that wrote it."""

from __future__ import annotations

from ..signals import GuardedSignal

__all__ = ["transaction_completed", "transaction_refunded"]

#: transaction: its purchase is recorded, with its conversion and relay.
transaction_completed = GuardedSignal()

#: transaction: its purchase was taken back, and the payout is held.
transaction_refunded = GuardedSignal()
