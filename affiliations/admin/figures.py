"""Count what happened on each of the last days, for the charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from django.conf import settings as django_settings
from django.db import models
from django.utils import timezone

from ..models import Partner, Share, Visitor
from .lists import local

DAYS = 30


def last_days() -> list[date]:
    """Return today, by the site's clock, and the days before it, in order."""
    today = local(timezone.now()).date()
    return [today - timedelta(days=before) for before in range(DAYS - 1, -1, -1)]


def visitors_by_day(partners: Iterable[Partner], days: Sequence[date]) -> dict[int, list[int]]:
    """Return for each partner's key how many visitors it sent on each of `days`: one query."""
    pks = [partner.pk for partner in partners]
    starts = starts_of(days)
    counted = (
        Visitor.objects.filter(partner__in=pks, referred_on__gte=starts[0])
        .values(day=day_of("referred_on", starts), whose=models.F("partner"))
        .annotate(n=models.Count("pk"))
        .order_by()
    )
    found = {pk: [0] * len(days) for pk in pks}
    for row in counted:
        found[row["whose"]][row["day"]] = row["n"]
    return found


def conversions_by_day(partner: Partner, days: Sequence[date]) -> list[int]:
    """Return how many conversions a partner was credited with on each of `days`, wholly or not."""
    starts = starts_of(days)
    counted = (
        Share.objects.filter(
            visitor__partner=partner,
            conversion__created_on__gte=starts[0],
            conversion__reversed_on=None,
        )
        .values(day=day_of("conversion__created_on", starts))
        .annotate(n=models.Count("conversion", distinct=True))
        .order_by()
    )
    found = [0] * len(days)
    for row in counted:
        found[row["day"]] = row["n"]
    return found


def starts_of(days: Sequence[date]) -> list[datetime]:
    """Return when each of `days` begins by the site's clock."""
    starts = [datetime.combine(day, time.min) for day in days]
    return [timezone.make_aware(start) for start in starts] if django_settings.USE_TZ else starts


def day_of(field: str, starts: Sequence[datetime]) -> Any:
    """Return which day the moment in a field is of, as its position among `starts`.

    By comparison only: to truncate in the site's time zone, SQLite calls Python for each row, and
    MariaDB answers NULL unless somebody has loaded its time zone tables.
    """
    cases = [
        models.When(**{f"{field}__lt": end}, then=models.Value(position))
        for position, end in enumerate(starts[1:])
    ]
    return models.Case(
        *cases, default=models.Value(len(starts) - 1), output_field=models.IntegerField()
    )
