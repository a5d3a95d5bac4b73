"""The rewards' tables."""

from .ledger import Account, Commission, Entry, Snapshot
from .payouts import Destination, Method, Payout, PayoutBatch, PayoutEntry
from .reviews import PartnerNetwork, Review
from .rules import CommissionRule, PartnerGroup

__all__ = [
    "Account",
    "Commission",
    "CommissionRule",
    "Destination",
    "Entry",
    "Method",
    "PartnerGroup",
    "PartnerNetwork",
    "Payout",
    "PayoutBatch",
    "PayoutEntry",
    "Review",
    "Snapshot",
]
