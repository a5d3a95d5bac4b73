"""Errors of the attribution that callers may catch; each is also the builtin they would expect."""

from __future__ import annotations

from ..exceptions import AffiliationsError

__all__ = ["InvalidReport", "UnreadableExport"]


class InvalidReport(AffiliationsError, ValueError):
    """No report can be made of what was asked for; the message names the argument."""

    code = "invalid_attribution_report"


def too_much() -> InvalidReport:
    """Return what is wrong with amounts whose sum no column holds."""
    return InvalidReport("since: the amounts add up to more than 2^63 minor units")


class UnreadableExport(AffiliationsError, ValueError):
    """What is to be read is no export of touchpoints, or one of another version."""

    code = "unreadable_export"
