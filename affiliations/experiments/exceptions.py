"""What can go wrong with experiments."""

from __future__ import annotations

from ..exceptions import AffiliationsError

__all__ = [
    "InvalidCampaign",
    "InvalidModifications",
    "InvalidResults",
    "InvalidTargeting",
    "UnknownCampaign",
]


class InvalidCampaign(AffiliationsError, ValueError):
    """A campaign cannot be shown as it is; the message begins with the field's name."""

    code = "invalid-campaign"


class InvalidModifications(AffiliationsError, ValueError):
    """Modifications are no JSON object that every client can read."""

    code = "invalid-modifications"


class InvalidResults(AffiliationsError, ValueError):
    """Results cannot be asked for like this; the message begins with the argument's name."""

    code = "invalid-results"


class InvalidTargeting(AffiliationsError, ValueError):
    """Targeting is no list of lists of conditions; the message says where."""

    code = "invalid-targeting"


class UnknownCampaign(AffiliationsError, LookupError):
    """There is no such campaign, or none of the caller's."""

    code = "unknown-campaign"
