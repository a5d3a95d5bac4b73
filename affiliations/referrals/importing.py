"""Make members out of a file: look through all of it, say what is wrong, then make them by parts.

In any order: somebody may stand before whoever brought them. What was read is kept in a temporary
file, as there may be more lines than there is memory. The command `import_members` calls it.
"""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, BinaryIO

from django.contrib.auth import get_user_model
from django.db import IntegrityError, router, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import csvexport, dates
from . import services
from .exceptions import NotRegistered, UnknownProgram, UnreadableMembers
from .models import Member, Operation, Program
from .models.members import MAX_HASH

__all__ = ["COLUMNS", "Import", "find_program", "read"]

COLUMNS = ("hash", "indicator", "program", "user", "registered_on")
#: The predecessor's lines, which have no heading: the hash, and whoever brought them.
FIELDS = ("hash", "indicator")
PARTED_BY = "|"
#: Bytes of a line: what has no end is no file of members.
LONGEST = 64 * 1024
AT_ONCE = 500

#: What is found wrong only when all lines are read, each about one other line.
PROBLEMS = {
    "same_hash": gettext_lazy("hash: line %(other)s has the same"),
    "same_user": gettext_lazy("user: line %(other)s has the same"),
    "unknown": gettext_lazy("indicator: is neither in the file nor a member"),
    "circle": gettext_lazy("indicator: they would have brought themselves, over line %(other)s"),
    "below": gettext_lazy("indicator: stands in line %(other)s, which cannot be imported"),
}

# `level` is how many of those above somebody are in the file, and new. Below zero is what is not to
# be made: THERE is a member already, from FIRST_WAVE downwards stands what cannot be, and LATE what
# was found out only when it was to be made.
THERE, FIRST_WAVE, LATE = -1, -2, -(2**62)
TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE line (
    number INTEGER PRIMARY KEY, hash TEXT, indicator TEXT, program INTEGER, user TEXT,
    registered_on TEXT, level INTEGER, problem TEXT, other INTEGER
);
CREATE INDEX by_hash ON line (hash, number);
CREATE INDEX by_indicator ON line (indicator);
CREATE INDEX by_level ON line (level, number);
CREATE INDEX by_user ON line (user, number) WHERE user <> '';
CREATE TABLE known (hash TEXT PRIMARY KEY) WITHOUT ROWID;
"""
ADD = "INSERT INTO line VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)"
# Whose hash is there twice brings nobody: the first one does.
SAME_HASH = """
UPDATE line SET problem = 'same_hash', level = ?, hash = NULL,
    other = (SELECT MIN(number) FROM line AS o WHERE o.hash = line.hash)
WHERE problem IS NULL AND number > (SELECT MIN(number) FROM line AS o WHERE o.hash = line.hash)
"""
SAME_USER = """
UPDATE line SET problem = 'same_user', level = ?,
    other = (SELECT MIN(number) FROM line AS o WHERE o.user = line.user AND o.user <> '')
WHERE user <> '' AND problem IS NULL AND number >
    (SELECT MIN(number) FROM line AS o WHERE o.user = line.user AND o.user <> '')
"""
OUTSIDE = """
SELECT DISTINCT indicator FROM line WHERE indicator > ?
    AND NOT EXISTS (SELECT 1 FROM line AS o WHERE o.hash = line.indicator)
ORDER BY indicator LIMIT ?
"""
UNKNOWN = """
UPDATE line SET problem = 'unknown', level = ?
WHERE level IS NULL AND indicator <> '' AND indicator NOT IN (SELECT hash FROM known)
    AND NOT EXISTS (SELECT 1 FROM line AS o WHERE o.hash = line.indicator)
"""
FIRST = """
UPDATE line SET level = 0
WHERE level IS NULL AND (indicator = '' OR indicator IN (SELECT hash FROM known))
"""
# In both the sign keeps SQLite from the index in which a million lines have no level yet.
NEXT = """
UPDATE line INDEXED BY by_indicator SET level = ?
WHERE +level IS NULL AND indicator IN (SELECT hash FROM line WHERE level = ?)
"""
BELOW = """
UPDATE line INDEXED BY by_indicator SET level = ?, problem = 'below',
    other = (SELECT number FROM line AS o WHERE o.hash = line.indicator)
