"""See each connection that this process begins, below whatever code begins it."""

import ipaddress
import socket
import sys
from contextlib import contextmanager

from tests.core.receivers.iana import is_inner

_seen = []


class Dialled(list):
    """The addresses to which a connection was begun, as text."""

    def inner(self):
        return [address for address in self if is_inner(address)]


def _hook(event, args):
    # Python raises it for connect and connect_ex alike, before either reaches the system. A hook
    # cannot be taken away, so this one stays, and does nothing while nobody watches.
    if _seen and event == "socket.connect" and isinstance(args[1], tuple):
        _seen[-1].append(str(args[1][0]).partition("%")[0])
        raise ConnectionRefusedError(111, "not in this test")


@contextmanager
def no_connections():
    """Refuse each connection, and keep where it would have gone."""
    if not getattr(sys, "_affiliations_watch", False):
        sys.addaudithook(_hook)
        sys._affiliations_watch = True
    _seen.append(Dialled())
    try:
        yield _seen[-1]
    finally:
        _seen.pop()


def found(*addresses, port=80):
    """Return what `getaddrinfo` does for a name with these addresses."""
    rows = []
    for address in addresses:
        six = ipaddress.ip_address(address).version == 6
        family = socket.AF_INET6 if six else socket.AF_INET
        sockaddr = (address, port, 0, 0) if six else (address, port)
        rows.append((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", sockaddr))
    return rows
