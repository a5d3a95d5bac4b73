"""Make many links from a file of CSV: read it, say what is wrong with each line, make all or none.

The admin and the command `import_links` are thin callers of these.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from django.db import IntegrityError, router, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from .. import csvexport, dates
from ..models import Partner
from . import routing, services
from .exceptions import InvalidLink, UnreadableFile
from .models import Link

__all__ = ["COLUMNS", "Line", "cells", "check", "make", "read"]

COLUMNS = (
    "item_id",
    "landing_page",
    "callback_url",
    "floor_price",
    "currency",
    "partner",
    "path",
    "valid_from",
    "valid_until",
    "adds",
    "passes",
    "active",
)
REQUIRED = ("item_id", "landing_page")
#: Affiliate Hopper's own names, in small letters as all are.
SPELT = {
    "marketinglandingpage": "landing_page",
    "callbackurl": "callback_url",
    "floorprice": "floor_price",
}
#: What exports have besides; it follows from the path.
IGNORED = ("address",)
#: Stands for no parameter at all; an empty cell is as one that is not there.
NOTHING_PASSED = "-"
YES = frozenset(("yes", "true", "on", "1"))
NO = frozenset(("no", "false", "off", "0"))
AT_ONCE = 500

Progress = Callable[[int], None]


@dataclass(slots=True)
class Line:
    """A line of the file: what it says, what is wrong with it, and the link that comes of it."""

    number: int
    values: dict[str, str]
    problems: dict[str, list[str]] = field(default_factory=dict)
    link: Link | None = None

    def object_to(self, name: str, text: str) -> None:
        """Note a problem of a column, or of the line as a whole where `name` is empty."""
        self.problems.setdefault(name, []).append(text)


def read(data: bytes | str, *, most: int | None = None) -> list[Line]:
    """Return the lines of a file below its heading, of which there may be `most`.

    Raises UnreadableFile where it has no such lines, or its heading names columns that there are
    not; then nothing of it can be trusted.
    """
    text = _decoded(data) if isinstance(data, bytes) else data.removeprefix("\ufeff")
    separator = csvexport.separator_of(text)
    file = StringIO(text, newline="")
    reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
    columns: list[str] = []
    lines: list[Line] = []
    number = 1
    try:
        for row in reader:
            row = [csvexport.text_of(cell).strip() for cell in row]
            if any(row) and not columns:
                columns = _columns(row)
            elif any(row):
                lines.append(_line(number, columns, row))
                if most is not None and len(lines) > most:
                    raise UnreadableFile(
                        _("There are more than %(most)s lines. Use manage.py import_links.")
                        % {"most": f"{most:,}"}
                    )
            number = reader.line_num + 1
    except csv.Error as error:
        text = _("Line %(number)s cannot be read: %(error)s.")
        raise UnreadableFile(text % {"number": number, "error": error}) from error
    if not columns:
        raise UnreadableFile(_("It is empty. Its first line has to name the columns."))
    if not lines:
        raise UnreadableFile(_("There is no line below the one that names the columns."))
    return lines


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = _("It is written in UTF-16. Save it as “CSV UTF-8”.")
        raise UnreadableFile(text)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = _("Line %(number)s is not written in UTF-8. Save it as “CSV UTF-8”.")
        number = data[: error.start].count(b"\n") + 1
        raise UnreadableFile(text % {"number": number}) from error


def _columns(row: Sequence[str]) -> list[str]:
    names = [SPELT.get(cell.lower(), cell.lower()) for cell in row]
    known = {*COLUMNS, *IGNORED, ""}
    problems = []
    if unknown := [cell[:40] for cell, name in zip(row, names, strict=True) if name not in known]:
        there_are = _("There are no columns by these names: %(names)s. There are: %(known)s.")
        named = ", ".join(map(repr, unknown[:20]))
        problems.append(there_are % {"names": named, "known": ", ".join(COLUMNS)})
    for name in dict.fromkeys(name for name in names if name and names.count(name) > 1):
        problems.append(_("The column %(name)s is there twice.") % {"name": name[:40]})
    for name in REQUIRED:
        if name not in names:
            problems.append(_("The column %(name)s is missing.") % {"name": name})
    if problems:
        raise UnreadableFile(" ".join(problems))
    return names


def _line(number: int, columns: Sequence[str], row: Sequence[str]) -> Line:
    line = Line(number, {})
    for position, cell in enumerate(row):
        name = columns[position] if position < len(columns) else ""
        if name in COLUMNS:
            line.values[name] = cell
        elif not name and cell:
            text = _("“%(cell)s” stands in a column without a name.")
            line.object_to("", text % {"cell": cell[:40]})
    return line


def check(lines: Sequence[Line], progress: Progress | None = None) -> bool:
    """Note all that is wrong with each line, and tell whether nothing is: a dry run.

    What is wrong with none has its link afterwards, with its path, not saved.
    """
    uids = {line.values.get("partner", "") for line in lines}
    partners = _partners(uids - {""})
    same: defaultdict[str, list[Line]] = defaultdict(list)
    for done, line in enumerate(lines, 1):
        _check(line, partners)
        if path := line.values.get("path"):
            same[path.lower()].append(line)
        if progress:
            progress(done)
    taken = services.taken_paths(same)
    for path, those in same.items():
        for line in those:
            if path in taken:
                line.object_to("path", services.PATH_TAKEN)
            if other := next((each for each in those if each is not line), None):
                text = _("Line %(number)s has the same path.") % {"number": other.number}
                line.object_to("path", text)
    return not any(line.problems for line in lines)


def _partners(uids: Iterable[str]) -> dict[str, Partner]:
    wanted = sorted(uid for uid in uids if uid.isascii() and uid.isalnum())
    found: dict[str, Partner] = {}
    for start in range(0, len(wanted), AT_ONCE):
        rows = Partner.objects.filter(uid__in=wanted[start : start + AT_ONCE])
        found |= {partner.uid: partner for partner in rows}
    return found


def _check(line: Line, partners: dict[str, Partner]) -> None:
    # An empty cell is as one that is not there.
    given = {name: text for name, text in line.values.items() if text}
    options: dict[str, Any] = {"adds": given.get("adds", "")}
    partner = None
    if uid := given.get("partner"):
        partner = partners.get(uid)
        if partner is None:
            line.object_to("partner", _("There is no partner with this id in links."))
    for name in ("valid_from", "valid_until"):
        if text := given.get(name):
            options[name] = dates.moment(text)
            if options[name] is None:
                line.object_to(name, _("Must be a date such as 2026-11-20 or 2026-11-20T18:00."))
    if word := given.get("active", "").lower():
        options["active"] = word in YES
        if word not in YES | NO:
            line.object_to("active", _("Must be yes or no."))
    if passes := given.get("passes"):
        options["passes"] = "" if passes == NOTHING_PASSED else passes
    line.link, problems = services.draft_link(
        item_id=given.get("item_id", ""),
        landing_page=given.get("landing_page", ""),
        callback_url=given.get("callback_url", ""),
        floor=given.get("floor_price"),
        currency=given.get("currency", ""),
        partner=partner,
        path=given.get("path", ""),
        **options,
    )
    for name, said in problems.items():
        for text in said:
            line.object_to(name, text)


def make(lines: Sequence[Line], progress: Progress | None = None) -> list[Link]:
    """Make the links of lines that `check` found good, all of them or none; return them in order.

    Raises InvalidLink where a path was taken since.
    """
    now = timezone.now()
    links = [line.link for line in lines if line.link is not None]
    for link in links:
        link.created_on = now
    made: dict[str, Link] = {}
    try:
        with transaction.atomic(using=router.db_for_write(Link)):
            for start in range(0, len(links), AT_ONCE):
                part = Link.objects.bulk_create(links[start : start + AT_ONCE])
                # MySQL does not say which keys it gave them.
                rows = Link.objects.filter(path__in=[link.path for link in part])
                made |= {link.path: link for link in rows}
                if progress:
                    progress(len(made))
    except IntegrityError:
        if not services.taken_paths(link.path for link in links):
            raise
        raise InvalidLink({"path": [services.PATH_TAKEN]}) from None
    # This process may remember that there was none by these paths.
    routing.forget_all()
    return [made[link.path] for link in links]


def cells(link: Link) -> list[str]:
    """Return a link as a line of COLUMNS, from which `read` and `check` make the same."""
    return [
        link.item_id,
        link.landing_page,
        link.callback_url,
        str(link.floor.amount),
        link.currency,
        link.partner.uid if link.partner else "",
        link.path,
        *(when.isoformat() if when else "" for when in (link.valid_from, link.valid_until)),
        link.adds,
        link.passes or NOTHING_PASSED,
        "yes" if link.active else "no",
    ]
