"""Recompute all that was earned, posted and paid out, and say what differs.

Nothing is taken for granted but conversions, their shares and published rules. Who belonged to a
group, or to a partner's own people, at some moment in the past is nowhere kept, so that of these
the commissions' own records are believed; and so is what a partner had brought until then.
"""

from .differences import Difference
from .runs import Audit, post_missing

__all__ = ["Audit", "Difference", "post_missing"]
