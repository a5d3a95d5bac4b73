"""Read and rewrite raw query strings, byte for byte, for the middleware's redirect.

A query is `META["QUERY_STRING"]`: under WSGI each character is one byte of what the client
sent; servers of the other kind, and test clients, may hand over real Unicode. Names of
parameters are compared as they stand, and "&" alone separates them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from urllib.parse import quote, unquote_to_bytes

from django.utils.encoding import escape_uri_path
from django.utils.http import escape_leading_slashes

__all__ = ["find", "pairs", "parameters", "redirect_target", "strip"]

# How much of a query `parameters` looks at. Servers stop far below, at 8 to 16 KiB.
_SCANNED_CHARACTERS = 65_536
_SCANNED_PARAMETERS = 1_000

# What the WHATWG URL parser rewrites or drops in a query, or ends it at: everything but
# printable ASCII, and of that the blank, `"`, `#`, `<` and `>`. It rewrites `'` too, but to an
# escape of the same character, and a browser has done so before it sent the request; `'` stays,
# so that other clients get back what they sent.
_UNSAFE_IN_QUERY = re.compile(r"[^!$-;=?-~]")

# PostgreSQL takes neither NUL nor surrogates; the other controls are nobody's id.
_UNSTORABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def find(query: str, key: str) -> str | None:
    """Return the decoded value of the last parameter `key`, "" without "=", None if absent."""
    if key not in query:
        return None
    for parameter in reversed(query.split("&")):
        name, _, value = parameter.partition("=")
        if name == key:
            return _decoded(value)
    return None


def strip(query: str, key: str) -> str:
    """Return `query` without any parameter `key`, everything else byte for byte."""
    if key not in query:
        return query
    kept = [each for each in query.split("&") if each.partition("=")[0] != key]
    return "&".join(kept)


def redirect_target(path: str, query: str) -> str:
    """Return a Location that leads to `path` with `query` on the host that was asked.

    `path` is decoded, as in `request.path`; `query` is raw. The result is ASCII. Of the query
    only what cannot stand in a header, or would not arrive as it was sent, gets escaped. Put it
    into the header as it is: HttpResponseRedirect would escape more, and refuse some.
    """
    # A path that does not start with a slash could be read as a scheme.
    rooted = path if path.startswith("/") else f"/{path}"
    encodable = rooted.encode("utf-8", "replace").decode("utf-8")
    target = escape_leading_slashes(escape_uri_path(encodable))
    return f"{target}?{_UNSAFE_IN_QUERY.sub(_escape, query)}" if query else target


def parameters(query: str, keys: Collection[str], limit: int) -> dict[str, str]:
    """Return the first value of each of `keys`, fit to be stored; empty ones are left out.

    Values are decoded, rid of control characters and surrogates, and cut to `limit`
    characters. What stands after 64 KiB or 1,000 parameters is not looked at, so that a
    hostile query costs no more than a long one.
    """
    found: dict[str, str] = {}
    for name, value in _scanned(query):
        if name in keys and name not in found:
            found[name] = _storable(value)[:limit]
    return {name: value for name, value in found.items() if value}


def pairs(query: str) -> list[tuple[str, str]]:
    """Return all parameters in their order, names and values fit to be stored; bounded likewise.

    Names are decoded here, too. Whoever stores them says how much of them.
    """
    found = [(_storable(name), _storable(value)) for name, value in _scanned(query)]
    return [each for each in found if each[0]]


def _scanned(query: str) -> Iterator[tuple[str, str]]:
    scanned = query
    if len(query) > _SCANNED_CHARACTERS:
        # The last one may be cut in half, and half an id is another id.
        scanned = query[:_SCANNED_CHARACTERS].rpartition("&")[0]
    for parameter in scanned.split("&", _SCANNED_PARAMETERS)[:_SCANNED_PARAMETERS]:
        name, _, value = parameter.partition("=")
        yield name, value


def _storable(text: str) -> str:
    # Nearly every one, and a tenth of the time.
    if text.isascii() and text.isprintable() and "%" not in text and "+" not in text:
        return text
    return _UNSTORABLE.sub("", _decoded(text))


def _decoded(value: str) -> str:
    plain = value.replace("+", " ")
    try:
        sent = plain.encode("latin-1")
    except UnicodeEncodeError:
        sent = plain.encode("utf-8", "replace")
    return unquote_to_bytes(sent).decode("utf-8", "replace")


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character <= "\xff":
        return f"%{ord(character):02X}"
    return quote(character, errors="replace")
