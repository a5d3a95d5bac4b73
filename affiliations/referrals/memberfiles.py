"""Read files of who brought whom, line by line: the predecessor's, and CSV with a heading."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from django.utils.translation import gettext as _

from .. import csvexport
from .exceptions import UnreadableMembers

__all__ = ["COLUMNS", "Line", "read"]

COLUMNS = ("hash", "indicator", "program", "user", "registered_on")
#: The predecessor's lines, which have no heading: the hash, and whoever brought them.
FIELDS = ("hash", "indicator")
PARTED_BY = "|"
#: Bytes of a line: what has no end is no file of members.
LONGEST = 64 * 1024

Line = tuple[int, dict[str, str]]


def read(file: BinaryIO) -> Iterator[Line]:
    """Yield each line's number and what stands in it, by COLUMNS, one after the other.

    Raises UnreadableMembers where it is no text of UTF-8, or has a heading of other columns.
    """
    lines = _Lines(file)
    first = next((text for text in lines if text.strip()), "")
    if PARTED_BY in first:
        return _parted([first], lines)
    if not first:
        raise UnreadableMembers(_("It is empty."))
    return _cells(first, lines)


class _Lines:
    """Lines of text, and the number of the one that was read last."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        data = self.file.readline(LONGEST + 1)
        if not data:
            raise StopIteration
        self.number += 1
        words = {"number": self.number}
        if self.number == 1:
            if data.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise UnreadableMembers(_("It is written in UTF-16. Save it as UTF-8."))
            data = data.removeprefix(b"\xef\xbb\xbf")
        if len(data) > LONGEST:
            raise UnreadableMembers(_("Line %(number)s is too long to be one.") % words)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            text = _("Line %(number)s is not written in UTF-8.")
            raise UnreadableMembers(text % words) from error


def _parted(first: Iterable[str], lines: _Lines) -> Iterator[Line]:
    for texts in (first, lines):
        for text in texts:
            if text.strip():
                cells = [cell.strip() for cell in text.split(PARTED_BY)]
                yield lines.number, dict(zip(FIELDS, cells, strict=False))


def _cells(heading: str, lines: _Lines) -> Iterator[Line]:
    parted_by = csvexport.separator_of(heading)
    [names] = csv.reader([heading], delimiter=parted_by, skipinitialspace=True)
    names = [name.strip().lower() for name in names]
    unknown = [name[:40] for name in names if name not in {*COLUMNS, ""}]
    if unknown or "hash" not in names or len({*names} - {""}) < len([*filter(None, names)]):
        text = _(
            "Its first line has to name the columns, each once: hash, and if you like %(others)s."
        )
        raise UnreadableMembers(text % {"others": ", ".join(COLUMNS[1:])})
    reader = csv.reader(lines, delimiter=parted_by, skipinitialspace=True, strict=True)
    while True:
        number = lines.number + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            text = _("Line %(number)s cannot be read: %(error)s.")
            raise UnreadableMembers(text % {"number": number, "error": error}) from error
        if row is None:
            return
        cells = [csvexport.text_of(cell).strip() for cell in row]
        if any(cells):
            yield number, {name: cell for name, cell in zip(names, cells, strict=False) if name}
