"""Say what was measured: a table to read, a JSON document, or rows for the README."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import django
from django.db import connection

from .runner import Row


def environment() -> dict[str, Any]:
    """Return what the figures depend on."""
    version = connection.get_database_version()
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "python": platform.python_version(),
        "django": django.get_version(),
        "database": f"{connection.display_name} {'.'.join(map(str, version))}",
        "cores": os.cpu_count(),
    }


def heading(about: dict[str, Any]) -> str:
    """Return the line above every report."""
    return (
        f"Python {about['python']}, Django {about['django']}, {about['database']}, "
        f"{about['cores']} cores, {about['date']}"
    )


def figure(value: float | bool | None, unit: str) -> str:
    """Return a figure with its unit, to about three digits; of queries the row's title speaks."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or abs(value) >= 100:
        text = f"{value:.0f}"
    elif abs(value) < 0.1 and unit == "×":
        text = f"{value:.2g}"
    else:
        text = f"{value:.{2 if abs(value) < 10 else 1}f}"
    space = "" if unit == "×" else " "
    return text if unit in ("", "queries") else f"{text}{space}{unit}"


def measured(row: Row) -> str:
    """Return what was measured, with its quartiles."""
    if row.measured is None:
        return ""
    plus = "+" if row.baseline and row.unit != "×" and row.measured >= 0 else ""
    text = plus + figure(row.measured, row.unit)
    if row.quartiles is None:
        return text
    low, high = (figure(each, row.unit).removesuffix(row.unit).strip() for each in row.quartiles)
    return f"{text} ({low} … {high})"


def to_reach(row: Row) -> str:
    """Return the figure to reach."""
    limit = figure(row.at_most, row.unit)
    return f"≤ {limit}" if row.at_most else limit


def table(name: str, rows: list[Row]) -> str:
    """Return one benchmark's table as plain text."""
    lines = [("", "a call", "measured (quartiles)", "figure", "")]
    for title, group in groupby(rows, key=lambda row: row.title):
        for position, row in enumerate(group):
            if row.variant and position == 0:
                lines.append((title, "", "", "", ""))
            label = f"  {row.variant}" if row.variant else title
            time = figure(row.times[1], "µs") if row.times else ""
            lines.append((label, time, measured(row), to_reach(row), row.verdict))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    # Text to the left, times to the right, as they are read.
    text = (
        "  ".join(
            cell.rjust(width) if column == 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    details = (f"\n{row.title}\n{row.detail}" for row in rows if row.detail)
    return "\n".join([f"\n{name}", *text, *details])


def markdown(rows: list[Row]) -> str:
    """Return the rows of the README's table: those with a figure to reach."""
    lines = []
    for row in rows:
        if row.at_most is not None:
            what = f"{row.title}: {row.variant} over {row.baseline}" if row.baseline else row.title
            lines.append(f"| {what} | {measured(row)} | {to_reach(row)} | {row.verdict} |")
    return "\n".join(lines)
