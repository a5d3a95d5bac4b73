"""Real servers on loopback that answer as badly as they can."""

import contextlib
import gzip
import re
import socket
import threading
import time
from contextlib import contextmanager

MEGABYTE = bytes(1024 * 1024)
#: Seconds after which a server that would go on for ever lets go; longer than any deadline here.
PATIENCE = 2.5


def head(*lines, status="200 OK"):
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def drip(sock, data):
    """Send byte by byte, each soon enough for the timeout of a single read."""
    until = time.monotonic() + PATIENCE
    for byte in data:
        sock.sendall(bytes([byte]))
        time.sleep(0.05)
        if time.monotonic() > until:
            return


def drip_header(sock):
    drip(sock, head("X-Long: " + "x" * 1000))


def drip_body(sock):
    sock.sendall(head("Content-Length: 1000"))
    drip(sock, b"x" * 1000)


def big_body(sock):
    sock.sendall(head(f"Content-Length: {200 * len(MEGABYTE)}"))
    for _ in range(200):
        sock.sendall(MEGABYTE)


def gzip_bomb(sock):
    """Send 200 KB that become 200 MB: a gzip file may consist of many."""
    packed = gzip.compress(MEGABYTE) * 200
    sock.sendall(head("Content-Encoding: gzip", f"Content-Length: {len(packed)}") + packed)


def big_redirect(sock):
    sock.sendall(
        head(
            "Location: http://127.0.0.1:9/",
            f"Content-Length: {200 * len(MEGABYTE)}",
            status="302 Found",
        )
    )
    for _ in range(200):
        sock.sendall(MEGABYTE)


def many_headers(sock):
    sock.sendall(head(*(f"X-{number}: {'x' * 60_000}" for number in range(99))))


def flood_of_100(sock):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        sock.sendall(head(status="100 Continue"))
        time.sleep(0.005)


def early_close(sock):
    sock.sendall(head("Content-Length: 1000") + b"x" * 10)


#: The eight of the promise, and what else was thought of.
EIGHT = {
    each.__name__: each
    for each in [
        drip_header,
        drip_body,
        big_body,
        gzip_bomb,
        big_redirect,
        many_headers,
        flood_of_100,
        early_close,
    ]
}


def fast_flood_of_100(sock):
    while True:
        sock.sendall(head(status="100 Continue") * 1000)


def flood_of_103(sock):
    while True:
        sock.sendall(head(status="103 Early Hints") * 1000)


def drip_chunks(sock):
    sock.sendall(head("Transfer-Encoding: chunked"))
    drip(sock, b"1\r\nx\r\n" * 1000)


def chunk_without_end(sock):
    sock.sendall(head("Transfer-Encoding: chunked") + b"ffffffffffffffff\r\n")
    while True:
        sock.sendall(MEGABYTE)


def trailer_without_end(sock):
    sock.sendall(head("Transfer-Encoding: chunked") + b"0\r\n")
    while True:
        sock.sendall(b"X-Trailer: x\r\n" * 1000)


def line_without_end(sock):
    while True:
        sock.sendall(b"HTTP/1.1 200 " + MEGABYTE.replace(b"\0", b"x"))


def no_answer(sock):
    time.sleep(PATIENCE)


def close_at_once(sock):
    pass


def no_http(sock):
    sock.sendall(b"220 mail.example ESMTP\r\n")


OTHERS = {
    each.__name__: each
    for each in [
        fast_flood_of_100,
        flood_of_103,
        drip_chunks,
        chunk_without_end,
        trailer_without_end,
        line_without_end,
        no_answer,
        close_at_once,
        no_http,
    ]
}


def read_request(sock):
    """Read a request and return it, as far as it came."""
    data = b""
    while b"\r\n\r\n" not in data and (more := sock.recv(65536)):
        data += more
    before, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\nContent-Length: (\d+)", before)
    while length and len(body) < int(length[1]) and (more := sock.recv(65536)):
        body += more
    return before + b"\r\n\r\n" + body


@contextmanager
def serving(serve, *, read=True, context=None):
    """Serve each connection with a function, on a port of loopback, and yield the port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def one(sock):
        # Whoever hangs up on these servers does right.
        with contextlib.suppress(OSError), sock:
            if context is not None:
                sock = context.wrap_socket(sock, server_side=True)
            with sock:
                if read:
                    read_request(sock)
                serve(sock)

    def accept():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=[sock], daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        # To close it does not wake whoever waits in it.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(5)
