"""What campaigns there are, and who has seen what of them."""

from .assignments import Assignment
from .campaigns import Campaign, CampaignVersion, Environment, Exclusion, Variation, VariationGroup

__all__ = [
    "Assignment",
    "Campaign",
    "CampaignVersion",
    "Environment",
    "Exclusion",
    "Variation",
    "VariationGroup",
]
