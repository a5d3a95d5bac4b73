"""Let whoever logs in go on with what they have seen before."""

from __future__ import annotations

from typing import Any

from django.db import router

from ..tracking import properties, users
from ..tracking.identities import Kind, name
from . import live
from .deciding import identity_of
from .models import Assignment

__all__ = ["carry"]


def carry(*, ident: str, user: Any) -> None:
    """Give a user what the browser of an ident has seen, but for what they have had already.

    In the property that this site is. One query where it has seen nothing. To be called in a
    transaction.
    """
    prop = properties.own()
    if prop is None or not ident:
        return
    using = router.db_for_write(Assignment)
    cookie = name(Kind.COOKIE, ident)
    seen = Assignment.objects.using(using).filter(
        identity__property=prop.id, identity__kind=cookie.kind, identity__value=cookie.value
    )
    rows = list(seen.order_by("pk"))
    if not rows:
        return
    identity_id = identity_of(prop, users.names_of(user)[:1], using)
    for each in rows:
        # Theirs, of which they have not seen anything by that name yet.
        each.pk, each.identity_id, each.exposed_on, each.is_mixed = None, identity_id, None, False
    Assignment.objects.using(using).bulk_create(rows, ignore_conflicts=True)
    live.note_that_it_keeps(prop.id, using)
