"""What an audit has to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

#: Rows that are looked at together.
BATCH = 500


class Problem(NamedTuple):
    """What is wrong with a row: a code, and in words."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it should be; `posted` tells that this was put right just now.

    `kind` is "protection", "missing", "part", "rule", "amount", "entry", "reversal", "payout",
    "snapshot" or "currency".
    """

    kind: str
    subject: str
    text: str
    posted: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}: {self.text}{' (posted now)' if self.posted else ''}"
