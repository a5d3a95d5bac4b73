"""What can go wrong in a program that uses the Flagship API; the names are those of 2.1.5."""

from __future__ import annotations

from ...exceptions import AffiliationsError

__all__ = ["InitializationError", "ParamError", "TypingError"]


class InitializationError(AffiliationsError, RuntimeError):
    """Flagship has not been started, or cannot be started like this."""

    code = "flagship-not-started"


class TypingError(AffiliationsError, TypeError):
    """An argument has another type; the message begins with the argument's name."""

    code = "flagship-type"


class ParamError(AffiliationsError, ValueError):
    """An argument's value cannot be; the message begins with the argument's name."""

    code = "flagship-value"
