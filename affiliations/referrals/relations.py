"""Keep lines of who brought whom while they are imported, and find what is wrong between them.

In a temporary file, as there may be more lines than there is memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.utils.translation import gettext_lazy

__all__ = ["FIRST_WAVE", "LATE", "PROBLEMS", "THERE", "Relations"]

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
MOVE = "UPDATE line SET problem = ?, level = ? WHERE number = ?"
KNOW = "INSERT OR IGNORE INTO known VALUES (?)"

#: Returns those of some hashes that are members'.
Look = Callable[[list[str]], Iterable[str]]


class Relations:
    """Lines, and of each that is good how many of those above somebody are in the file, and new.

    To be closed.
    """

    def __init__(self) -> None:
        """Begin with no lines."""
        self.wave = FIRST_WAVE
        # By no name it is a file that is there for this connection alone.
        self.lines = sqlite3.connect("", isolation_level=None)
        self.lines.executescript(TABLES)

    def close(self) -> None:
        """Drop what was noted."""
        self.lines.close()

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Write all that is noted meanwhile at once."""
        self.lines.execute("BEGIN")
        yield
        self.lines.execute("COMMIT")

    def add(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Note lines: number, hash, indicator, program, user, registered_on, level and problem."""
        self.lines.executemany(ADD, rows)

    def know(self, hashes: Iterable[str]) -> None:
        """Note that these are members already."""
        self.lines.executemany(KNOW, [(each,) for each in hashes])

    def set_aside(self, numbers: Iterable[tuple[int, str]]) -> None:
        """Note of lines, by their numbers, what was found wrong only when they were to be made."""
        self.lines.executemany(MOVE, [(text, LATE, number) for number, text in numbers])

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many lines are good and new, are members already, and cannot be imported."""
        good, there, wrong = self.lines.execute(COUNTS, [THERE]).fetchone()
        return good, there, wrong

    def problems(self, *, late: bool) -> Iterator[tuple[int, str]]:
        """Yield what is wrong, with the number of its line, in order; see `Import.problems`."""
        for number, problem, other in self.lines.execute(WRONG, [LATE, late]):
            yield number, str(PROBLEMS.get(problem, problem)) % {"other": other}

    def parts(self, most: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the lines that are good, so many at a time at most, whoever brings others first.

        Number, hash, indicator, program, user, registered_on.
        """
        level = last = 0
        # Each level follows the one above it without a gap.
        while True:
            rows = self.lines.execute(PART, [level, last, most]).fetchall()
            if rows:
                yield rows
                last = rows[-1][0]
            elif last:
                level, last = level + 1, 0
            else:
                return

    def compare(self, look: Look, most: int) -> None:
        """Find what is wrong between lines, and give each that is good its level.

        `look` is asked which indicators are members that are not in the file, so many at a time.
        """
        self.lines.execute(SAME_HASH, [FIRST_WAVE])
        self.lines.execute(SAME_USER, [FIRST_WAVE])
        self._look_outside(look, most)
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

    def _look_outside(self, look: Look, most: int) -> None:
        """Note which of the indicators that are not in the file are members."""
        last = ""
        while part := [each for (each,) in self.lines.execute(OUTSIDE, [last, most])]:
            last = part[-1]
            self.know(look(part))

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
