"""Die at a named point of a delivery, for the tests that show that nothing is lost there.

`AFFILIATE_FAULT=claimed` in the environment kills the process, as `kill -9` does, when it reaches
that point. Callers ask `if faults.POINT:` first, so that the points cost nothing in production.
"""

from __future__ import annotations

import os
import signal

__all__ = ["POINT", "reach"]

#: The point to die at, or "".
POINT = os.environ.get("AFFILIATE_FAULT", "")


def reach(point: str) -> None:
    """Die if this is the point."""
    if point == POINT:
        os.kill(os.getpid(), signal.SIGKILL)
