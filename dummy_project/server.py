"""Serve the shop on this machine, and deliver its callbacks beside it."""

from __future__ import annotations

import logging
import threading

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.db import DatabaseError, connection

from affiliations import delivery

HOST = "127.0.0.1"
#: Seconds between two looks into the outbox.
POLL = 1.0

logger = logging.getLogger(__name__)


class Demo:
    """A shop on a port of 127.0.0.1, and a thread that delivers its callbacks.

    The port is taken at once, so that `url` is known before the database is filled; 0 takes any
    that is free. Raises OSError where the port cannot be had.
    """

    def __init__(self, port: int = 0) -> None:
        self._server = ThreadedWSGIServer((HOST, port), WSGIRequestHandler)
        self._server.set_app(StaticFilesHandler(get_wsgi_application()))
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._server.serve_forever, name="shop", daemon=True),
            threading.Thread(target=self._deliver, name="callbacks", daemon=True),
        ]

    @property
    def url(self) -> str:
        """Where the shop is, without a slash at the end."""
        return f"http://{HOST}:{self._server.server_port}"

    def start(self) -> None:
        """Open the shop."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close the shop, and let the call under way end."""
        self._stopping.set()
        if self._threads[0].is_alive():
            self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _deliver(self) -> None:
        # What `manage.py deliver_callbacks --loop` does. A real site runs that one beside its web
        # servers, on as many machines as it likes; a demo is to be one process.
        while not self._stopping.wait(POLL):
            try:
                delivery.deliver_due()
            except DatabaseError:
                logger.exception("The callbacks could not be looked at; trying again")
            finally:
                connection.close()
