"""Keep hits that are on their way through Redis from bringing back who has been erased."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connections
from django.utils import timezone
from django.utils.crypto import salted_hmac

from .identities import Name
from .models import Erased, Property

__all__ = ["KEPT", "digest_of", "hold", "known", "lock", "remember"]

#: By which the clocks of machines may differ.
APART = timedelta(seconds=5)
#: Seconds for which an erasure is known longer than the oldest message.
KEPT = 3600
_SHARED = {"postgresql": "FOR SHARE", "mysql": "LOCK IN SHARE MODE", "sqlite": ""}


def digest_of(name: Name) -> UUID:
    """Return by what an erased name is known again, and cannot be read."""
    told = salted_hmac("affiliations.tracking.erasures", "\0".join(name), algorithm="sha256")
    # With a version: MariaDB takes others for no UUID at all.
    return UUID(bytes=told.digest()[:16], version=5)


def lock(using: str) -> None:
    """Have nobody write hits that come through Redis until the caller's transaction ends."""
    rows = Property.objects.using(using).order_by("pk")
    no_key = connections[using].features.has_select_for_no_key_update
    list(rows.select_for_update(no_key=no_key).values_list("pk", flat=True))


def hold(property_ids: Collection[int], using: str) -> set[int]:
    """Have nobody erased in these properties until the caller's transaction ends.

    Return those that there are.
    """
    connection = connections[using]
    wanted = sorted(property_ids)
    places = ", ".join(["%s"] * len(wanted))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id FROM {Property._meta.db_table} WHERE id IN ({places}) ORDER BY id "  # noqa: S608 # nosec B608
            + _SHARED[connection.vendor],
            wanted,
        )
        return {pk for (pk,) in cursor.fetchall()}


def remember(names: Iterable[Name], using: str) -> None:
    """Note that names are erased now; needs `lock` before."""
    now = timezone.now()
    rows = [Erased(digest=digest, erased_on=now) for digest in sorted(set(map(digest_of, names)))]
    options: dict[str, Any] = {"update_conflicts": True, "update_fields": ["erased_on"]}
    if connections[using].features.supports_update_conflicts_with_target:
        options["unique_fields"] = ["digest"]
    Erased.objects.using(using).bulk_create(rows, **options)


def known(using: str) -> dict[UUID, datetime]:
    """Return until when hits are not to be written, by the digests of names; needs `hold`."""
    rows = Erased.objects.using(using).values_list("digest", "erased_on")
    return {digest: moment + APART for digest, moment in rows}
