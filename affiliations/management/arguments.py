"""Read what several commands are given."""

from __future__ import annotations

import argparse
from datetime import datetime

from .. import dates


def moment(text: str) -> datetime:
    """Read a moment, see dates.py; raises ArgumentTypeError, which names the option."""
    found = dates.moment(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no date, such as 2026-11-20T18:00")
    return found
