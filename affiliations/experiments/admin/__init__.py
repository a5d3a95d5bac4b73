"""What staff see: campaigns to draft and put into force, and who has seen what of them."""

from . import assignments, campaigns, environments, exclusions, groups

__all__ = ["assignments", "campaigns", "environments", "exclusions", "groups"]
