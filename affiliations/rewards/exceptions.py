"""Errors of the rewards that callers may catch; each is also the builtin that they would expect."""

from __future__ import annotations

from ..exceptions import AffiliationsError

__all__ = ["InsufficientBalance", "InvalidResultFile"]


class InsufficientBalance(AffiliationsError, ValueError):
    """More was to be spent than is available."""

    code = "insufficient_balance"


class InvalidResultFile(AffiliationsError, ValueError):
    """What a provider is said to have answered cannot be read, or cannot be so."""

    code = "invalid_result_file"
