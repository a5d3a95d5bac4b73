"""Draw an address as a QR code; needs the extra `qr`."""

from __future__ import annotations

from io import BytesIO

from django.utils.html import format_html
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
    rows = list(_code(address).matrix_iter(border=BORDER))
    dark = [
        f"M{x} {y}h1v1h-1z"
        for y, row in enumerate(rows)
        for x, is_dark in enumerate(row)
        if is_dark
    ]
    return format_html(
        '<svg class="aff-qr" viewBox="0 0 {0} {0}" shape-rendering="crispEdges" focusable="false">'
        '<path fill="#fff" d="M0 0h{0}v{0}h-{0}z"/><path d="{1}"/></svg>',
        len(rows),
        "".join(dark),
    )


def file(address: str) -> bytes:
    """Return an SVG to be saved and printed."""
    buffer = BytesIO()
    _code(address).save(buffer, kind="svg", border=BORDER, scale=SCALE, light="white")
    return buffer.getvalue()


def _code(address: str) -> segno.QRCode:
    return segno.make(address, error="m", micro=False)
