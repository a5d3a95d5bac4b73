"""Draw counts per day, and differences, as inline SVG: numbers in, markup out.

Every colour is a class that the page's stylesheet colours by the theme's own variables, or else
`currentColor`. There is no inline style or script, so a content security policy lets it through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from itertools import accumulate
from typing import NamedTuple

from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext

__all__ = [
    "Difference",
    "Interval",
    "Series",
    "daily",
    "differences",
    "intervals",
    "portion",
    "sparkline",
    "stacked",
    "table",
]

# In the drawing's own units; the page scales it.
WIDTH = 720
PANEL = 100
NO_PANEL = 8  # where nothing was counted
HEADING = 54
FOOTER = 36
MARGIN = 66  # where the numbers of the scale stand
STEP = 4  # a sparkline's column, and the gap after it
SPARK_HEIGHT = 24
LABEL_EVERY = 7  # days
ROW, WORDS = 46, 26  # a difference: its words, and its bar below them
BAR = 12
BAR_WIDTH, BAR_HEIGHT = 160, 12  # of what is stacked
INSET = 8  # of what lies between two ends, which a point would stick out of


class Series(NamedTuple):
    """One thing that was counted, a value a day."""

    name: str
    values: Sequence[int]
    #: What each is called in words, where the number that is drawn is not all of it.
    texts: Sequence[str] = ()

    def said(self, index: int) -> str | int:
        """Return what is said of one of the values."""
        return self.texts[index] if self.texts else self.values[index]


def sparkline(values: Sequence[int], *, title: str) -> SafeString:
    """Draw one column a value, small enough for a table's row; `title` says it in words."""
    return format_html(
        '<svg class="aff-spark" role="img" focusable="false" width="{0}" height="{1}" '
        'viewBox="0 0 {0} {1}" aria-label="{2}"><title>{2}</title>{3}</svg>',
        max(len(values), 1) * STEP - 1,
        SPARK_HEIGHT,
        title,
        _columns(values, max(values, default=0), 0, SPARK_HEIGHT, SPARK_HEIGHT, STEP, STEP - 1),
    )


def stacked(parts: Sequence[tuple[str, int]], *, title: str) -> SafeString:
    """Draw the parts of a whole side by side, each a name for its class and a number.

    `title` says in words what the lengths show. However small, a part can be seen.
    """
    there = [(name, number) for name, number in parts if number > 0]
    total = sum(number for _, number in there)
    room = BAR_WIDTH - 3 * len(there)
    widths = [3 + room * number / total for _, number in there]
    lefts = [0.0, *accumulate(widths)]
    bars = (
        # A gap parts them for whoever cannot tell the colours.
        (name, round(left, 2), round(width - 1, 2), BAR_HEIGHT)
        for (name, _), left, width in zip(there, lefts, widths, strict=False)
    )
    return format_html(
        '<svg class="aff-stacked" role="img" focusable="false" width="{0}" height="{1}" '
        'viewBox="0 0 {0} {1}" aria-label="{2}"><title>{2}</title>{3}</svg>',
        BAR_WIDTH,
        BAR_HEIGHT,
        title,
        format_html_join(
            "", '<rect class="aff-part-{}" x="{}" y="0" width="{}" height="{}" rx="1"/>', bars
        ),
    )


def daily(days: Sequence[date], series: Sequence[Series], *, title: str) -> SafeString:
    """Draw each series in a panel of its own, one under the other, over the same days.

    Apart, as their heights have nothing to do with each other: a second scale in one panel is read
    as a comparison. Whoever points at a day sees its numbers; `table` has them for everybody.
    """
    rooms = [PANEL if any(each.values) else NO_PANEL for each in series]
    bases = list(accumulate(HEADING + room for room in rooms))
    bottom = bases[-1] if bases else 0
    return format_html(
        '<svg class="aff-daily" role="img" focusable="false" viewBox="0 0 {0} {1}" '
        'aria-label="{2}"><title>{2}</title>{3}{4}{5}</svg>',
        WIDTH,
        bottom + FOOTER,
        title,
        format_html_join(
            "", "{}", ([_panel(*each)] for each in zip(series, rooms, bases, strict=True))
        ),
        _dates(days, bottom + FOOTER - 10),
        _pointed(days, series, bottom),
    )


def table(days: Sequence[date], series: Sequence[Series], *, caption: str) -> SafeString:
    """Say in numbers what `daily` draws, the latest day first."""
    rows = [
        (
            date_format(day, "DATE_FORMAT"),
            format_html_join("", "<td>{}</td>", ([each.said(index)] for each in series)),
        )
        for index, day in enumerate(days)
    ]
    return format_html(
        '<table class="aff-table"><caption>{}</caption><thead><tr><th scope="col">{}</th>{}</tr>'
        "</thead><tbody>{}</tbody></table>",
        caption,
        gettext("Day"),
        format_html_join("", '<th scope="col">{}</th>', ([each.name] for each in series)),
        format_html_join("", '<tr><th scope="row">{}</th>{}</tr>', reversed(rows)),
    )


