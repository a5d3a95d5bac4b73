"""No connection to an address that is not a partner's, whatever staff enter and DNS says."""

import ipaddress
import itertools
import os
import random
import socket
from collections import Counter

import pytest

from affiliations import addresses, callbackurl, egress
from affiliations.exceptions import InvalidCallbackURL
from tests.core.receivers import iana
from tests.core.receivers.watch import found, no_connections

#: How many addresses the long form compares; a million take a minute.
ADDRESSES = int(os.environ.get("AFFILIATIONS_ADDRESSES", "1000000"))

PUBLIC = ["93.184.215.14", "2606:4700:4700::1111", "1.1.1.1", "2a00:1450:4001:830::200e"]
METADATA = {
    "Amazon": ["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "::ffff:169.254.169.254"],
    "Google": ["169.254.169.254", "fd20:ce::254"],
    "Azure": ["169.254.169.254", "168.63.129.16", "::ffff:168.63.129.16"],
    "Alibaba": ["100.100.100.200", "::ffff:100.100.100.200"],
    "Oracle": ["169.254.169.254", "192.0.0.192", "fd00:c1::a9fe:a9fe"],
}
#: An IPv4 address of this machine or of the metadata, inside of an IPv6 address.
WRAPPED = [
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "::169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::10.0.0.1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "2001:0:7f00:1::",
    "2a00:1450:4001:830:0:5efe:127.0.0.1",
    "2a00:1450:4001:830:200:5efe:10.0.0.1",
    "fe80::5efe:127.0.0.1",
]


def answers():
    """Return what DNS may say, each a list with an address in it that is no partner's."""
    found = [[address] for cloud in METADATA.values() for address in cloud]
    found += [[address] for address in WRAPPED]
    for block in iana.BLOCKS:
        edges = dict.fromkeys([block[0], block[block.num_addresses // 2], block[-1]])
        found += [[str(address)] for address in edges]
        found += [[str(block[0]), PUBLIC[0]], [PUBLIC[1], PUBLIC[0], str(block[-1])]]
    return found


#: This machine, the metadata and a private network, as they may be entered. Where it is a name, DNS
#: says 127.0.0.1 whatever it is.
SPELLED = """
127.0.0.1 127.1 127.0.1 127.000.000.001 127.0.0.1. 127.00.00.01 0177.0.0.1 0177.0.0.01 0177.1
0x7f.0.0.1 0x7f.1 0x7F.0x0.0x0.0x1 0x7f000001 0X7F000001 0x0000007f000001 2130706433 017700000001
00000000017700000001 0x7f.0.1 127.0x1 127.0.0.0x1 0 0.0.0.0 0x0 00 0.0 [::] [::1] [0:0:0:0:0:0:0:1]
[0000::0001] [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [::ffff:0:7f00:1] [::1%25lo]
[fe80::1%eth0] [64:ff9b::7f00:1] [fec0::1] [fd00:ec2::254] [::FFFF:169.254.169.254] [2002:7f00:1::]
[fe80::1] 169.254.169.254 169.254.43518 2852039166 0xa9fea9fe 0xA9.0xFE.0xA9.0xFE
0251.0376.0251.0376 025177524776 10.0.0.1 10.1 012.1 0xa.1
167772161 192.168.1 192.168.0.1 3232235521 0300.0250.0.1 172.16.1 100.100.100.200
168.63.129.16 192.0.0.192 255.255.255.255 4294967295
224.0.0.1 localhost LOCALHOST localhost. x.localhost LocalHost.LocalDomain ip6-localhost
127.0.0.1.nip.example 1.2.3.08 127.0.0.09 127.0.0.1.5 0x7g.1 1..1 .127.0.0.1 127.0.0.1..
１２７.０.０.１ ⑫⑦.⓪.⓪.① 127。0。0。1 ⓛocalhost ℓocalhost ｌｏｃａｌｈｏｓｔ 0x７f.1 [：：1]
%31%32%37.0.0.1 127%2e0.0.1 127.0.0.1%00.partner.example partner.example%00 partner.example%2f
user@127.0.0.1 user:password@127.0.0.1 partner.example@127.0.0.1 partner.example:80@127.0.0.1
partner.example\\@127.0.0.1 127.0.0.1\\@partner.example 127.0.0.1\\.partner.example 127.0.0.1#@x
127.0.0.1:80 127.0.0.1:0080 127.0.0.1:443 127.0.0.1:22 127.0.0.1:6379 127.0.0.1:0 127.0.0.1:
127.0.0.1:99999 [::1]:80 [::1]:2375 partner.example:25 partner.example:65536
"""
HOSTS = SPELLED.split()
URLS = [
    *(f"http://{host}/x?v=1" for host in HOSTS),
    *(f"https://{host}/" for host in HOSTS[:20]),
    "http://127.0.0.1\t/",
    "http://127.0.0.1\r\nHost: x/",
    "http://127.0.\n0.1/",
    "http://127.0.0.1 /",
    " http://127.0.0.1/",
    "\x00http://127.0.0.1/",
    "http:127.0.0.1/",
    "http:/127.0.0.1/",
    "http:///127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "//127.0.0.1/",
    "127.0.0.1",
    "HTTP://127.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:70/",
    "ftp://127.0.0.1/",
    "dict://127.0.0.1:11211/stats",
    "ldap://127.0.0.1/",
    "unix:///var/run/docker.sock",
    "http+unix://%2fvar%2frun%2fdocker.sock/",
    "data:text/plain,x",
    "javascript:alert(1)",
    "",
    "http://",
    "http://[",
    "http://[::1",
    "http://::1/",
]


@pytest.fixture(autouse=True)
def bare(settings):
    settings.AFFILIATE_CALLBACK_ALLOW = ()
    settings.AFFILIATE_EGRESS_PROXY = ""
    settings.ALLOWED_HOSTS = ["*"]


def send(url):
    return egress.send("GET", url, headers={}, body=b"", timeout=5)


def say(monkeypatch, *addresses):
    """Let DNS say that every name has these addresses."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: found(*addresses))


def inner_connections(monkeypatch):
    """Call all there is to call; return how many vectors that were, and which got through."""
    through = []
    vectors = answers()
    for answer in vectors:
        say(monkeypatch, *answer)
        with no_connections() as dialled:
            send("http://partner.example/x")
        if dialled:
            through.append(answer)
    say(monkeypatch, "127.0.0.1")
    for url in URLS:
        with no_connections() as dialled:
            send(url)
            try:
                rendered = callbackurl.render(url, {})
            except InvalidCallbackURL:
                pass
            else:
                send(rendered)
        if dialled:
            through.append(url)
    return len(vectors), len(URLS), through


def test_no_answer_of_dns_and_no_spelling_leads_inside(monkeypatch):
    vectors, urls, through = inner_connections(monkeypatch)
    assert vectors >= 190
    assert urls >= 68
    assert through == []
    assert len(METADATA) == 5


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_called(monkeypatch, address):
    say(monkeypatch, address)
    with no_connections() as dialled:
        assert not send("http://partner.example/").refused
        assert not send(f"http://{f'[{address}]' if ':' in address else address}/").refused
    assert dialled == [address] * 2


def test_teeth_a_check_when_it_is_saved_only(monkeypatch):
    judged = egress._admit

    def when_saved(to, address, **more):
        if address == to.address:
            judged(to, address, **more)

    monkeypatch.setattr(egress, "_admit", when_saved)
    *_, through = inner_connections(monkeypatch)
    assert len(through) > 190


def test_teeth_what_python_calls_private(monkeypatch):
    def why_not_public(address):
        return "is private" if address.is_private else ""

    monkeypatch.setattr(addresses, "why_not_public", why_not_public)
    *_, through = inner_connections(monkeypatch)
    assert ["168.63.129.16"] in through
    assert len(through) >= 10


# All addresses, against the registries.


def at_random(number):
    """Yield addresses, most of them at the edges of blocks or within."""
    source = random.Random(7)
    given_out = iana.GIVEN_OUT
    edges = [
        (block.version, int(end) + step)
        for block in [*iana.BLOCKS, given_out, iana.MAPPED]
        for end in (block[0], block[-1])
        for step in (-2, -1, 0, 1, 2)
    ]
    of = {4: (ipaddress.IPv4Address, 2**32), 6: (ipaddress.IPv6Address, 2**128)}
    edges = [(version, value) for version, value in edges if 0 <= value < of[version][1]]
    yield from (of[version][0](value) for version, value in edges)
    for _ in range(number - len(edges)):
        kind = source.random()
        if kind < 0.3:
            yield ipaddress.IPv4Address(source.getrandbits(32))
        elif kind < 0.5:
            block = source.choice(iana.BLOCKS)
            yield block[source.randrange(block.num_addresses)]
        elif kind < 0.7:
            yield given_out[source.getrandbits(125)]
        elif kind < 0.75:
            marked = source.choice(iana.ISATAP)
            yield ipaddress.IPv6Address(
                int(given_out[0])
                + (source.getrandbits(61) << 64)
                + (int.from_bytes(marked) << 32)
                + source.getrandbits(32)
            )
        elif kind < 0.85:
            yield iana.MAPPED[source.getrandbits(32)]
        elif kind < 0.9:
            yield ipaddress.IPv6Address(source.getrandbits(128))
        else:
            version, value = source.choice(edges)
            near = value + source.randrange(-70_000, 70_000)
            yield of[version][0](near % of[version][1])


def disagreements(number):
    seen = Counter()
    wrong = []
    for address in at_random(number):
        inner = iana.is_inner(address)
        seen[address.version, inner] += 1
        if bool(addresses.why_not_public(address)) != inner:
            wrong.append(str(address))
    # So that agreeing means something.
    assert min(seen[kind] for kind in itertools.product((4, 6), (True, False))) > number / 50
    return wrong


@pytest.mark.parametrize(
    "number", [10_000, pytest.param(ADDRESSES, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_the_registries_agree(number):
    assert disagreements(number) == []


def test_teeth_a_block_that_is_missing(monkeypatch):
    fewer = tuple(row for row in addresses._IPV4 if row[0] != "100.64.0.0/10")
    monkeypatch.setattr(addresses, "_IPV4_BLOCKS", addresses._Blocks(fewer))
    assert disagreements(10_000)


# DNS that changes its mind.


def rebind(monkeypatch, number):
    """Make so many calls while DNS says one thing, then another; return what came of them."""
    source = random.Random(3)
    lookups = Counter()

    def flip(name, port, *args, **more):
        lookups[name] += 1
        inner = source.choice(["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1"])
        return found(source.choice(PUBLIC) if sum(lookups.values()) % 2 else inner, port=port)

    monkeypatch.setattr(socket, "getaddrinfo", flip)
    outcomes = Counter()
    with no_connections() as dialled:
        for call in range(number):
            outcomes[send(f"http://partner{call}.example/").refused] += 1
    return dialled, set(lookups.values()), outcomes


@pytest.mark.parametrize("number", [500, pytest.param(10_000, marks=pytest.mark.long)])
def test_the_address_that_was_judged_is_the_one_that_is_dialled(monkeypatch, number):
    dialled, lookups, outcomes = rebind(monkeypatch, number)
    assert dialled.inner() == []
    assert lookups == {1}
    assert outcomes == {True: number // 2, False: number // 2}
    assert len(dialled) == number // 2


def test_teeth_a_name_that_is_looked_up_twice(monkeypatch):
    def connect(to, deadline):
        for address in egress._look_up(to.name, to.port, deadline):
            egress._admit(to, address)
        return egress._dial(egress._look_up(to.name, to.port, deadline), to.port, deadline)[0]

    monkeypatch.setattr(egress, "_connect", connect)
    dialled, lookups, _ = rebind(monkeypatch, 100)
    assert len(dialled.inner()) >= 50
    assert lookups == {2}
