"""Put visitors into buckets as Flagship's SDKs do, so that every client comes to the same ones.

Pure. The hash is MurmurHash3, 32 bits for x86, with seed 0, of a variation group's id and the
visitor's, one after the other; the bucket is what is left of it by a hundred.
"""

from __future__ import annotations

try:
    from mmh3 import mmh3_32_uintdigest as digest
except ImportError:  # the extra is not installed, as the check says
    digest = None  # type: ignore[assignment]

__all__ = ["BUCKETS", "bucket", "digest", "encoded"]

#: `digest` returns the hash of bytes, from 0 to 2^32 − 1.
BUCKETS = 100


def encoded(text: str) -> bytes:
    """Return the bytes of a text that the SDKs hash.

    UTF-8 up to U+FFFF. A letter above that becomes three bytes that UTF-8 has not, with its highest
    bit in the second; and half a letter is put together with whatever follows it.
    """
    if text.isascii():
        return text.encode("ascii")
    if max(text) >= "\ud800":
        return _as_the_sdks(text)
    return text.encode()


def _as_the_sdks(text: str) -> bytes:
    found = bytearray()
    letters = iter(text)
    for letter in letters:
        code = ord(letter)
        following = next(letters, None) if 0xD800 <= code <= 0xDFFF else None
        if following is not None:
            code = ((code - 0xD7C0) << 10) + (ord(following) & 0x3FF)
            found += bytes(
                (
                    (0xF0 | code >> 18) & 0xFF,
                    0x80 | code >> 12 & 0x3F,
                    0x80 | code >> 6 & 0x3F,
                    0x80 | code & 0x3F,
                )
            )
        elif 0xD800 <= code <= 0xDFFF or code > 0xFFFF:
            found += bytes(
                (
                    (0xE0 | code >> 12) & 0xFF,
                    0x80 | code >> 6 & 0x3F | code >> 20 & 1,
                    0x80 | code & 0x3F,
                )
            )
        else:
            found += letter.encode()
    return bytes(found)


def bucket(group: str, visitor_id: str) -> int:
    """Return the bucket of a visitor in a variation group, from 0 to 99."""
    return digest(encoded(group + visitor_id)) % BUCKETS
