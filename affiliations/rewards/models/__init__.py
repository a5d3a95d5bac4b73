"""The rewards' tables."""

from .ledger import Account, Commission, Entry, Snapshot
from .payouts import Method, Payout, PayoutBatch, PayoutDestination, PayoutEntry
from .reviews import PartnerNetwork, Review
from .rules import CommissionRule, PartnerGroup

__all__ = [
    "Account",
    "Commission",
    "CommissionRule",
    "Entry",
    "Method",
    "PartnerGroup",
    "PartnerNetwork",
    "Payout",
    "PayoutBatch",
    "PayoutDestination",
    "PayoutEntry",
    "Review",
    "Snapshot",
]
