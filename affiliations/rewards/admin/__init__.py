"""What staff do about rewards: agree on rules, look at accounts, decide on reviews, and pay."""

from . import accounts, commissions, payouts, reviews, rules

__all__ = ["accounts", "commissions", "payouts", "reviews", "rules"]
