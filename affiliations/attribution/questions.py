"""What a report can be asked: every argument is looked at here, before anything is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings as django_settings
from django.utils import timezone

from .conf import settings
from .exceptions import InvalidReport
from .rules import RULES
from .sources import DIMENSIONS

__all__ = ["CHAINS", "ENGINES", "MODELS", "Question"]

#: Models that look at all journeys, not at one path alone.
CHAINS = ("markov", "shapley")
MODELS = (*RULES, *CHAINS)
ENGINES = ("duckdb", "database", "spark")
MOST_ORDER = 4
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Question:
    """What a report is asked for; raises InvalidReport, which names the argument."""

    since: datetime
    until: datetime
    by: str
    lookback: timedelta
    trigger: str = ""
    lead: str = ""
    engine: str = "duckdb"
    models: Sequence[str] = ("last",)
    order: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in DIMENSIONS:
            raise InvalidReport(f"by: must be one of {', '.join(DIMENSIONS)}, not {self.by!r:.80}")
        for name in ("since", "until"):
            moment = getattr(self, name)
            if not isinstance(moment, datetime):
                raise InvalidReport(f"{name}: must be a datetime, not {type(moment).__name__}")
            if timezone.is_aware(moment) != django_settings.USE_TZ:
                kind = "an aware" if django_settings.USE_TZ else "a naive"
                raise InvalidReport(f"{name}: must be {kind} datetime")
        if self.since >= self.until:
            raise InvalidReport("until: must be later than since")
        if not isinstance(self.lookback, timedelta) or self.lookback <= timedelta(0):
            raise InvalidReport("lookback: must be a timedelta above zero")
        try:
            _ = self.begin
        except OverflowError:
            raise InvalidReport("lookback: goes back to before the year 1") from None
        for name in ("trigger", "lead"):
            text = getattr(self, name)
            # No database takes anything else, and each would say so by an error of its own.
            if not isinstance(text, str) or _UNSTORABLE.search(text):
                raise InvalidReport(f"{name}: must be text without NUL and half letters")
        if self.engine not in ENGINES:
            raise InvalidReport(f"engine: must be one of {', '.join(ENGINES)}")
        self._check_models()

    def _check_models(self) -> None:
        for each in self.models:
            if each not in MODELS:
                raise InvalidReport(f"model: must be one of {', '.join(MODELS)}, not {each!r:.80}")
        if not self.models or len(set(self.models)) != len(self.models):
            raise InvalidReport("model: must name one model, or several different ones")
        if "w_shaped" in self.models and not self.lead:
            raise InvalidReport("lead: w_shaped needs the trigger of leads")
        if type(self.order) is not int or not 1 <= self.order <= MOST_ORDER:
            raise InvalidReport(f"order: must be a whole number from 1 to {MOST_ORDER}")
        if type(self.seed) is not int or self.seed < 0:
            raise InvalidReport("seed: must be a whole number from 0 on")

    @property
    def is_of_all(self) -> bool:
        """Whether whoever has not converted matters, too."""
        return any(each in CHAINS for each in self.models)

    @property
    def begin(self) -> datetime:
        """When the paths may begin of whoever has converted at once."""
        return self.since - self.lookback

    @property
    def back(self) -> int:
        """The lookback in microseconds."""
        return self.lookback // timedelta(microseconds=1)

    @classmethod
    def asked(
        cls, model: str | Sequence[str] = "last", *, lookback: timedelta | None, **given: Any
    ) -> Question:
        """Return the question of a function's arguments; raises InvalidReport."""
        if not isinstance(model, str | list | tuple):
            raise InvalidReport("model: must be a name, or a list of names")
        models = (model,) if isinstance(model, str) else tuple(model)
        back = settings.ATTRIBUTION_LOOKBACK if lookback is None else lookback
        return cls(models=models, lookback=back, **given)
