"""A partner's server in a process of its own: answers 200 after a while, on many addresses."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: As many hosts as there are addresses, 127.0.0.1 and so on: none gets more calls than its share.
HOSTS = 16
#: What a signed call carries; of those that are not ours, nobody looks.
HEADERS = {"webhook-id": "msg_1", "webhook-timestamp": "1", "webhook-signature": "v1,x"}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def running(delay: float) -> Iterator[list[str]]:
    """Run one that takes `delay` seconds to answer; yields the addresses at which it does."""
    command = [sys.executable, "-m", "benchmarks.partner", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            yield [f"http://127.0.0.{number}:{port}" for number in range(1, HOSTS + 1)]
        finally:
            process.terminate()


async def serve(delay: float) -> None:
    """Answer each call, on a connection that is kept if the caller wants to keep it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            kept = True
            while kept:
                head = await reader.readuntil(b"\r\n\r\n")
                kept = b"Connection: close" not in head
                if delay:
                    await asyncio.sleep(delay)
                writer.write(ANSWER)
                await writer.drain()
        writer.close()

    first = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    port = first.sockets[0].getsockname()[1]
    others = [f"127.0.0.{number}" for number in range(2, HOSTS + 1)]
    await asyncio.start_server(answer, others, port, backlog=1024)
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("delay", type=float, metavar="SECONDS")
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(reader.parse_args().delay))
