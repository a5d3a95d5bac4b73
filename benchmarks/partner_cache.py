"""How soon a change of a partner is seen by another process, and what the memory of it saves.

A child process deactivates, activates and renames a partner (gives it another uid, which only a
site's own SQL can do) in the same database, right after this process has remembered the contrary:
the worst moment. The time runs from before the child's UPDATE until the look-ups answer rightly.
The look-up from memory is set against asking the ORM each time.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from django.conf import settings
from django.db import connection

from affiliations import partners
from affiliations.models import Partner

from .runner import Fact, Race, Variant, progress, spread

WITHIN = 1.0
CHILD = "import django; django.setup(); from benchmarks.partner_cache import child; child()"
#: Seconds after which it is taken for never.
NEVER = 10.0


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield how late the look-ups were, and what one costs."""
    partner = Partner.objects.create(name="Anna", active=True)
    late = trials(partner, cycles=1 if quick else 4)
    low, middle, high = spread(late)
    yield Fact(
        f"partner changed elsewhere, seen after: median of {len(late)}",
        middle,
        "s",
        WITHIN,
        (low, high),
    )
    yield Fact(
        f"partner changed elsewhere, seen after: latest of {len(late)}", max(late), "s", WITHIN
    )

    uid = partner.uid
    yield Race(
        "look-up of a partner by its uid",
        [
            Variant("ORM get", lambda: Partner.objects.only("pk").get(uid=uid, active=True)),
            Variant("active_id, warm", lambda: partners.active_id(uid), "ORM get"),
        ],
        prepare=lambda calls: partners.active_id(uid),
    )
    partner.delete()


def trials(partner: Partner, cycles: int) -> list[float]:
    """Return the seconds that each of a child's changes took to be seen here."""
    uid, pk, other = partner.uid, partner.pk, "Another1"
    # What the child sets, and what the look-ups of the two uids have to answer then.
    changes = [
        ({"active": False}, {uid: None}),
        ({"active": True}, {uid: pk}),
        ({"uid": other}, {uid: None, other: pk}),
        ({"uid": uid}, {uid: pk, other: None}),
    ]
    late = []
    with subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            ask = asker(process)
            ask(f"{pk} name Anna")  # it has started, and is connected
            for change, answers in progress(changes * cycles, "a partner changed elsewhere"):
                ((column, value),) = change.items()
                for each in answers:
                    partners.forget(each)
                    partners.active_id(each)
                changed = ask(f"{pk} {column} {value}")
                while wrong(answers) and time.monotonic() - changed < NEVER:
                    time.sleep(0.001)
                late.append(time.monotonic() - changed)
        finally:
            process.stdin.close()  # which ends it
    return late


def asker(process: subprocess.Popen[str]) -> Callable[[str], float]:
    """Return what has the child make a change, and tells when it set about it."""

    def ask(line: str) -> float:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        # A clock of the machine, not of the process: the parent's goes on from it.
        return float(process.stdout.readline())

    return ask


def wrong(answers: dict[str, int | None]) -> bool:
    """Tell whether a look-up still answers as before."""
    return any(partners.active_id(uid) != answer for uid, answer in answers.items())


def child() -> None:
    """Change partners as the lines on stdin say, each of a key, a column and a value."""
    connection.settings_dict["NAME"] = settings.DATABASES["default"]["TEST"]["NAME"]
    for line in sys.stdin:
        pk, column, value = line.split()
        begun = time.monotonic()
        truth = {"True": True, "False": False}
        Partner.objects.filter(pk=pk).update(**{column: truth.get(value, value)})
        print(begun, flush=True)
    connection.close()
