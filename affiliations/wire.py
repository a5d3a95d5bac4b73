"""Send and receive on a connection, with one deadline for all of it and a limit to what comes.

A socket's own timeout is for each read, so that one byte a second keeps a call alive for ever.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import ssl
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from requests.utils import DEFAULT_CA_BUNDLE_PATH

__all__ = ["MAX_RECEIVED", "Reader", "TlsWire", "TooLong", "Wire", "left"]

T = TypeVar("T")

#: Bytes that are received on a connection, at most: handshake, headers, and what is read of a body.
MAX_RECEIVED = 256 * 1024
#: Bytes that are asked for at once.
PIECE = 16 * 1024


class TooLong(OSError):
    """More was received than a call may take."""


def left(deadline: float) -> float:
    """Return how many seconds are left until a time of `time.monotonic()`.

    Raises TimeoutError where none are.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class Wire:
    """A connected socket, without encryption. Whoever connected it closes it.

    Every method raises OSError where the connection fails; TimeoutError and TooLong are such.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self._received = 0

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self._sock.settimeout(left(self._deadline))
        self._sock.sendall(data)  # the timeout is for all of it together

    def receive(self, size: int) -> bytes:
        """Return what comes next, at most `size` bytes, or nothing at the end."""
        if self._received >= MAX_RECEIVED:
            raise TooLong
        self._sock.settimeout(left(self._deadline))
        data = self._sock.recv(size)
        self._received += len(data)
        return data


class TlsWire(Wire):
    """TLS over a wire, with whoever proves to be `name`.

    It runs over memory and not over the socket: there OpenSSL goes on reading, deadline or not, as
    long as the other side keeps sending what is no data, such as session tickets.
    """

    def __init__(self, below: Wire, name: str) -> None:
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context().wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._run(self._tls.do_handshake)

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._run(lambda: self._tls.write(rest)) :]  # noqa: B023 - called at once

    def receive(self, size: int) -> bytes:
        """Return what comes next, at most `size` bytes, or nothing at the end."""
        try:
            return self._run(lambda: self._tls.read(size))
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # Many servers hang up without the farewell of TLS; requests takes that for an end too.
            return b""

    def _run(self, step: Callable[[], T]) -> T:
        """Take a step of TLS, with as much on the wire below as that needs."""
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._flush()
                if data := self._below.receive(PIECE):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                # Let the other side hear what was wrong, if it still listens.
                with contextlib.suppress(OSError):
                    self._flush()
                raise
            else:
                self._flush()
                return done

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._below.send(data)


class Reader(io.BufferedReader):
    """What comes on a wire, as a file, and as `http.client` wants to be handed it."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(_Source(wire))

    def makefile(self, mode: str) -> Reader:
        """Return itself: the file is all that HTTPResponse wants of a socket."""
        return self


class _Source(io.RawIOBase):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._wire.receive(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@lru_cache(maxsize=1)
def context() -> ssl.SSLContext:
    """Return the rules of TLS, made once for a process: to read all authorities takes 20 ms.

    Trusts the authorities that `requests` trusts, on every machine the same.
    """
    rules = ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)
    rules.set_alpn_protocols(["http/1.1"])
    return rules


if hasattr(os, "register_at_fork"):
    # A thread may have held one of its locks when the process was forked.
    os.register_at_fork(after_in_child=context.cache_clear)
