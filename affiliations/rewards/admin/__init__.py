"""What staff do about rewards: agree on rules, look at accounts, decide on reviews, and pay."""

from . import accounts, commissions, groups, payouts, reviews, rules

__all__ = ["accounts", "commissions", "groups", "payouts", "reviews", "rules"]
