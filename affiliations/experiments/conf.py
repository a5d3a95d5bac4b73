"""Hold the settings of the experiments: name, default, rule and check id, one line each."""

from __future__ import annotations

from typing import Any

from ..conf import Group, Setting, a_currency, a_path_or_none
from ..tracking.conf import Rate, a_rate_or_none, read_rate

__all__ = ["rate", "settings"]


class ExperimentsSettings(Group):
    """The experiments' settings."""

    EXPERIMENTS_LIMIT: Setting[Any] = Setting(
        "100000/h", a_rate_or_none, "affiliations_experiments.E003"
    )
    EXPERIMENTS_CURRENCY = Setting("USD", a_currency, "affiliations_experiments.E001")
    EXPERIMENTS_CONTEXT: Setting[Any] = Setting(
        None, a_path_or_none, "affiliations_experiments.E004"
    )


settings = ExperimentsSettings()


def rate() -> Rate | None:
    """Return how often one address may tell one environment something, None where there is none."""
    text = settings.EXPERIMENTS_LIMIT
    return read_rate(text) if text else None
