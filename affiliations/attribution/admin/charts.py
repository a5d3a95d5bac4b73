"""Draw what models say of the same, and how long people took, as inline SVG.

As in the suite's own charts every colour is a class, and there is no inline style or script.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

__all__ = ["Column", "columns", "grouped", "swatch"]

# In the drawing's own units; the page scales it.
LENGTH, THICK, GAP = 200, 9, 3
WIDTH, HEIGHT, TOP, FOOT, MARGIN = 720, 120, 22, 30, 66
#: Columns between two that are named.
NAMED = 7


def swatch(position: int) -> SafeString:
    """Draw the colour of the model at that place."""
    return format_html(
        '<svg class="aff-swatch" width="12" height="12" aria-hidden="true" focusable="false">'
        '<rect class="aff-model-{}" width="12" height="12" rx="2"/></svg>',
        position,
    )


def grouped(
    bars: Sequence[tuple[int, float]], highest: float, *, title: str, about: str
) -> SafeString:
    """Draw a bar for each model, of its place and its value; those of all rows are on one scale.

    `title` says the values in words, and `about` what the scale is.
    """
    height = max(len(bars), 1) * (THICK + GAP) - GAP
    return format_html(
        '<svg class="aff-grouped" role="img" focusable="false" width="{0}" height="{1}" '
        'viewBox="0 0 {0} {1}" preserveAspectRatio="none" aria-label="{2}">'
        "<title>{2}</title><desc>{3}</desc>{4}</svg>",
        LENGTH,
        height,
        title,
        about,
        format_html_join(
            "",
            '<rect class="aff-model-{}" x="0" y="{}" width="{}" height="{}" rx="1"/>',
            (
                (position, row * (THICK + GAP), _length(value, highest), THICK)
                for row, (position, value) in enumerate(bars)
            ),
        ),
    )


def _length(value: float, highest: float) -> float:
    # At least as long as can be seen, where there is anything.
    return max(round(value / highest * LENGTH, 2), 1.5) if value > 0 else 0


class Column(NamedTuple):
    """What is counted of one stretch of time."""

    #: Where it begins, in days.
    name: str
    #: In words, for whoever points at it.
    text: str
    value: int


def columns(found: Sequence[Column], *, title: str, about: str) -> SafeString:
    """Draw a column for each stretch of time; whoever points at one is told its numbers."""
    highest = max((each.value for each in found), default=1)
    slot = (WIDTH - MARGIN) / max(len(found), 1)
    base = TOP + HEIGHT
    return format_html(
        '<svg class="aff-daily" role="img" focusable="false" viewBox="0 0 {width} {height}" '
        'aria-label="{title}"><title>{title}</title><desc>{about}</desc>'
        '<line class="aff-grid" x1="{left}" x2="{width}" y1="{top}" y2="{top}"/>'
        '<text class="aff-label" x="{number}" y="{top}" dy="4" text-anchor="end">{highest}</text>'
        '<text class="aff-label" x="{number}" y="{base}" text-anchor="end">0</text>'
        '<line class="aff-axis" x1="{left}" x2="{width}" y1="{base}" y2="{base}"/>'
        "{bars}{names}{pointed}</svg>",
        width=WIDTH,
        height=base + FOOT,
        title=title,
        about=about,
        left=MARGIN,
        number=MARGIN - 6,
        top=TOP,
        base=base,
        highest=highest,
        bars=format_html_join(
            "",
            '<rect class="aff-bar" x="{}" y="{}" width="{}" height="{}"/>',
            (
                (round(MARGIN + (n + 0.1) * slot, 2), base - high, round(0.8 * slot, 2), high)
                for n, each in enumerate(found)
                if (high := max(round(each.value / highest * HEIGHT, 2), 2) if each.value else 0)
            ),
        ),
        names=format_html_join(
            "",
            '<text class="aff-label" x="{}" y="{}" text-anchor="middle">{}</text>',
            (
                (round(MARGIN + (n + 0.5) * slot, 2), base + FOOT - 6, each.name)
                for n, each in enumerate(found)
                if n % NAMED == 0
            ),
        ),
        pointed=format_html_join(
            "",
            '<rect class="aff-day" x="{}" y="0" width="{}" height="{}"><title>{}</title></rect>',
            (
                (round(MARGIN + n * slot, 2), round(slot, 2), base, each.text)
                for n, each in enumerate(found)
            ),
        ),
    )
