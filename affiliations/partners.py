"""Look active partners up by uid, without a query for each click.

What is remembered is right within a second of a change made by any process, and at once in the
process that made it.
"""

from __future__ import annotations

import time
from threading import Lock

from .models import Partner
from .models.partners import UID_LENGTH

#: Seconds for which an answer is used again, counted from before it was asked for.
LIFETIME = 0.9
#: Uids that are remembered; the oldest goes first, so strangers' inventions cost a query at worst.
SIZE = 1024

_known: dict[str, tuple[float, int | None]] = {}
_lock = Lock()


def active_id(uid: str) -> int | None:
    """Return the primary key of the active partner with this uid, or None."""
    if len(uid) != UID_LENGTH or not (uid.isascii() and uid.isalnum()):
        return None
    asked = time.monotonic()
    known = _known.get(uid)
    if known is not None and asked < known[0]:
        return known[1]
    found = Partner.objects.active().filter(uid=uid).values_list("pk", "uid").first()
    # Compared here as well: MariaDB takes "abcd" for "ABCD".
    pk = found[0] if found is not None and found[1] == uid else None
    with _lock:
        if len(_known) >= SIZE:
            del _known[next(iter(_known))]
        _known[uid] = (asked + LIFETIME, pk)
    return pk


def forget(uid: str) -> None:
    """Ask the database the next time that this uid is seen."""
    with _lock:
        _known.pop(uid, None)
