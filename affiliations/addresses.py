"""Tell the addresses of the public Internet from all others. Pure functions, without Django.

`ipaddress.is_private` and `is_global` have no part in this: what they answer depends on the patch
level of Python, and neither knows the addresses at which a cloud answers its own machines.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

__all__ = [
    "Address",
    "Allowed",
    "Proxy",
    "is_canonical",
    "literal",
    "parse_allow",
    "parse_proxy",
    "public_network",
    "unwrapped",
    "why_not_public",
]

Address: TypeAlias = IPv4Address | IPv6Address

# Source: the IANA IPv4 and IPv6 Special-Purpose Address Registries, and as named. The blocks of one
# table must not overlap.
_IPV4 = (
    ("0.0.0.0/8", "stands for this machine"),
    ("10.0.0.0/8", "belongs to a private network"),
    ("100.64.0.0/10", "belongs to a provider's inner network"),
    ("127.0.0.0/8", "is this machine itself"),
    ("168.63.129.16/32", "belongs to the cloud that machines run in"),  # Azure's WireServer
    ("169.254.0.0/16", "is link-local, where clouds keep their metadata"),
    ("172.16.0.0/12", "belongs to a private network"),
    ("192.0.0.0/24", "is reserved for protocols"),
    ("192.0.2.0/24", "is reserved for examples"),
    ("192.31.196.0/24", "answers only for private networks"),  # AS112
    ("192.52.193.0/24", "is reserved for tunnels"),  # AMT
    ("192.88.99.0/24", "is reserved for tunnels"),  # 6to4 relays
    ("192.168.0.0/16", "belongs to a private network"),
    ("192.175.48.0/24", "answers only for private networks"),  # AS112
    ("198.18.0.0/15", "is reserved for measurements"),
    ("198.51.100.0/24", "is reserved for examples"),
    ("203.0.113.0/24", "is reserved for examples"),
    ("224.0.0.0/3", "is multicast or reserved"),
)
# Only 2000::/3 is given out at all. These are the parts of it that lead elsewhere.
_IPV6 = (
    ("2001::/23", "is reserved for protocols"),  # Teredo, benchmarks, ORCHID, AS112, …
    ("2001:db8::/32", "is reserved for examples"),
    ("2002::/16", "is reserved for tunnels"),  # 6to4: an IPv4 address of any kind is inside
    ("2620:4f:8000::/48", "answers only for private networks"),  # AS112
    ("3fff::/20", "is reserved for examples"),
)
# Why an address outside of 2000::/3 is refused, for the kinds that staff may come across.
_NOT_GIVEN_OUT = (
    ("::/128", "stands for this machine"),
    ("::1/128", "is this machine itself"),
    ("64:ff9b::/96", "is reserved for tunnels"),
    ("64:ff9b:1::/48", "is reserved for tunnels"),
    ("fc00::/7", "belongs to a private network"),
    ("fe80::/10", "is link-local"),
    ("fec0::/10", "belongs to a private network"),
    ("ff00::/8", "is multicast"),
)


class _Blocks:
    """Find the block that a number lies in, by bisection."""

    def __init__(self, blocks: tuple[tuple[str, str], ...]) -> None:
        networks = sorted(
            (int(network[0]), int(network[-1]), reason)
            for network, reason in ((ipaddress.ip_network(block), why) for block, why in blocks)
        )
        self.firsts = [first for first, _, _ in networks]
        self.ends = [(last, reason) for _, last, reason in networks]

    def reason(self, number: int) -> str:
        at = bisect_right(self.firsts, number) - 1
        if at < 0:
            return ""
        last, reason = self.ends[at]
        return reason if number <= last else ""


_IPV4_BLOCKS = _Blocks(_IPV4)
_IPV6_BLOCKS = _Blocks(_IPV6)
_NOT_GIVEN_OUT_BLOCKS = _Blocks(_NOT_GIVEN_OUT)
# RFC 5214, section 6.1: an interface identifier of ISATAP, without its bit for global uniqueness.
# The last 32 bits are an IPv4 address of any kind.
_ISATAP = 0x0000_5EFE
_ISATAP_MASK = 0xFDFF_FFFF


def unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv4-mapped one stands for; any other as it is."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def why_not_public(address: Address) -> str:
    """Return why no partner can be at an address, as the end of "The address … ", or ""."""
    address = unwrapped(address)
    number = int(address)
    if isinstance(address, IPv4Address):
        return _IPV4_BLOCKS.reason(number)
    if number >> 125 != 0b001:
        return _NOT_GIVEN_OUT_BLOCKS.reason(number) or "is not given out to anybody"
    if number >> 32 & _ISATAP_MASK == _ISATAP:
        return "is reserved for tunnels"
    return _IPV6_BLOCKS.reason(number)


def public_network(text: str, prefixes: Mapping[int, int]) -> str:
    """Return the network that an address of the public Internet is in, "" for any other text.

    `prefixes` has the bits of a network by the version of IP.
    """
    try:
        address = unwrapped(ipaddress.ip_address(text))
    except ValueError:
        return ""
    if why_not_public(address):
        return ""
    # As a number: IPv6 may have an interface's name with it.
    number, prefix = int(address), prefixes[address.version]
    bits = address.max_prefixlen - prefix
    return f"{type(address)(number >> bits << bits)}/{prefix}"


_PART = re.compile(r"0[xX](?P<hex>[0-9A-Fa-f]*)|(?P<octal>0[0-7]*)|(?P<decimal>[1-9][0-9]*)")


def literal(host: str) -> Address | None:
    """Return the address that a host of a URL is, in any spelling that `getaddrinfo` understands.

    Those are an IPv6 address, with its brackets or without, and what inet_aton(3) takes for IPv4:
    one to four parts, each decimal, octal or hexadecimal, the last of which fills what is left
    (127.1, 0x7f000001, 017700000001). A dot at the end makes no difference. None for a name.
    """
    if ":" in host or host.startswith("["):
        try:
            return IPv6Address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            return None
    numbers = []
    for part in host.removesuffix(".").split("."):
        match = _PART.fullmatch(part)
        # Longer ones are out of range, and Python refuses to convert the longest at all.
        if match is None or len(part) > 60:
            return None
        if match["decimal"] is not None:
            numbers.append(int(match["decimal"]))
        elif match["octal"] is not None:
            numbers.append(int(match["octal"], 8))
        else:
            numbers.append(int(match["hex"] or "0", 16))
    *ahead, last = numbers
    if len(ahead) > 3 or any(number > 255 for number in ahead) or last >= 256 ** (4 - len(ahead)):
        return None
    number = last
    for place, each in enumerate(ahead):
        number += each << (24 - 8 * place)
    return IPv4Address(number)


def is_canonical(host: str, address: Address) -> bool:
    """Tell whether a host is the one spelling of an address that everybody reads alike."""
    if isinstance(address, IPv4Address):
        return host == str(address)
    return "%" not in host


class Allowed(NamedTuple):
    """What one entry of AFFILIATE_CALLBACK_ALLOW allows: a host by name, or a network."""

    name: str
    network: IPv4Network | IPv6Network | None
    #: None: every port.
    port: int | None

    def covers(self, name: str, port: int) -> bool:
        """Tell whether it allows a host by its name, whatever its addresses are."""
        return bool(self.name) and self.name == name and self.port in (None, port)

    def contains(self, address: Address, port: int) -> bool:
        """Tell whether it allows an address, whatever the name that led to it."""
        return (
            self.network is not None
            and self.port in (None, port)
            and unwrapped(address) in self.network
        )


_ENTRY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")


@lru_cache(maxsize=256)
def parse_allow(entry: str) -> Allowed:
    """Return what an entry of AFFILIATE_CALLBACK_ALLOW allows.

    It is a host name, an address or a network, as in "partner.internal", "::1" and "10.0.0.0/8";
    a host and an address may be followed by a port ("127.0.0.1:9000", "[::1]:8443"). Raises
    ValueError, in words that follow the entry, for anything else.
    """
    if "/" in entry or (entry.count(":") > 1 and not entry.startswith("[")):
        return Allowed("", _network(entry), None)
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ValueError("is not a host, an address or a network")
    port = None if match["port"] is None else int(match["port"])
    if port is not None and not 1 <= port <= 65_535:
        raise ValueError("has a port that is not a number from 1 to 65535")
    host = match["host"]
    address = literal(host)
    if host.startswith("[") or address is not None:
        if address is not None and not is_canonical(host, address):
            raise ValueError(f"is an unusual way to write {address}")
        return Allowed("", _network(host.strip("[]")), port)
    name = host.lower().removesuffix(".")
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise ValueError("is not a host name in ASCII; one entry allows one host")
    return Allowed(name, None, port)


def _network(text: str) -> IPv4Network | IPv6Network:
    if "%" in text:
        raise ValueError("names an interface of this machine")
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"is not an address or a network: {error}") from None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network


class Proxy(NamedTuple):
    """Where a proxy is, and what it wants to be told."""

    host: str
    port: int
    #: The lines that a request to it carries, with its credentials.
    headers: str

    def __repr__(self) -> str:
        return f"<proxy {self.host}:{self.port}>"


@lru_cache(maxsize=8)
def parse_proxy(url: str, password: str = "") -> Proxy:
    """Return what is in the URL of a proxy, http://[user@]host:port, and its password.

    Raises ValueError for anything else, in words that follow the setting's name, and without
    showing it: somebody may have put the password into it.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme != "http" or parts.path.strip("/") or parts.query:
        raise ValueError("must be empty, or http://[user@]host:port of a proxy")
    if parts.password is not None:
        # Django's error pages show a setting whose name does not say that it is secret.
        raise ValueError("must hold no password, which goes into AFFILIATE_EGRESS_PROXY_PASSWORD")
    headers = ""
    if parts.username is not None or password:
        pair = f"{unquote(parts.username or '')}:{password}"
        headers = f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
    return Proxy(host, port, headers)
