"""Write down who has seen which variation, and when for the first time.

    record(prop, visitor, [Seen(choice, timezone.now())])

To say so again changes nothing, so that clients may.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

from django.db import models, router, transaction

from ..savepoints import retried
from ..tracking.identities import Name
from ..tracking.properties import Known
from . import live
from .deciding import Visitor, identity_of
from .models import Assignment, Variation
from .recently import Recently
from .rules import Keys

__all__ = ["Seen", "find", "forget", "is_known", "record"]

#: Seconds for which a process knows what it has written, and of how much of it.
KNOWN, SIZE = 600, 50_000
_written = Recently(KNOWN, SIZE)


class Seen(NamedTuple):
    """A variation, by the version of its campaign, and when it was seen."""

    keys: Keys
    version: int
    seen_on: datetime


def record(
    prop: Known,
    visitor: Visitor,
    seen: Iterable[Seen],
    *,
    partner_id: int | None = None,
    is_final: bool = True,
) -> int:
    """Write down what somebody has seen; return how much of it was not known yet.

    Nobody is written of who has no name. No query for what this process has written within ten
    minutes; else one, four for each variation, and those of finding out who it is. Whoever sees two
    variations of one group is marked as mixed. Without `is_final` it is known for written only once
    a transaction of the caller's is committed, which may be taken back. Where it is another than
    the visitor's bucket says, decisions look up from then on what somebody has had.
    """
    names = [*visitor.names, *visitor.anonymous_names]
    if not names:
        return 0
    new = [each for each in seen if not is_known(prop, visitor, each.keys)]
    if new:
        using = router.db_for_write(Assignment)
        force, hashed_id = live.of_property(prop.id).now(), visitor.hashed_id or visitor.visitor_id
        # A client may go by what it has kept itself.
        has_moved = not all(force.is_bucket_of(each.keys, hashed_id) for each in new)

        def write() -> None:
            _write(prop, names, new, partner_id, using)
            if has_moved:
                live.note_that_it_keeps(prop.id, using)

        retried(write, using)
        for each in new:
            key = prop.id, names[0], each.keys
            if is_final:
                _written.add(key)
            else:
                transaction.on_commit(partial(_written.add, key), using)
    return len(new)


def is_known(prop: Known, visitor: Visitor, keys: Keys) -> bool:
    """Tell whether this process has written within ten minutes that somebody has seen a variation.

    There is nothing to write of whom nobody has a name for.
    """
    names = [*visitor.names, *visitor.anonymous_names]
    return not names or (prop.id, names[0], keys) in _written


def _write(
    prop: Known, names: Sequence[Name], seen: Sequence[Seen], partner_id: int | None, using: str
) -> None:
    identity_id = identity_of(prop, names, using)
    rows = Assignment.objects.using(using)
    rows.bulk_create(
        [
            Assignment(
                identity_id=identity_id,
                campaign_id=each.keys.campaign,
                group_id=each.keys.group,
                variation_id=each.keys.variation,
                version=each.version,
                assigned_on=each.seen_on,
                exposed_on=each.seen_on,
                partner_id=partner_id,
            )
            for each in seen
        ],
        ignore_conflicts=True,
    )
    for each in seen:
        theirs = rows.filter(identity=identity_id, group=each.keys.group)
        later = models.Q(exposed_on=None) | models.Q(exposed_on__gt=each.seen_on)
        theirs.filter(later, variation=each.keys.variation).update(
            exposed_on=each.seen_on,
            partner=models.functions.Coalesce("partner", models.Value(partner_id)),
        )
        others = theirs.exclude(variation=each.keys.variation)
        # What they were given, and have never seen, is not what they have seen.
        others.filter(exposed_on=None).update(
            variation=each.keys.variation,
            version=each.version,
            exposed_on=each.seen_on,
            partner=partner_id,
        )
        others.filter(is_mixed=False).update(is_mixed=True)


def find(prop: Known, group: str, variation: str) -> tuple[Keys, int] | None:
    """Return a variation that is not in force any more, by its ids, with the last version."""
    rows = Variation.objects.filter(
        uid=variation, group__uid=group, group__campaign__property=prop.id
    )
    columns = ("group__campaign", "group", "pk", "group__campaign__current__number")
    found = rows.values_list(*columns).first()
    return None if found is None else (Keys(*found[:3]), found[3] or 0)


def forget() -> None:
    """Write everything anew; for tests."""
    _written.clear()
