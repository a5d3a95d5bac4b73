"""Where a link leads: to its own landing page, whatever stands in the request.

No Django in here. Of the request only parameters can be added to the landing page's query; scheme,
host, path and fragment come from the link.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from .. import callbackurl
from ..exceptions import InvalidCallbackURL
from . import relay

__all__ = ["EVERYTHING", "MAX_LENGTH", "Page", "choose", "host", "normal", "on_host", "passed"]

#: Among the names of the parameters that are passed on: all but the network's own.
EVERYTHING = "*"
MAX_LENGTH = callbackurl.MAX_LENGTH
#: What browsers and servers between here and there take.
MAX_TARGET = 8_000
#: Parameters by which a network follows its click; they are nobody else's business.
NETWORKS_OWN = frozenset(relay.OF_CLICK)


def normal(url: str) -> str:
    """Return an address to land on in normal form: absolute, http or https, ASCII.

    Raises ValueError, in words for staff.
    """
    try:
        return callbackurl.render(url, {}, ())
    except InvalidCallbackURL as error:
        raise ValueError(str(error).replace("callback URL", "address")) from error


def host(url: str) -> str:
    """Return the host of an address in normal form, without its port."""
    return urlsplit(url).hostname or ""


def on_host(url: str, path: str) -> str:
    """Return the address of `path`, with its query, on the host of `url`, in normal form.

    Raises ValueError unless `path` begins with one slash.
    """
    if not path.startswith("/") or path.startswith(("//", "/\\")):
        raise ValueError("A deep link leads to a path that begins with one slash.")
    parts = urlsplit(url)
    return normal(f"{parts.scheme}://{parts.netloc}{path}")


class Page(NamedTuple):
    """A landing page, taken apart once, so that a click has only to put it together."""

    base: str
    query: str
    names: frozenset[str]
    fragment: str

    @classmethod
    def of(cls, url: str, adds: str = "") -> Page:
        """Take an address in normal form apart; of `adds`, a query, what it does not have comes to.

        The address's own parameters win over those.
        """
        rest, hash_sign, fragment = url.partition("#")
        base, _, query = rest.partition("?")
        names = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
        more = [
            (name, value)
            for name, value in parse_qsl(adds, keep_blank_values=True)
            if name not in names
        ]
        query = "&".join(filter(None, [query, _encoded(more)]))
        names |= {name for name, _ in more}
        return cls(base, query, frozenset(names), hash_sign + fragment)

    def target(self, more: Iterable[tuple[str, str]] = ()) -> str:
        """Return the address with the parameters `more`, but for those that it has itself."""
        added = _encoded([each for each in more if each[0] not in self.names])
        query = "&".join(filter(None, [self.query, added]))
        target = f"{self.base}?{query}{self.fragment}" if query else self.base + self.fragment
        if len(target) > MAX_TARGET and added:
            return self.target()
        return target


def passed(
    query: Iterable[tuple[str, str]], names: Sequence[str], networks: Iterable[str]
) -> list[tuple[str, str]]:
    """Return what of a click's query is passed on to the landing page.

    Those of `names`; with EVERYTHING among these all but the network's own, which are NETWORKS_OWN
    and `networks`.
    """
    wanted = set(names)
    if EVERYTHING not in wanted:
        return [each for each in query if each[0] in wanted]
    own = NETWORKS_OWN.union(networks) - wanted
    return [each for each in query if each[0] not in own]


def choose(weights: Sequence[int], who: str) -> int:
    """Return the position of one of several pages, the same for the same `who` each time.

    Each gets a part of all browsers in proportion to its weight. Without `who`, the first.
    """
    if len(weights) < 2 or not who:
        return 0
    digest = hashlib.blake2b(who.encode(), digest_size=8).digest()
    point = int.from_bytes(digest) * sum(weights) >> 64
    for position, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return position
    return 0


def _encoded(parameters: Iterable[tuple[str, str]]) -> str:
    return "&".join(
        f"{quote(name, safe='', errors='replace')}={quote(value, safe='', errors='replace')}"
        for name, value in parameters
    )
