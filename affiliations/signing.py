"""Sign callbacks the Standard Webhooks way (v1, symmetric), and verify what was signed.

Source: https://www.standardwebhooks.com, "Signature scheme". It covers POST; a GET signs its
exact request target instead of a body. Error reports do not show the variables of these functions.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets as random_source
import string
from collections.abc import Iterable, Mapping

from django.views.decorators.debug import sensitive_variables

from .exceptions import InvalidSignature

__all__ = [
    "SECRET_PREFIX",
    "TEST_PREFIX",
    "TOLERANCE",
    "decode_secret",
    "derive_secret",
    "encode_secret",
    "key_fingerprint",
    "new_webhook_id",
    "payload",
    "sign",
    "signature_header",
    "verify",
]

SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret starts with is not secret
#: Seconds by which the clocks of sender and receiver may differ, in either direction.
TOLERANCE = 300

_ALPHANUMERIC = string.ascii_letters + string.digits
# A dot in the id would move the border between id and timestamp, which dots mark.
_WEBHOOK_ID = re.compile(r"[!-\-/-~]{1,200}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


#: What the id of a call begins with that only tries an address, and counts for nothing.
TEST_PREFIX = "test_"


def new_webhook_id(prefix: str = "msg_") -> str:
    """Return a new id for a message: the prefix, and 154 random bits as letters and digits."""
    return prefix + "".join(random_source.choice(_ALPHANUMERIC) for _ in range(26))


def payload(method: str, target: str, body: bytes) -> bytes:
    """Return what is signed of a request: a GET's request target, any other's body."""
    return target.encode() if method.upper() == "GET" else body


@sensitive_variables()
def sign(secret: bytes, webhook_id: str, timestamp: int, payload: bytes) -> str:
    """Return the signature "v1,<base64>" of `payload`, sent at `timestamp` (Unix seconds)."""
    signed = f"{webhook_id}.{timestamp}.".encode() + payload
    digest = hmac.digest(secret, signed, "sha256")
    return "v1," + base64.b64encode(digest).decode()


@sensitive_variables()
def signature_header(
    secrets: Iterable[bytes], webhook_id: str, timestamp: int, payload: bytes
) -> str:
    """Return the webhook-signature header: a signature by each secret, as rotation needs."""
    return " ".join(sign(secret, webhook_id, timestamp, payload) for secret in secrets)


@sensitive_variables()
def verify(
    secrets: bytes | Iterable[bytes],
    headers: Mapping[str, str],
    payload: bytes,
    now: float,
    tolerance: int = TOLERANCE,
) -> None:
    """Accept a message that one of `secrets` signed; raise InvalidSignature for any other.

    `headers` are the request's, in any case; `now` is in Unix seconds, and a message exactly
    `tolerance` seconds old or early still passes.
    """
    by_name = {str(name).lower(): value for name, value in headers.items()}
    webhook_id = _matching(by_name, "webhook-id", _WEBHOOK_ID)
    timestamp = int(_matching(by_name, "webhook-timestamp", _TIMESTAMP))
    given = by_name.get("webhook-signature")
    if not isinstance(given, str):
        raise InvalidSignature("webhook-signature: is missing")
    if not abs(now - timestamp) <= tolerance:
        raise InvalidSignature(f"webhook-timestamp: is more than {tolerance} s off")
    candidates = [signature.encode(errors="replace") for signature in given.split(" ")]
    known = [secrets] if isinstance(secrets, bytes) else secrets
    for secret in known:
        # Compared as text: base64 has several spellings of a digest, and we send only one.
        expected = sign(secret, webhook_id, timestamp, payload).encode()
        if any(hmac.compare_digest(expected, candidate) for candidate in candidates):
            return
    raise InvalidSignature("webhook-signature: matches none of the secrets")


def _matching(headers: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> str:
    value = headers.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidSignature(f"{name}: is missing or malformed")
    return value


@sensitive_variables()
def encode_secret(secret: bytes) -> str:
    """Return a secret as partners store it: "whsec_" and base64."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


@sensitive_variables()
def decode_secret(text: str) -> bytes:
    """Return the bytes of "whsec_<base64>"; raises InvalidSignature where it is none.

    The prefix may be missing, and blanks around it are from copying: partners paste this.
    """
    encoded = text.strip().removeprefix(SECRET_PREFIX)
    try:
        secret = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not secret:
        raise InvalidSignature(f"secret: must be {SECRET_PREFIX} and base64")
    return secret


@sensitive_variables()
def derive_secret(site_key: str | bytes, salt: str) -> bytes:
    """Return the 32-byte secret that `site_key` and `salt` stand for, the same each time.

    The database keeps the salt only, so whoever reads it alone can sign nothing. Encrypting a
    stored secret would do as well, but needs a cipher, and Python ships none: the core depends
    on Django and requests, nothing else. Source: RFC 5869, extract (a key of even quality out
    of the site's, under a label of ours) then expand (one block, bound to the salt).
    """
    extracted = hmac.digest(b"affiliations.signing.v1", _bytes(site_key), "sha256")
    return hmac.digest(extracted, b"secret\x00" + salt.encode() + b"\x01", "sha256")


@sensitive_variables()
def key_fingerprint(site_key: str | bytes) -> str:
    """Return 8 hex digits that tell which site key a row was made with, and not the key."""
    return hmac.digest(b"affiliations.fingerprint.v1", _bytes(site_key), "sha256").hex()[:8]


@sensitive_variables()
def _bytes(site_key: str | bytes) -> bytes:
    # Django takes a SECRET_KEY of either type.
    return site_key if isinstance(site_key, bytes) else site_key.encode()
