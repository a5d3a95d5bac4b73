"""Answer first, and work then: clients do not wait long, and tell everything twice otherwise.

What is acknowledged like this and not done is lost if the process is killed in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.http import HttpResponse

__all__ = ["Acknowledged"]

logger = logging.getLogger(__name__)


class Acknowledged(HttpResponse):
    """A response after which something is done: once it was sent, and before the next request."""

    work: Callable[[], object] | None = None

    def close(self) -> None:
        """Work, then release everything as usual."""
        work, self.work = self.work, None
        try:
            if work is not None:
                work()
        except Exception:
            # Nobody is there any more to be told.
            logger.exception("What was acknowledged could not be done")
        finally:
            super().close()
