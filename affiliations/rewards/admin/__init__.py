"""What staff do about rewards: agree on rules, look at accounts, decide on reviews, and pay."""

from . import (
    accounts,
    commissions,
    destinations,
    groups,
    payout_batches,
    payouts,
    reviews,
    rules,
)

__all__ = [
    "accounts",
    "commissions",
    "destinations",
    "groups",
    "payout_batches",
    "payouts",
    "reviews",
    "rules",
]
