"""Look active partners up by uid, without a query for each click."""

from __future__ import annotations

from .models import Partner
from .models.partners import UID_LENGTH
from .remembered import Remembered


def active_id(uid: str) -> int | None:
    """Return the primary key of the active partner with this uid, or None."""
    if len(uid) != UID_LENGTH or not (uid.isascii() and uid.isalnum()):
        return None
    return _known.get(uid)


def _look_up(uid: str) -> int | None:
    found = Partner.objects.active().filter(uid=uid).values_list("pk", "uid").first()
    # Compared here as well: MariaDB takes "abcd" for "ABCD".
    return found[0] if found is not None and found[1] == uid else None


def forget(uid: str) -> None:
    """Ask the database the next time that this uid is seen."""
    _known.forget(uid)


_known = Remembered(_look_up)
