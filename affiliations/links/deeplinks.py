"""Links to a page of the landing page's own host, signed: nobody else can make one.

/router/WTY76RkB/<the page's path, in base64>.<signature>
"""

from __future__ import annotations

import base64
import binascii

from django.core.signing import BadSignature, Signer

__all__ = ["path_of", "token"]

#: Versioned, and of no other use.
SALT = "affiliations.links.deep.v1"
SEPARATOR = "."
MAX_TOKEN = 4_000


def token(link_path: str, path: str) -> str:
    """Return what follows a link's path in an address that leads to `path`, with its query."""
    encoded = base64.urlsafe_b64encode(path.encode()).decode().rstrip("=")
    signature = _signer().signature(f"{link_path}/{encoded}")
    return f"{encoded}{SEPARATOR}{signature}"


def path_of(link_path: str, token: str) -> str:
    """Return the path that a token of this link stands for, "" where it is not one of ours."""
    encoded, _, signature = token.partition(SEPARATOR)
    if not signature or len(token) > MAX_TOKEN or not token.isascii():
        return ""
    try:
        _signer().unsign(f"{link_path}/{encoded}:{signature}")
        padded = encoded + "=" * (-len(encoded) % 4)
        return base64.urlsafe_b64decode(padded).decode()
    except (BadSignature, binascii.Error, UnicodeDecodeError):
        return ""


def _signer() -> Signer:
    return Signer(salt=SALT)
