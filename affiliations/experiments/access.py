"""What may be allowed through the API of results."""

from __future__ import annotations

from ..access import Right

__all__ = ["LIST", "READ"]

LIST = Right("experiments:read", "affiliations_experiments.view_campaign", of_partners=False)
READ = Right("experiments:read", "affiliations_experiments.view_campaign")
