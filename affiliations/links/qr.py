"""Draw an address as a QR code; needs the extra `qr`."""

from __future__ import annotations

from io import BytesIO

from django.utils.safestring import SafeString

try:
    import segno
except ImportError:
    segno = None  # type: ignore[assignment]

__all__ = ["file", "inline", "is_available"]

#: Blank modules around, which readers need (ISO/IEC 18004).
BORDER = 4
#: Pixels a module, where a file is opened as it is.
SCALE = 10


def is_available() -> bool:
    """Tell whether the extra is installed."""
    return segno is not None


def inline(address: str) -> SafeString:
    """Return an SVG to stand in a page: as large as its stylesheet says, black on white always."""
    drawn = segno.make(address, error="m", micro=False).svg_inline(
        border=BORDER, omitsize=True, light="white", svgclass="aff-qr", lineclass=None
    )
    # Numbers and these words only: the address is drawn, not written.
    return SafeString(drawn)


def file(address: str) -> bytes:
    """Return an SVG to be saved and printed."""
    buffer = BytesIO()
    code = segno.make(address, error="m", micro=False)
    code.save(buffer, kind="svg", border=BORDER, scale=SCALE, light="white")
    return buffer.getvalue()
