"""What the API says of what it has not done."""

from __future__ import annotations

from ..exceptions import AffiliationsError, InvalidMoney
from ..restrefusals import Refusals
from .exceptions import (
    AlreadyFulfilled,
    IdempotencyConflict,
    InvalidLink,
    NoOpenTransaction,
    NotCompleted,
    NothingToRefund,
    UnknownLink,
)
from .schemas import NAMES

__all__ = ["LinksRefusals"]

STATUSES: dict[type[AffiliationsError], int] = {
    UnknownLink: 404,
    NoOpenTransaction: 404,
    NothingToRefund: 404,
    AlreadyFulfilled: 409,
    IdempotencyConflict: 409,
    NotCompleted: 422,
    InvalidLink: 422,
    InvalidMoney: 422,
}


class LinksRefusals(Refusals):
    """Problems, with the fields as the document spells them."""

    statuses = STATUSES
    names = NAMES
