"""A partner's server on loopback whose answers are written down beforehand, headers and all."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPMessage, parse_headers
from io import BytesIO
from typing import NamedTuple

from tests.core.receivers.hostile import head, read_request, serving


class Says(NamedTuple):
    """One answer; `after` so many seconds."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""
    after: float = 0.0

    def encoded(self) -> bytes:
        """Return its bytes as they are sent."""
        lines = [f"{name}: {value}" for name, value in self.headers.items()]
        length = f"Content-Length: {len(self.body)}"
        return head(length, *lines, status=f"{self.status} Said") + self.body


class Heard(NamedTuple):
    """One request: its bytes as they came."""

    raw: bytes

    @property
    def method(self) -> str:
        return self.raw.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        return self.raw.split(b" ", 2)[1].decode()

    @property
    def headers(self) -> HTTPMessage:
        """The headers, whatever the case of the name that is asked for."""
        return parse_headers(BytesIO(self.raw.partition(b"\r\n")[2]))

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]


class Script:
    """What a server says, in turn and the last one from then on, and what it was told.

    `most` is how many calls were under way here at the same moment.
    """

    def __init__(self, *answers: Says) -> None:
        self.answers = list(answers) or [Says()]
        self.heard: list[Heard] = []
        self.url = ""
        self.under_way = self.most = 0
        self._lock = threading.Lock()
        #: Set at the end, so that nobody is kept waiting for a slow answer.
        self.over = threading.Event()

    def serve(self, sock) -> None:
        raw = read_request(sock)
        with self._lock:
            self.heard.append(Heard(raw))
            says = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            self.under_way += 1
        try:
            if says.after:
                # Time for the others to notice who has hung up: these calls are under way no more.
                self.wait_for_hanging_up(sock, min(says.after, 0.1))
            with self._lock:
                self.most = max(self.most, self.under_way)
            self.wait_for_hanging_up(sock, says.after - 0.1)
        finally:
            # Before the answer: whoever has it may be back before this thread goes on.
            with self._lock:
                self.under_way -= 1
        sock.sendall(says.encoded())

    def wait_for_hanging_up(self, sock, seconds: float) -> None:
        """Hold an answer back, unless the caller goes away: it then is no call any more."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.over.is_set():
            sock.settimeout(min(left, 0.05))
            with contextlib.suppress(TimeoutError):
                if not sock.recv(1):
                    raise ConnectionError
        sock.settimeout(None)


@contextmanager
def scripted(*answers: Says) -> Iterator[Script]:
    """Run a server that says `answers`, or 200 each time."""
    script = Script(*answers)
    with serving(script.serve, read=False) as port:
        script.url = f"http://127.0.0.1:{port}"
        try:
            yield script
        finally:
            script.over.set()
