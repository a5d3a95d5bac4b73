"""Stream tables as CSV that a spreadsheet opens without running anything that stands in it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from decimal import Decimal
from io import StringIO
from typing import Any

from django.http import HttpRequest, StreamingHttpResponse

from .streaming import streamed

__all__ = ["cell", "lines", "response", "separator_of", "text_of"]

#: What makes a spreadsheet take a cell for a formula (OWASP ASVS 5.0, 1.2.10), with the wide forms
#: that some take for the same.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: Excel takes a file without it for one in the machine's own encoding.
BYTE_ORDER_MARK = "\ufeff"
CHUNK = 64 * 1024
#: By what spreadsheets part cells, in one country or another.
SEPARATORS = (",", ";", "\t")


def cell(value: Any) -> str:
    """Return a value as a cell shows it: text that would be a formula is quoted, a number never."""
    text = "" if value is None else str(value)
    is_number = isinstance(value, int | float | Decimal)
    return f"'{text}" if _is_formula(text) and not is_number else text


def text_of(cell: str) -> str:
    """Return what a cell that `cell` has written holds."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def separator_of(text: str) -> str:
    """Return by what the cells of a file are parted, as its first line has it."""
    heading = text.lstrip("\ufeff\r\n ").partition("\n")[0]
    return max(SEPARATORS, key=heading.count)


def _is_formula(text: str) -> bool:
    # One that is quoted already is quoted once more, or nobody could tell whose quote it was.
    return text.lstrip("'").startswith(FORMULA)


def lines(heading: Iterable[Any], rows: Iterable[Iterable[Any]]) -> Iterator[bytes]:
    """Yield the table as UTF-8, some 64 KiB at a time, reading `rows` as it goes."""
    buffer = StringIO()
    buffer.write(BYTE_ORDER_MARK)
    writer = csv.writer(buffer)
    writer.writerow([cell(value) for value in heading])
    for row in rows:
        writer.writerow([cell(value) for value in row])
        if buffer.tell() >= CHUNK:
            yield buffer.getvalue().encode(errors="replace")
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode(errors="replace")


def response(
    request: HttpRequest, filename: str, heading: Iterable[Any], rows: Iterable[Iterable[Any]]
) -> StreamingHttpResponse:
    """Answer with a file to be saved as `filename`, which is ASCII, without holding all of it."""
    chunks = lines(heading, rows)
    answer = streamed(request, chunks, content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return answer