WHERE +level IS NULL AND indicator IN (SELECT hash FROM line WHERE level = ?)
"""
CIRCLE = "UPDATE line SET problem = 'circle', level = ?, other = ? WHERE number = ?"
WRONG = """
SELECT number, problem, other FROM line
WHERE problem IS NOT NULL AND (level = ?) = ? ORDER BY number
"""
COUNTS = """
SELECT COUNT(CASE WHEN level >= 0 THEN 1 END), COUNT(CASE WHEN level = ? THEN 1 END), COUNT(problem)
FROM line
"""
PART = """
SELECT number, hash, indicator, program, user, registered_on FROM line
WHERE level = ? AND number > ? ORDER BY number LIMIT ?
"""

Progress = Callable[[int, int | None], None]
Line = tuple[int, dict[str, str]]


def find_program(text: str) -> Program:
    """Return the program with this number, or else the one of this name; raises UnknownProgram."""
    rows = Program.objects.using(router.db_for_write(Program)).order_by("pk")
    found: list[Program] = []
    if text.isascii() and text.isdecimal() and len(text) < 19:
        found = list(rows.filter(pk=int(text)))
    if not found and text.isprintable():
        found = list(rows.filter(name=text)[:2])
    if not found:
        raise UnknownProgram(_("program: there is no %(text)r") % {"text": text[:80]})
    if len(found) > 1:
        text = _("program: several are called %(text)r; say its number") % {"text": text[:80]}
        raise UnknownProgram(text)
    return found[0]


# Reading


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


# Checking, and making


class Import:
    """What a file has members in it, as far as it is known.

    First `check` it, then see `problems`, then `make` the members that are good. To be closed.
    """

    def __init__(self, program: Program | None = None, *, credit: bool = False) -> None:
        """Import into `program` what names none; credit what is promised only if told to."""
        self.program = program
        self.credit = credit
        self.using = router.db_for_write(Member)
        self.members = Member.objects.using(self.using)
        self.programs: dict[str, Program | str] = {}
        self.wave = FIRST_WAVE
        # By no name it is a file that is there for this connection alone.
        self.lines = sqlite3.connect("", isolation_level=None)
        self.lines.executescript(TABLES)

    def close(self) -> None:
        """Drop what was read."""
        self.lines.close()

    def check(self, lines: Iterable[Line], progress: Progress) -> None:
        """Look through all lines, see `counts` and `problems`; nothing is written."""
        part: list[Line] = []
        done = 0
        self.lines.execute("BEGIN")
        for line in lines:
            part.append(line)
            if len(part) == AT_ONCE:
                done += self._take(part)
                progress(done, None)
                part = []
        self._take(part)
        self._compare()
        self.lines.execute("COMMIT")

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many lines are good and new, are members already, and cannot be imported."""
        good, there, wrong = self.lines.execute(COUNTS, [THERE]).fetchone()
        return good, there, wrong

    def problems(self, *, late: bool = False) -> Iterator[tuple[int, str]]:
        """Yield what is wrong, with the number of its line, in order.

        Either what `check` has found, or what was found out as late as by `make`.
        """
        for number, problem, other in self.lines.execute(WRONG, [LATE, late]):
            yield number, str(PROBLEMS.get(problem, problem)) % {"other": other}

    def make(self, progress: Progress) -> int:
        """Make the members that are good, whoever brings others first; returns how many were made.

        Each part in a transaction of its own: after an interruption the rest can be made by another
        run. Nobody is credited for it, nor will be, and no signal is sent; but with `credit` it is
        all as if they registered now. Raises UnreadableMembers where somebody else was faster.
        """
        made = 0
        total, _there, _wrong = self.counts
        for rows in self._parts():
            made += self._register(rows) if self.credit else self._insert(rows)
            progress(made, total)
        return made

    # Each line alone

    def _take(self, part: list[Line]) -> int:
        """Note lines, with what is wrong with each."""
        hashes = [values.get("hash", "") for _, values in part]
        asked = self.members.filter(user_hash__in=filter(services.is_hash, hashes))
        there = dict(asked.values_list("user_hash", "indicator__user_hash"))
        users = self._users(values.get("user", "") for _, values in part)
        rows = []
        for number, values in part:
            user_hash, indicator = values.get("hash", ""), values.get("indicator", "")
            program, problems = self._program(values.get("program", ""))
            if not services.is_hash(user_hash):
                text = _("hash: must be 1 to %(most)s visible characters of ASCII")
                problems = [text % {"most": MAX_HASH}]
            elif user_hash not in there:
                problems += self._of_new(values, users)
            elif indicator and indicator != there[user_hash]:
                problems = [_("hash: is a member already, whom another brought")]
            else:
                problems = []
            is_there = user_hash in there
            rows.append(
                (
                    number,
                    # Of members the database knows whom they bring.
                    user_hash if services.is_hash(user_hash) and not is_there else None,
                    indicator,
                    program,
                    "" if is_there else values.get("user", ""),
                    values.get("registered_on", ""),
                    FIRST_WAVE if problems else THERE if is_there else None,
                    # A sign of percentage is none of ours.
                    "; ".join(problems).replace("%", "%%") or None,
                )
            )
        self.lines.executemany(ADD, rows)
        self._know(there)
        return len(part)

    def _of_new(self, values: dict[str, str], users: dict[str, tuple[Any, bool]]) -> list[str]:
        problems = []
        if values.get("indicator") == values["hash"]:
            problems.append(_("indicator: nobody brings themselves"))
        if name := values.get("user"):
            if name not in users:
                problems.append(_("user: there is none by this name"))
            elif users[name][1]:
                problems.append(_("user: is a member already, by another hash"))
        if text := values.get("registered_on"):
            moment = dates.moment(text)
            if self.credit:
                problems.append(_("registered_on: whoever is credited registers now"))
            elif moment is None or moment > timezone.now():
                problems.append(_("registered_on: must be a date such as 2026-11-20, and past"))
        return problems

    def _program(self, text: str) -> tuple[int | None, list[str]]:
        if text not in self.programs:
            try:
                program = find_program(text) if text else self._usual()
                if self.credit and not program.is_open(timezone.now()):
                    raise UnknownProgram(_("program: nobody can register in it now"))
                self.programs[text] = program
            except UnknownProgram as error:
                self.programs[text] = str(error)
        found = self.programs[text]
        return (None, [found]) if isinstance(found, str) else (found.pk, [])

    def _usual(self) -> Program:
        if self.program is not None:
            return self.program
        found = list(Program.objects.using(router.db_for_write(Program))[:2])
        if len(found) != 1:
            raise UnknownProgram(_("program: in which? Name it here, or by --program"))
        return found[0]

    def _users(self, names: Iterable[str]) -> dict[str, tuple[Any, bool]]:
        """Return users by their names, and whether each is a member."""
        User: Any = get_user_model()
        # PostgreSQL takes no NUL.
        wanted = {name for name in names if name and name.isprintable()}
        if not wanted:
            return {}
        rows = User._default_manager.filter(**{f"{User.USERNAME_FIELD}__in": wanted})
        users = {user.get_username(): user for user in rows}
        pks = [user.pk for user in users.values()]
        members = {*self.members.filter(user__in=pks).values_list("user", flat=True)}
        return {name: (user, user.pk in members) for name, user in users.items()}

    def _know(self, hashes: Iterable[str]) -> None:
        self.lines.executemany("INSERT OR IGNORE INTO known VALUES (?)", [(e,) for e in hashes])

    # All of them together

    def _compare(self) -> None:
        """Find what is wrong between lines, and give each that is good its level."""
        self.lines.execute(SAME_HASH, [FIRST_WAVE])
        self.lines.execute(SAME_USER, [FIRST_WAVE])
        self._look_outside()
        self.lines.execute(UNKNOWN, [FIRST_WAVE])
        self._spread()
        self.lines.execute(FIRST)
        level = 0
        while self.lines.execute(NEXT, [level + 1, level]).rowcount:
            level += 1
        # What has no level by now is in a circle, or below one.
        while (ring := self._circle()) is not None:
            self.wave -= 1
            self.lines.executemany(CIRCLE, [(self.wave, other, number) for number, other in ring])
            self._spread()

    def _look_outside(self) -> None:
        """Note which of the indicators that are not in the file are members."""
        last = ""
        while part := [each for (each,) in self.lines.execute(OUTSIDE, [last, AT_ONCE])]:
            last = part[-1]
            found = self.members.filter(user_hash__in=filter(services.is_hash, part))
            self._know(found.values_list("user_hash", flat=True))

    def _spread(self) -> None:
        """Have nobody made who was brought by what cannot be."""
        while self.lines.execute(BELOW, [self.wave - 1, self.wave]).rowcount:
            self.wave -= 1

    def _circle(self) -> list[tuple[int, int]] | None:
        """Return each line of a circle with the one that has its indicator."""
        ask = "SELECT number, indicator FROM line WHERE level IS NULL LIMIT 1"
        row = self.lines.execute(ask).fetchone()
        if row is None:
            return None
        by_hash = "SELECT number, indicator FROM line WHERE hash = ?"
        path: dict[int, int] = {}
        while row[0] not in path:
            number, indicator = row
            row = self.lines.execute(by_hash, [indicator]).fetchone()
            path[number] = row[0]
        ring = [row[0]]
        while path[ring[-1]] != ring[0]:
            ring.append(path[ring[-1]])
        return [(number, path[number]) for number in ring]

    # Making them

    def _parts(self) -> Iterator[list[tuple[Any, ...]]]:
        level = last = 0
        # Each level follows the one above it without a gap.
        while True:
            rows = self.lines.execute(PART, [level, last, AT_ONCE]).fetchall()
            if rows:
                yield rows
                last = rows[-1][0]
            elif last:
                level, last = level + 1, 0
            else:
                return

    def _found(self, rows: list[tuple[Any, ...]]) -> tuple[dict[str, Member], dict[str, Any]]:
        """Return by their hashes who brought these, and by their names their users."""
        indicators = {indicator for _, _, indicator, *_ in rows if indicator}
        found = self.members.filter(user_hash__in=indicators).select_related("program")
        users = self._users(user for *_, user, _ in rows)
        named = {name: user for name, (user, is_member) in users.items() if not is_member}
        return {each.user_hash: each for each in found}, named

    def _insert(self, rows: list[tuple[Any, ...]]) -> int:
        """Make members for whom nothing is at stake, and what their statements begin with."""
        programs = {each.pk: each for each in self.programs.values() if isinstance(each, Program)}
        now = timezone.now()
        try:
            with transaction.atomic(using=self.using):
                above, users = self._found(rows)
                members = []
                for _number, user_hash, indicator, program, user, registered_on in rows:
                    member = Member(
                        user_hash=user_hash,
                        user=users[user] if user else None,
                        program=programs[program],
                        indicator=above[indicator] if indicator else None,
                        registered_on=dates.moment(registered_on) or now,
                    )
                    member.promise(member.program)
                    # The predecessor has credited whatever there was to be.
                    member.credit_minor = member.reward_minor = 0
                    members.append(member)
                self.members.bulk_create(members)
                # MySQL does not say which keys it gave them.
                hashes = [member.user_hash for member in members]
                kept = {each.user_hash: each for each in self.members.filter(user_hash__in=hashes)}
                _note_all(kept[user_hash] for user_hash in hashes)
        except (IntegrityError, KeyError) as error:
            text = _("Somebody has registered meanwhile, or was deleted. Run it once more.")
            raise UnreadableMembers(text) from error
        return len(members)

    def _register(self, rows: list[tuple[Any, ...]]) -> int:
        """Register each as if they came now, with whatever that credits."""
        programs = {each.pk: each for each in self.programs.values() if isinstance(each, Program)}
        above, users = self._found(rows)
        made, late = 0, []
        for number, user_hash, indicator, program, user, _registered_on in rows:
            problem = ""
            if indicator and indicator not in above:
                problem = str(PROBLEMS["unknown"])
            elif user and user not in users:
                problem = _("user: there is none by this name")
            else:
                try:
                    services.register(
                        user_hash,
                        indicator=above.get(indicator),
                        program=programs[program],
                        user=users.get(user),
                    )
                    made += 1
                except NotRegistered as error:
                    problem = str(error)
            if problem:
                late.append((problem.replace("%", "%%"), LATE, number))
        self.lines.executemany("UPDATE line SET problem = ?, level = ? WHERE number = ?", late)
        return made


def _note_all(members: Iterable[Member]) -> None:
    """Begin the statements of members, and tell those of whoever brought them."""
    Kind = Operation.Kind
    rows = []
    for member in members:
        at: datetime = member.registered_on
        rows.append(Operation(member=member, about=member, kind=Kind.SIGNUP, created_on=at))
        if member.indicator_id is not None:
            about: Any = {"member_id": member.indicator_id, "about": member, "created_on": at}
            rows.append(Operation(kind=Kind.INDICATION, **about))
    Operation.objects.using(router.db_for_write(Operation)).bulk_create(rows)
