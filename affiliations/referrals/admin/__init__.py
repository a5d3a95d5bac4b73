"""What staff do about referrals: promise something, and look at who has brought whom."""

from . import members, programs

__all__ = ["members", "programs"]
