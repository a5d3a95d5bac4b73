"""The grammar of callback URLs: what staff may enter, and what is sent in its place.

    https://partner.example/postback/{partner_uid}?id={visitor_id}&sum={amount}

A placeholder stands for a value that visitors may have chosen. It is therefore allowed only
behind the host, and its value is percent-encoded whole: it cannot end a parameter, add one, or
leave its path segment. `str.format` has no part in this, as it would read attributes.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit

from django.views.decorators.debug import sensitive_variables

from .exceptions import InvalidCallbackURL

__all__ = [
    "MAX_HOST",
    "MAX_LENGTH",
    "MAX_RENDERED_LENGTH",
    "PLACEHOLDERS",
    "TOKEN",
    "host",
    "render",
    "request_target",
    "validate",
    "with_token",
]

PLACEHOLDERS = (
    "visitor_id",
    "partner_uid",
    "trigger",
    "reference",
    "amount",
    "currency",
    "timestamp",
    "click_id",
    "sub1",
    "sub2",
    "sub3",
    "sub4",
    "sub5",
)
#: Stands for what a network knows us by, see `AFFILIATE_CALLBACK_TOKENS`.
TOKEN = "security_token"  # noqa: S105 - its name, not the token
MAX_LENGTH = 2_000
MAX_RENDERED_LENGTH = 8_000
#: What every database can keep unique. Names have up to 253 characters, and few any port.
MAX_HOST = 255

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/\\?#]*)"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?:\#(?P<fragment>.*))?",
    re.IGNORECASE | re.DOTALL,
)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})|%")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

# RFC 3986: what may stand unescaped in a path, and in a query or a fragment. The percent sign is
# in both because it has been dealt with when these are used.
_IN_PATH = "!$&'()*+,;=:@/%"
_IN_QUERY = _IN_PATH + "?"


def validate(
    url: str, *, names_visitor: bool = True, placeholders: Sequence[str] = PLACEHOLDERS
) -> None:
    """Raise InvalidCallbackURL, in words for staff, unless `url` is a callback URL.

    Without `names_visitor`, {visitor_id} may be missing: what is posted has it in its body.
    """
    render(url, {}, placeholders)
    if not names_visitor:
        return
    sent, _, fragment = url.partition("#")
    if "{visitor_id}" not in sent:
        raise InvalidCallbackURL(
            "The URL must contain {visitor_id}, so that the partner knows whom the call is about."
            if "{visitor_id}" not in fragment
            else "The URL must contain {visitor_id} before the #: what follows it is never sent."
        )


def render(url: str, values: Mapping[str, str], placeholders: Sequence[str] = PLACEHOLDERS) -> str:
    """Return the URL to call: the template `url` with its placeholders replaced.

    Those of `placeholders` may stand in it. One without a value becomes nothing, and `TOKEN` stays
    as it is: it is filled in when the call is made, and is kept nowhere. The result is ASCII in
    normal form (RFC 3986, section 6.2.2), so that no HTTP library rewrites it and the bytes that
    were signed are the bytes that are sent. Raises InvalidCallbackURL for a template that
    `validate` refuses, except that {visitor_id} may be missing, as it may in rows of the
    predecessor; and for a result longer than MAX_RENDERED_LENGTH.
    """
    _check_characters(url)
    match = _URL.fullmatch(url)
    if match is None:
        raise InvalidCallbackURL(_why_no_url(url))
    authority = _authority(match["authority"])
    path = _path(match["path"] or "/")
    query = _normal(match["query"] or "", _IN_QUERY)
    fragment = _normal(match["fragment"] or "", _IN_QUERY)
    _check_placeholders(path + query + fragment, placeholders)
    rendered = f"{match['scheme'].lower()}://{authority}{_filled_path(path, values)}"
    if query := _filled(query, values):
        rendered += f"?{query}"
    if fragment := _filled(fragment, values):
        rendered += f"#{fragment}"
    if len(rendered) > MAX_RENDERED_LENGTH:
        raise InvalidCallbackURL(
            f"With its values filled in, the URL is longer than {MAX_RENDERED_LENGTH:,} characters."
        )
    return rendered


def host(url: str) -> str:
    """Return the host of a URL, and its port unless it is the scheme's own.

    At most MAX_HOST characters of them. In lower case, as `render` writes it; what `render` would
    not have made may be in the outbox, too.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    return authority.removesuffix(":80" if scheme == "http" else ":443")[:MAX_HOST].lower()


@sensitive_variables()
def with_token(url: str, tokens: Mapping[str, str]) -> str:
    """Return a URL that `render` made with the token of its host in the place of `TOKEN`.

    Raises LookupError where there is none for that host. Braces stand in no other place: `render`
    escapes those of values, and refuses any in templates.
    """
    marker = f"{{{TOKEN}}}"
    if marker not in url:
        return url
    return url.replace(marker, quote(tokens[host(url)], safe=""))


