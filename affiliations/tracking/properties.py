"""Find properties by their public keys; what is found is used again for a second."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db.models import F

from ..remembered import Remembered
from .channels import host_of
from .conf import MAX_KEY, settings
from .models import Property

__all__ = ["Known", "find", "may_write", "own"]


class Known(NamedTuple):
    """A property as it was less than a second ago."""

    row: Property
    origins: frozenset[str]
    #: Of these origins: who comes from one of them was brought by nobody.
    hosts: frozenset[str]
    #: By the public keys of events, and by the site's own.
    event_types: dict[str, int]
    own_event_types: dict[str, int]

    @property
    def id(self) -> int:
        """Its primary key."""
        return int(self.row.pk)


def _ask(public_key: str) -> Known | None:
    if len(public_key) > MAX_KEY or not (public_key.isascii() and public_key.isprintable()):
        return None
    # A row for each event type, or one without any.
    rows = list(
        Property.objects.filter(public_key=public_key).annotate(
            event_type=F("event_types__pk"),
            event_key=F("event_types__key"),
            event_public_key=F("event_types__public_key"),
        )
    )
    if not rows:
        return None
    kinds = [each for each in rows if each.event_type is not None]
    return Known(
        rows[0],
        frozenset(rows[0].origins),
        frozenset(map(host_of, rows[0].origins)),
        {each.event_public_key: each.event_type for each in kinds},
        {each.event_key: each.event_type for each in kinds},
    )


def _ask_origins(nothing: str) -> frozenset[str]:
    rows = Property.objects.filter(active=True).values_list("origins", flat=True)
    return frozenset(origin for each in rows for origin in each)


_known = Remembered(_ask)
_origins = Remembered(_ask_origins)


def find(public_key: Any) -> Known | None:
    """Return the property with a public key, None where there is none."""
    return _known.get(public_key) if isinstance(public_key, str) and public_key else None


def own() -> Known | None:
    """Return the property that this site is, by AFFILIATE_TRACKING_PROPERTY, None without one."""
    return find(settings.TRACKING_PROPERTY)


def may_write(origin: str) -> bool:
    """Tell whether the pages of an origin may write to some property."""
    return origin in _origins.get("")


def forget(**kwargs: Any) -> None:
    """Ask the database again; for tests, and for whoever has just changed one in this process."""
    _known.clear()
    _origins.clear()
