"""A site behind gunicorn, in processes of its own on a free port, and browsers that ask it."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings
from django.db import connection

from .stack import OURS, default_stack, wsgi

WORKERS = 2
#: Requests that wait for their answer at any time: enough that no worker ever waits for one.
AT_ONCE = 8
#: Seconds after which there is no answer.
NEVER = struct.pack("ll", 30, 0)
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"

Address = tuple[str, int]


@contextmanager
def running(**environment: str) -> Iterator[Address]:
    """Run it, with more in its environment; yields the address, which can be asked at once."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        address = listener.getsockname()
        command = [sys.executable, "-m", "gunicorn", "benchmarks.server:application()"]
        # Handed over as it is: nobody else can take the port, and who asks early is kept waiting.
        command += ["--bind", f"fd://{listener.fileno()}", "--workers", str(WORKERS)]
        command += ["--worker-class", "sync", "--log-level", "warning", "--no-control-socket"]
        process = subprocess.Popen(
            command, pass_fds=[listener.fileno()], env={**os.environ, **environment}
        )
    with process:
        try:
            yield address
        finally:
            process.terminate()


def application() -> Callable[..., Any]:
    """Return what a worker serves: ours in our stack, all else without our middleware."""
    django.setup()
    connection.settings_dict["NAME"] = settings.DATABASES["default"]["TEST"]["NAME"]
    ours, bare = wsgi(default_stack(OURS)), wsgi(default_stack())

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        handler = ours if environ["PATH_INFO"].startswith(("/router/", "/attribution/")) else bare
        return handler(environ, start_response)

    return answer


def get(target: str, cookie: str = "") -> bytes:
    """Return the request of a browser's for a target."""
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: testserver",
        f"User-Agent: {AGENT}",
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "Accept-Language: en-US,en;q=0.5",
        "Accept-Encoding: gzip, deflate",
        "Upgrade-Insecure-Requests: 1",
        *([f"Cookie: {cookie}"] if cookie else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def post(target: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Return the request by which a browser's page posts a body."""
    lines = [
        f"POST {target} HTTP/1.1",
        "Host: testserver",
        f"User-Agent: {AGENT}",
        "Accept: */*",
        "Accept-Language: en-US,en;q=0.5",
        "Accept-Encoding: gzip, deflate",
        f"Content-Length: {len(body)}",
        *(f"{name}: {text}" for name, text in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def ask(address: Address, requests: Iterable[bytes], status: int = 302) -> None:
    """Make the requests, AT_ONCE at a time, each on its own connection; all have one answer.

    The oldest is read before the next is made. That takes neither threads nor a selector, whose
    work would take the processor from what is measured.
    """
    waiting: deque[socket.socket] = deque()
    for request in requests:
        if len(waiting) == AT_ONCE:
            receive(waiting.popleft(), status)
        asking = socket.socket()
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, NEVER)
        asking.connect(address)
        asking.sendall(request)
        waiting.append(asking)
    for asking in waiting:
        receive(asking, status)


def receive(asking: socket.socket, status: int) -> None:
    """Read an answer to its end, which the server's hanging up is."""
    with asking:
        answer = asking.recv(65_536, socket.MSG_WAITALL)
    if not answer.startswith(b"HTTP/1.1 %d " % status):
        raise RuntimeError(f"the answer was {answer[:200]!r}, not {status}")
