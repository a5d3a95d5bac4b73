"""What staff do about rewards: agree on rules, look at accounts, decide on reviews, and pay."""

from . import accounts, destinations, payout_batches, payouts, reviews, rules

__all__ = ["accounts", "destinations", "payout_batches", "payouts", "reviews", "rules"]
