"""Tell workers on other machines that something is due, where the database can: PostgreSQL.

A shortcut, on which nothing depends: whoever misses a notice looks a second later.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from django.db import Error, connections

__all__ = ["Listener", "notify"]

logger = logging.getLogger(__name__)

CHANNEL = "affiliations_callbacks"
#: Seconds after which a listener looks whether it is to go on, and between two tries to connect.
TURN, RETRY = 0.5, 2.0


def notify(using: str) -> None:
    """Wake whoever listens; costs one query on PostgreSQL, and nothing elsewhere."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")


class Listener:
    """Calls `wake`, in a thread of its own, whenever somebody notifies; idle on other databases."""

    def __init__(self, using: str, wake: Callable[[], None]) -> None:
        self.using = using
        self.wake = wake
        #: Whether a notice would be heard right now.
        self.listening = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if connections[using].vendor == "postgresql":
            self._thread = threading.Thread(
                target=self._run, name="affiliations-listener", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Stop listening, and hang up."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            # One of its own: the thread that claims has transactions on its connection.
            connection = connections[self.using].copy()
            try:
                self._listen(connection)
            except Error as error:
                self.listening = False
                logger.info("Not listening for notices: %s", error)
                self._closed.wait(RETRY)
            finally:
                self.listening = False
                connection.close()

    def _listen(self, connection: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        raw = connection.connection
        if not hasattr(raw, "notifies"):
            # psycopg2 has another interface; the workers then look by themselves.
            self._closed.wait()
            return
        self.listening = True
        # What was notified before the LISTEN was not heard.
        self.wake()
        while not self._closed.is_set():
            # Else the driver's own errors would come out of it, not Django's.
            with connection.wrap_database_errors:
                for _ in raw.notifies(timeout=TURN):
                    self.wake()
