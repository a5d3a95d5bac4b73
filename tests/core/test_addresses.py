"""Addresses: their spellings, which of them are public, and what a setting allows."""

import ipaddress
import socket
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affiliations.addresses import (
    _IPV4,
    _IPV6,
    _NOT_GIVEN_OUT,
    is_canonical,
    literal,
    parse_allow,
    public_network,
    unwrapped,
    why_not_public,
)

PARTS = st.sampled_from(
    [
        *("0", "1", "127", "255", "256", "0x7f", "0X0", "0x", "017", "08", "00", "", "a", "-1"),
        *("65535", "65536", "16777215", "16777216", "4294967295", "0xffffffff", "0x100000000"),
        *("1e1", "１"),
    ]
)


@given(st.lists(PARTS, min_size=1, max_size=5).map(".".join))
def test_ipv4_is_read_as_the_system_reads_it(text):
    try:
        expected = ipaddress.IPv4Address(socket.inet_aton(text)) if text.isascii() else None
    except OSError:
        expected = None
    # "0x" alone is a matter of taste; to see an address in it is the careful way.
    if "0x." not in f"{text}." and not text.endswith("."):
        assert literal(text) == expected


@given(st.ip_addresses())
def test_every_address_is_read_as_it_is_written(address):
    text = str(address)
    assert literal(text) == address
    if address.version == 4:
        assert is_canonical(text, address)
        assert literal(str(int(address))) == literal(hex(int(address))) == address
        assert not is_canonical(hex(int(address)), address)
        assert unwrapped(ipaddress.IPv6Address(f"::ffff:{text}")) == address
    else:
        assert literal(f"[{text}]") == literal(f"[{address.exploded}]") == address


@given(st.text(max_size=30))
def test_nothing_makes_it_fail(text):
    literal(text)
    with suppress(ValueError):
        parse_allow(text)


@pytest.mark.parametrize(
    "text", ["partner.example", "1.2.3.4.5", "1" * 5000, "0x" + "f" * 5000, ""]
)
def test_a_name_is_no_address(text):
    assert literal(text) is None


def test_the_blocks_of_a_table_do_not_overlap():
    for table in (_IPV4, _IPV6, _NOT_GIVEN_OUT):
        blocks = sorted(ipaddress.ip_network(block) for block, _ in table)
        for one, next_one in pairwise(blocks):
            assert one[-1] < next_one[0]


@pytest.mark.parametrize("text", ["8.8.8.8", "168.63.129.15", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_a_public_address_needs_no_reason(text):
    assert why_not_public(ipaddress.ip_address(text)) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("127.0.0.1", "is this machine itself"),
        ("::1", "is this machine itself"),
        ("::ffff:10.0.0.1", "belongs to a private network"),
        ("fd00::1", "belongs to a private network"),
        ("169.254.169.254", "is link-local, where clouds keep their metadata"),
        ("4000::1", "is not given out to anybody"),
    ],
)
def test_staff_hears_what_an_address_is(text, reason):
    assert why_not_public(ipaddress.ip_address(text)) == reason


@pytest.mark.parametrize(
    ("entry", "name", "network", "port"),
    [
        ("partner.internal", "partner.internal", None, None),
        ("Partner.Internal.", "partner.internal", None, None),
        ("partner.example:8443", "partner.example", None, 8443),
        ("10.0.0.0/8", "", "10.0.0.0/8", None),
        ("10.1.2.3", "", "10.1.2.3/32", None),
        ("127.0.0.1:9000", "", "127.0.0.1/32", 9000),
        ("::1", "", "::1/128", None),
        ("fd00::/8", "", "fd00::/8", None),
        ("[::1]", "", "::1/128", None),
        ("[::1]:8443", "", "::1/128", 8443),
        ("::ffff:10.0.0.0/104", "", "10.0.0.0/8", None),
    ],
)
def test_an_entry_allows_a_host_or_a_network(entry, name, network, port):
    network = network and ipaddress.ip_network(network)
    assert parse_allow(entry) == (name, network, port)


@pytest.mark.parametrize(
    "entry",
    [
        *("", "*", "*.example", ".example", "http://partner.example", "partner.example/x", "a b"),
        *("10.0.0.1/8", "10.0.0.0/33", "127.1", "0x7f000001", "1.2.3.4:0", "1.2.3.4:65536", "a:b"),
        *(
            "[::1",
            "[::1]:x",
            "[partner]",
            "fe80::1%eth0",
            "[fe80::1%eth0]",
            "bücher.example",
            "::/x",
        ),
    ],
)
def test_an_entry_that_is_neither_is_refused(entry):
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        parse_allow(entry)


def test_what_an_entry_covers():
    named, at_port = parse_allow("a.example"), parse_allow("a.example:81")
    assert named.covers("a.example", 80)
    assert named.covers("a.example", 6379)
    assert not named.covers("b.a.example", 80)
    assert at_port.covers("a.example", 81)
    assert not at_port.covers("a.example", 80)
    network = parse_allow("10.0.0.0/8")
    assert not network.covers("", 80)
    assert network.contains(ipaddress.ip_address("10.255.255.255"), 22)
    assert network.contains(ipaddress.ip_address("::ffff:10.0.0.1"), 22)
    assert not network.contains(ipaddress.ip_address("11.0.0.0"), 80)
    assert not network.contains(ipaddress.ip_address("::1"), 80)
    assert not parse_allow("127.0.0.1:81").contains(ipaddress.ip_address("127.0.0.1"), 80)
    assert not named.contains(ipaddress.ip_address("10.0.0.1"), 80)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("81.2.69.160", "81.2.69.0/24"),
        ("::ffff:81.2.69.160", "81.2.69.0/24"),
        ("2a02:1:2:3:4:5:6:7", "2a02:1:2::/48"),
        ("2a02:1:2:3::%eth0", "2a02:1:2::/48"),
        *((each, "") for each in ("", "x", "10.0.0.1", "127.0.0.1", "::1", "fe80::1%eth0")),
        *((each, "") for each in ("::ffff:10.0.0.1", "81.2.69.160:80", "unix:", "2130706433")),
    ],
)
def test_the_network_of_a_public_address(text, network):
    assert public_network(text, {4: 24, 6: 48}) == network
