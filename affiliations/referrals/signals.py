"""Declare what the referrals announce, always inside the transaction that wrote it."""

from __future__ import annotations

from ..signals import GuardedSignal

__all__ = ["credit_acquired", "credit_lost", "member_registered"]

#: member: somebody is a member, with or without an indicator.
member_registered = GuardedSignal()

#: member (who has paid enough), operations (one for each who is credited for it).
credit_acquired = GuardedSignal()

#: member (who has paid enough no more), operations (one for each who loses what that was worth).
credit_lost = GuardedSignal()
