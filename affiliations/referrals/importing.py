"""Make members out of a file: look through all of it, say what is wrong, then make them by parts.

In any order: somebody may stand before whoever brought them. The command `import_members` calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError, router, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from .. import dates
from . import services
from .exceptions import NotRegistered, UnknownProgram, UnreadableMembers
from .memberfiles import COLUMNS, Line, read
from .models import Member, Operation, Program
from .models.members import MAX_HASH
from .programs import find_named as find_program
from .relations import FIRST_WAVE, PROBLEMS, THERE, Relations

__all__ = ["COLUMNS", "Import", "find_program", "read"]

AT_ONCE = 500

Progress = Callable[[int, int | None], None]


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
        self.lines = Relations()

    def close(self) -> None:
        """Drop what was read."""
        self.lines.close()

    def check(self, lines: Iterable[Line], progress: Progress) -> None:
        """Look through all lines, see `counts` and `problems`; nothing is written."""
        part: list[Line] = []
        done = 0
        with self.lines.filling():
            for line in lines:
                part.append(line)
                if len(part) == AT_ONCE:
                    done += self._take(part)
                    progress(done, None)
                    part = []
            self._take(part)
            self.lines.compare(self._hashes, AT_ONCE)

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many lines are good and new, are members already, and cannot be imported."""
        return self.lines.counts

    def problems(self, *, late: bool = False) -> Iterator[tuple[int, str]]:
        """Yield what is wrong, with the number of its line, in order.

        Either what `check` has found, or what was found out as late as by `make`.
        """
        return self.lines.problems(late=late)

    def make(self, progress: Progress) -> int:
        """Make the members that are good, whoever brings others first; returns how many were made.

        Each part in a transaction of its own: after an interruption the rest can be made by another
        run. Nobody is credited for it, nor will be, and no signal is sent; but with `credit` it is
        all as if they registered now. Raises UnreadableMembers where somebody else was faster.
        """
        made = 0
        total, _there, _wrong = self.counts
        for rows in self.lines.parts(AT_ONCE):
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
        self.lines.add(rows)
        self.lines.know(there)
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

    def _hashes(self, hashes: list[str]) -> Iterable[str]:
        """Return those that are members'."""
        found = self.members.filter(user_hash__in=filter(services.is_hash, hashes))
        return found.values_list("user_hash", flat=True)

    # Making them

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
                late.append((number, problem.replace("%", "%%")))
        self.lines.set_aside(late)
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