def request_target(url: str) -> str:
    """Return what stands in the HTTP request line for a URL that `render` made."""
    parts = urlsplit(url)
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def _check_characters(url: str) -> None:
    if not isinstance(url, str):
        raise InvalidCallbackURL("The callback URL must be text.")
    if len(url) > MAX_LENGTH:
        raise InvalidCallbackURL(
            f"The URL is longer than {MAX_LENGTH:,} characters, the most there may be."
        )
    for character in url:
        if unicodedata.category(character) in ("Cc", "Cs", "Zs", "Zl", "Zp"):
            raise InvalidCallbackURL(
                "The URL contains a blank, a line break or another invisible character "
                f"({character!a}). Write a blank as %20."
            )


def _why_no_url(url: str) -> str:
    if not re.match(r"https?://", url, re.IGNORECASE):
        return "The URL must start with http:// or https://."
    return "The host ends in a backslash. A path starts with a slash: /."


def _authority(text: str) -> str:
    """Return host and port in normal form."""
    if "{" in text or "}" in text:
        raise InvalidCallbackURL(
            "Placeholders may stand only after the host: in the path, behind ? or behind #."
        )
    if "@" in text:
        raise InvalidCallbackURL(
            "The URL must not contain a user name or password before the host."
        )
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise InvalidCallbackURL(
            "What follows the host must be a port, a colon and a number from 1 to 65535; an IPv6 "
            "address needs square brackets."
        )
    host = _host(match["host"])
    if match["port"] is None:
        return host
    port = int(match["port"])
    if not 1 <= port <= 65_535:
        raise InvalidCallbackURL(f"The port {port} is not a number from 1 to 65535.")
    return f"{host}:{port}"


def _host(text: str) -> str:
    if not text:
        raise InvalidCallbackURL("The URL has no host: there is no name after http:// or https://.")
    if text.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(_without_zone(text[1:-1]))}]"
        except ValueError:
            raise InvalidCallbackURL(f"{text:.60} is not an IPv6 address.") from None
    host = text.lower()
    if not host.isascii():
        host = _idna(host)
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidCallbackURL(f"{text:.60} is not a valid host name.")
    return host


def _without_zone(address: str) -> str:
    # A zone ("%eth0") means an interface of this machine, where no partner can be.
    if "%" in address:
        raise ValueError("IPv6 zone")
    return address


def _idna(host: str) -> str:
    """Return an international name in ASCII, if all that read it agree on what it is.

    IDNA 2003, which Python ships, and IDNA 2008, which browsers follow, map some characters
    to different domains (the German sharp s; wide letters; joiners). Where the way back does
    not end at the same name, staff has to decide which one is meant.
    """
    composed = unicodedata.normalize("NFC", host)
    try:
        encoded = composed.encode("idna").decode("ascii")
        same = encoded.encode("ascii").decode("idna") == composed
    except UnicodeError:
        same = False
    if not same:
        raise InvalidCallbackURL(
            f"{host:.60} is not a host name that everybody reads alike. Write it in ASCII (xn--…)."
        )
    return encoded.lower()


def _path(text: str) -> str:
    """Return the template's path in normal form."""
    # Several HTTP libraries fold these, as "//x" alone would read as a host.
    path = "/" + _normal(text, _IN_PATH).lstrip("/")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise InvalidCallbackURL("The path must not contain the steps . and .. .")
    return path


def _normal(text: str, safe: str) -> str:
    """Return `text` with everything outside of its placeholders in normal form."""
    pieces = _PLACEHOLDER.split(text)
    pieces[::2] = [_normal_literal(literal, safe) for literal in pieces[::2]]
    pieces[1::2] = [f"{{{name}}}" for name in pieces[1::2]]
    return "".join(pieces)


def _normal_literal(text: str, safe: str) -> str:
    if "{" in text or "}" in text:
        raise InvalidCallbackURL(
            "There is a stray { or }. Braces only enclose placeholders, such as {visitor_id}; "
            "write any other as %7B and %7D."
        )
    return quote(_ESCAPE.sub(_normal_escape, text), safe=safe)


def _normal_escape(match: re.Match[str]) -> str:
    if match[1] is None:
        return "%25"
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()


def _check_placeholders(template: str, placeholders: Sequence[str]) -> None:
    for name in _PLACEHOLDER.findall(template):
        if name not in placeholders:
            known = ", ".join(f"{{{each}}}" for each in placeholders)
            there_are = f"There are: {known}." if known else "There can be none here."
            raise InvalidCallbackURL(f"{{{name:.60}}} is not a placeholder. {there_are}")


def _filled(template: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(
        lambda match: (
            match[0]
            if match[1] == TOKEN
            else quote(values.get(match[1], ""), safe="", errors="replace")
        ),
        template,
    )


def _filled_path(path: str, values: Mapping[str, str]) -> str:
    """Fill each segment; one that its values made meaningless to HTTP becomes "-".

    No escape protects a segment of "." or "..", which by RFC 3986 is a step even as "%2E", nor
    an empty first one, which libraries fold. Without this a visitor's ".." would move the call.
    """
    segments = [_filled(segment, values) for segment in path.split("/")[1:]]
    segments = ["-" if segment in (".", "..") else segment for segment in segments]
    if segments[0] == "" and len(segments) > 1:
        segments[0] = "-"
    return "/" + "/".join(segments)
