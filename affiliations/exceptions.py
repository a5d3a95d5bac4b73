"""Errors that callers may catch; each is also the builtin that they would expect."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AffiliationsError",
    "InvalidApiKey",
    "InvalidCallBackURL",
    "InvalidCallbackURL",
    "InvalidMoney",
    "InvalidShares",
    "InvalidSignature",
    "InvalidTransition",
    "RefusedDestination",
    "UnknownPartner",
]


class AffiliationsError(Exception):
    """The base of every error of the suite; never raised itself."""

    #: Names the error to programs; never changes, while messages may.
    code: ClassVar[str] = "affiliations_error"


class InvalidApiKey(AffiliationsError, PermissionError):
    """An API key is unknown, revoked, or lacks the scope that is asked for."""

    code = "invalid_api_key"


class InvalidCallbackURL(AffiliationsError, ValueError):
    """A callback URL does not follow the grammar of `affiliations.callbackurl`."""

    code = "invalid_callback_url"


class InvalidMoney(AffiliationsError, ValueError):
    """An amount or a currency cannot be money, or two currencies were mixed."""

    code = "invalid_money"


class InvalidShares(AffiliationsError, ValueError):
    """Weights cannot divide anything: none, a negative one, or nothing but zeros."""

    code = "invalid_shares"


class InvalidSignature(AffiliationsError, ValueError):
    """A message was not signed by whom it should be, was changed, or is too old."""

    code = "invalid_signature"


class InvalidTransition(AffiliationsError, RuntimeError):
    """A row has left the state that a change starts from; another change was faster."""

    code = "invalid_transition"


class RefusedDestination(AffiliationsError, ValueError):
    """A call leads where no partner can be: an inner address, this site, a closed port."""

    code = "refused_destination"


class UnknownPartner(AffiliationsError, LookupError):
    """There is no such partner."""

    code = "unknown_partner"


#: The spelling of django-affiliate-tracking.
InvalidCallBackURL = InvalidCallbackURL
