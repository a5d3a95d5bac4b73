"""Why a link cannot be, or a purchase cannot be paid out; each is also the builtin expected."""

from __future__ import annotations

from ..exceptions import AffiliationsError, InvalidMoney

__all__ = [
    "AlreadyFulfilled",
    "AmountNotPositive",
    "BelowFloorPrice",
    "BelowServiceFee",
    "CurrencyMismatch",
    "IdempotencyConflict",
    "InvalidAmount",
    "InvalidLink",
    "InvalidPurchase",
    "NoOpenTransaction",
    "NotCompleted",
    "NothingToRefund",
    "UnknownLink",
    "UnreadableFile",
]


class InvalidLink(AffiliationsError, ValueError):
    """A link cannot be as it is given; `errors` has the problems of each field, by its name."""

    code = "invalid-link"

    def __init__(self, errors: dict[str, list[str]]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{name}: {' '.join(said)}" for name, said in errors.items()))


class UnreadableFile(AffiliationsError, ValueError):
    """A file is not what links can be read from; says why in words for staff."""

    code = "unreadable-file"


class UnknownLink(AffiliationsError, LookupError):
    """There is no link with this path, or not any more."""

    code = "unknown-link"


class NotCompleted(AffiliationsError):
    """The base of why a purchase is not paid out; never raised itself."""

    code = "not-completed"


class InvalidAmount(NotCompleted, InvalidMoney):
    """The amount is none, or has more decimal places than its currency."""

    code = "invalid_money"


class InvalidPurchase(NotCompleted, ValueError):
    """What is said of the purchase besides its amount cannot be kept."""

    code = "invalid-purchase"


class NoOpenTransaction(NotCompleted, LookupError):
    """The user came to the item through no link."""

    code = "no-open-transaction"


class AlreadyFulfilled(NotCompleted, RuntimeError):
    """What the user came through was fulfilled before, by another purchase or without one."""

    code = "already-fulfilled"


class IdempotencyConflict(NotCompleted, ValueError):
    """The order, or the idempotency key, was completed before with something else in it."""

    code = "idempotency-conflict"


class AmountNotPositive(NotCompleted, ValueError):
    """The amount is zero, or less."""

    code = "amount-not-positive"


class BelowFloorPrice(NotCompleted, ValueError):
    """The amount does not exceed the link's floor price."""

    code = "below-floor-price"


class BelowServiceFee(NotCompleted, ValueError):
    """The amount does not exceed the site's minimum service fee."""

    code = "below-service-fee"


class CurrencyMismatch(NotCompleted, ValueError):
    """The amount is in another currency than the link's floor price."""

    code = "currency-mismatch"


class NothingToRefund(AffiliationsError, LookupError):
    """No completed purchase of the user's is there to refund."""

    code = "nothing-to-refund"
