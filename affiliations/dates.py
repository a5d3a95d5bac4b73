"""Read the moments that people write, and show them by their clock."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

__all__ = ["local", "moment"]

#: Beyond these, a change of the time zone may leave what a datetime can hold.
FIRST_YEAR, LAST_YEAR = 1970, 9998


def moment(text: str) -> datetime | None:
    """Return what "2026-11-20" or "2026-11-20T18:00" means, or None where it means no moment.

    A date is its beginning. By the site's clock, unless the text names its zone. Without a zone
    where the site has none.
    """
    try:
        found = parse_datetime(text)
        if found is None and (day := parse_date(text)) is not None:
            found = datetime.combine(day, datetime.min.time())
    except ValueError:
        return None
    if found is None or not FIRST_YEAR <= found.year <= LAST_YEAR:
        return None
    if not settings.USE_TZ:
        return timezone.make_naive(found) if timezone.is_aware(found) else found
    return found if timezone.is_aware(found) else timezone.make_aware(found)


def local(moment: datetime) -> datetime:
    """Return a moment by the site's clock, which a naive one is taken to be."""
    return timezone.localtime(moment) if timezone.is_aware(moment) else moment
