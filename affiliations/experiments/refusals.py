"""What the API says of what it has not done."""

from __future__ import annotations

from ..exceptions import AffiliationsError, InvalidMoney
from ..restrefusals import Refusals
from .exceptions import InvalidResults, UnknownCampaign

__all__ = ["ExperimentsRefusals"]

STATUSES: dict[type[AffiliationsError], int] = {
    UnknownCampaign: 404,
    InvalidResults: 422,
    InvalidMoney: 422,
}
#: What a field of a service is called here.
NAMES = {"amount": ("cap",)}


class ExperimentsRefusals(Refusals):
    """Problems, with the fields as the document spells them."""

    statuses = STATUSES
    names = NAMES