class Difference(NamedTuple):
    """How much more, or less, something is than something else, and that in words."""

    name: str
    value: int
    text: str


def differences(rows: Sequence[Difference], *, title: str) -> SafeString:
    """Draw a bar to the right of the middle for what is more, to the left for what is less.

    All on one scale. The words above each bar say the same.
    """
    highest = max((abs(each.value) for each in rows), default=0)
    return format_html(
        '<svg class="aff-daily aff-differences" role="img" focusable="false" viewBox="0 0 {0} {1}" '
        'aria-label="{2}"><title>{2}</title>{3}'
        '<line class="aff-axis" x1="{4}" x2="{4}" y1="0" y2="{1}"/></svg>',
        WIDTH,
        max(len(rows), 1) * ROW,
        title,
        format_html_join(
            "", "{}", ([_difference(each, highest, y * ROW)] for y, each in enumerate(rows))
        ),
        WIDTH // 2,
    )


def _difference(row: Difference, highest: int, top: int) -> SafeString:
    middle = WIDTH // 2
    # At least as wide as can be seen; by whole numbers, as the values may be beyond any float.
    width = max(abs(row.value) * middle // highest, 2) if row.value else 0
    return format_html(
        '<text class="aff-label aff-name" x="0" y="{y}">{name}</text>'
        '<text class="aff-label aff-name" x="{right}" y="{y}" text-anchor="end">{text}</text>'
        '<rect class="{look}" x="{x}" y="{bar}" width="{width}" height="{height}"/>',
        y=top + 22,
        name=row.name,
        right=WIDTH,
        text=row.text,
        look="aff-less" if row.value < 0 else "aff-more",
        x=middle - width if row.value < 0 else middle,
        bar=top + 28,
        width=width,
        height=BAR,
    )


class Interval(NamedTuple):
    """Where a figure lies, from somewhere to somewhere, and that in words."""

    name: str
    low: float
    middle: float
    high: float
    text: str
    #: "more" or "less", where it may be said to be above zero, or below; else "".
    tone: str = ""


def intervals(
    rows: Sequence[Interval],
    *,
    title: str,
    said: Callable[[float], str],
    most: float | None = None,
) -> SafeString:
    """Draw a whisker for each interval, all on one scale that holds zero, and a line for that.

    `said` says a number of the scale, which ends at `most` on either side, if that is given: an
    interval that goes on has no end there. The words above each whisker say the same.
    """
    bound = float("inf") if most is None else most
    left = max(min((each.low for each in rows), default=0), -bound)
    right = min(max((each.high for each in rows), default=0), bound)
    left, right = min(left, 0), max(right, 0)
    width = right - left or 1

    def place(value: float) -> float:
        inside = min(max(value, left), right)
        return round(INSET + (inside - left) / width * (WIDTH - 2 * INSET), 2)

    bottom = max(len(rows), 1) * ROW
    zero = place(0)
    # Where there is room for it.
    named: list[tuple[float, str, float]] = [(0, "start", left), (WIDTH, "end", right)]
    if WIDTH / 5 < zero < WIDTH * 4 / 5:
        named.append((zero, "middle", 0))
    return format_html(
        '<svg class="aff-daily aff-intervals" role="img" focusable="false" '
        'viewBox="0 0 {width} {height}" aria-label="{title}"><title>{title}</title>'
        "{zeros}{rows}{scale}</svg>",
        width=WIDTH,
        height=bottom + FOOTER,
        title=title,
        # In pieces, as it would cross the words.
        zeros=format_html_join(
            "",
            '<line class="aff-axis" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>',
            ((zero, y + WORDS, y + ROW) for y in range(0, bottom, ROW)),
        ),
        rows=format_html_join(
            "", "{}", ([_interval(each, place, bound, y * ROW)] for y, each in enumerate(rows))
        ),
        scale=format_html_join(
            "",
            '<text class="aff-label" x="{}" y="{}" text-anchor="{}">{}</text>',
            ((x, bottom + FOOTER - 10, anchor, said(value)) for x, anchor, value in named),
        ),
    )


def _interval(row: Interval, place: Callable[[float], float], bound: float, top: int) -> SafeString:
    y = top + 34
    ends = [place(each) for each in (row.low, row.high) if abs(each) <= bound]
    return format_html(
        '<text class="aff-label aff-name" x="0" y="{label}">{name}</text>'
        '<text class="aff-label aff-name" x="{right}" y="{label}" text-anchor="end">{text}</text>'
        '<g class="aff-interval{tone}"><path d="M{low} {y}H{high}{ends}"/>{point}</g>',
        label=top + 22,
        name=row.name,
        right=WIDTH,
        text=row.text,
        tone=f" aff-interval-{row.tone}" if row.tone else "",
        low=place(row.low),
        high=place(row.high),
        y=y,
        ends="".join(f"M{x} {y - 5}v10" for x in ends),
        point=format_html('<circle cx="{}" cy="{}" r="5"/>', place(row.middle), y)
        if abs(row.middle) <= bound
        else "",
    )


def portion(part: float, *, title: str) -> SafeString:
    """Draw a part of a whole, from 0 to 1, as a bar; `title` says it in words."""
    # However small, it can be seen.
    width = max(round(part * BAR_WIDTH, 2), 1) if part > 0 else 0
    return format_html(
        '<svg class="aff-portion" role="img" focusable="false" width="{0}" height="{1}" '
        'viewBox="0 0 {0} {1}" aria-label="{2}"><title>{2}</title>'
        '<rect class="aff-none" width="{0}" height="{1}" rx="1"/>'
        '<rect class="aff-bar" width="{3}" height="{1}" rx="1"/></svg>',
        BAR_WIDTH,
        BAR_HEIGHT,
        title,
        width,
    )


def _panel(series: Series, room: int, base: int) -> SafeString:
    highest = max(series.values, default=0)
    ceiling = _ceiling(highest)
    slot = _slot(series.values)
    return format_html(
        '<g class="aff-panel"><text class="aff-label aff-name" x="0" y="{label}">{name}</text>'
        '{scale}<line class="aff-axis" x1="{left}" x2="{right}" y1="{base}" y2="{base}"/>{bars}'
        "</g>",
        label=base - room - 22,
        name=series.name if highest else f"{series.name}: 0",
        scale=_scale(ceiling, base) if highest else "",
        left=MARGIN,
        right=WIDTH,
        base=base,
        bars=_columns(series.values, ceiling, MARGIN + 0.1 * slot, base, room, slot, 0.8 * slot),
    )


def _scale(ceiling: int, base: int) -> SafeString:
    return format_html(
        '<line class="aff-grid" x1="{left}" x2="{right}" y1="{top}" y2="{top}"/>'
        '<text class="aff-label" x="{number}" y="{top}" dy="4" text-anchor="end">{ceiling}</text>'
        '<text class="aff-label" x="{number}" y="{base}" text-anchor="end">0</text>',
        left=MARGIN,
        right=WIDTH,
        top=base - PANEL,
        base=base,
        number=MARGIN - 6,
        ceiling=f"{ceiling // 1000}k" if ceiling >= 1000 else ceiling,
    )


def _dates(days: Sequence[date], y: int) -> SafeString:
    """Name every seventh day, counted from the last, so that this one always has its name."""
    slot = _slot(days)
    named = [
        (
            # On a phone there is room for every other one.
            " aff-minor" if position % 2 else "",
            round(MARGIN + (index + 0.5) * slot, 2) if position else WIDTH,
            y,
            "middle" if position else "end",
            date_format(days[index], "MONTH_DAY_FORMAT"),
        )
        for position, index in enumerate(range(len(days) - 1, -1, -LABEL_EVERY))
    ]
    return format_html_join(
        "", '<text class="aff-label{}" x="{}" y="{}" text-anchor="{}">{}</text>', named
    )


def _pointed(days: Sequence[date], series: Sequence[Series], bottom: int) -> SafeString:
    slot = _slot(days)
    return format_html_join(
        "",
        '<rect class="aff-day" x="{}" y="0" width="{}" height="{}"><title>{}: {}</title></rect>',
        (
            (
                round(MARGIN + index * slot, 2),
                round(slot, 2),
                bottom,
                date_format(day, "MONTH_DAY_FORMAT"),
                ", ".join(f"{each.name} {each.said(index)}" for each in series),
            )
            for index, day in enumerate(days)
        ),
    )


def _slot(days: Sequence[object]) -> float:
    return (WIDTH - MARGIN) / max(len(days), 1)


def _columns(
    values: Sequence[int],
    ceiling: int,
    left: float,
    base: float,
    room: float,
    step: float,
    width: float,
) -> SafeString:
    """Draw columns, as two paths: what was counted, and a mere tick where nothing was."""
    counted: list[str] = []
    none: list[str] = []
    for index, value in enumerate(values):
        # At least as high as can be seen.
        height = max(value / ceiling * room, 2) if value > 0 else 1
        x = left + index * step
        path = f"M{x:.4g} {base:.4g}v-{height:.4g}h{width:.4g}v{height:.4g}z"
        (counted if value > 0 else none).append(path)
    return format_html(
        '<path class="aff-none" d="{}"/><path class="aff-bar" d="{}"/>',
        "".join(none),
        "".join(counted),
    )


def _ceiling(highest: int) -> int:
    """Return the round number, 1, 2 or 5 and zeros, that no column is higher than."""
    power = 1
    while power * 10 <= highest:
        power *= 10
    return next(step * power for step in (1, 2, 5, 10) if step * power >= highest)
