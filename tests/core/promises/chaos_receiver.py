"""A partner's server that fails often, and keeps a journal of all that arrives.

    python -m tests.core.promises.chaos_receiver JOURNAL PORTS SEED

Prints its ports, in JSON, and ends when its standard input does. Of what arrives it answers 20 %
with 500, resets 7 %, and takes 3 % without an answer getting through; which ones follows from the
seed, the target, and how often the target was called. A target may say itself what happens at each
call, the last from then on: `/x?answers=hold,200`. What is held gets a 500 when there is a file
named as the journal is, with `.go` behind it.

A line of the journal: what became of the call, its webhook-id, a hash of its target and body, and
its target, with tabs between. It is written before anything is answered.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import struct
import sys
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

#: A target fails this often at most, so that no event uses up its attempts by chance.
MAX_FAILURES = 4
RESET = struct.pack("ii", 1, 0)


class Receiver:
    """Everything that is listened on, with one journal."""

    def __init__(self, journal: Path, seed: str) -> None:
        self.book = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.go = journal.with_name(f"{journal.name}.go")
        self.seed = seed
        self.calls: Counter[str] = Counter()

    def note(self, *words: str) -> None:
        """Write a line, whole or not at all."""
        os.write(self.book, ("\t".join(words) + "\n").encode())

    def fate(self, target: str) -> str:
        """Return what is to become of the next call of a target."""
        number = self.calls[target]
        self.calls[target] += 1
        told = parse_qs(urlsplit(target).query).get("answers")
        if told:
            fates = told[0].split(",")
            return fates[min(number, len(fates) - 1)]
        if number >= MAX_FAILURES:
            return "200"
        digest = hashlib.sha256(f"{self.seed} {target} {number}".encode()).digest()
        chance = int.from_bytes(digest[:4]) / 2**32
        for fate, share in (("500", 0.20), ("reset", 0.07), ("lost", 0.03)):
            if chance < share:
                return fate
            chance -= share
        return "200"

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Take one call."""
        with contextlib.suppress(ConnectionError):
            await self.take(reader, writer)
        writer.close()

    async def take(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Read a call, note it, and answer it."""
        target = "-"
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            target = first.split(" ")[1]
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        except IncompleteReadError as error:
            cut = error.partial or target != "-"
            port = writer.get_extra_info("sockname")[1]
            self.note("short" if cut else "empty", "-", "-", str(port))
            return
        fate = self.fate(target)
        sent = hashlib.sha256(f"{first}\n".encode() + body).hexdigest()[:16]
        self.note(fate, headers.get("webhook-id", "-"), sent, target)
        if fate in ("reset", "lost"):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
            return
        while fate == "hold" and not self.go.exists():  # noqa: ASYNC110 - nobody could set an event
            await asyncio.sleep(0.01)
        status = "200 OK" if fate == "200" else "500 No"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()


async def main(journal: str, ports: str, seed: str) -> None:
    receiver = Receiver(Path(journal), seed)
    servers = [
        await asyncio.start_server(receiver.serve, "127.0.0.1", 0, backlog=512)
        for _ in range(int(ports))
    ]
    found = [server.sockets[0].getsockname()[1] for server in servers]
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
