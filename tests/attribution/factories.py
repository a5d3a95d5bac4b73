"""Journeys for tests, as plain functions."""

from datetime import UTC, datetime, timedelta
from itertools import count

from affiliations.models import Conversion
from tests.core.factories import make_partner, make_user, make_visitor
from tests.tracking.factories import hit, say

numbers = count(1)
START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
#: What somebody comes by whom the tracking has come by that channel.
CAME_BY = {
    "paid_search": {"source": "google"},
    "email": {"source": "news", "medium": "email"},
    "organic_social": {"source": "facebook", "medium": "social"},
    "direct": {"source": "", "url": "https://shop.example/"},
}


def touched(prop, who, source, day, *, medium="cpc", **fields):
    """Record that somebody was brought by a source on a day, counted from START."""
    url = f"https://shop.example/?utm_source={source}&utm_medium={medium}"
    hit(prop, who, **{"url": url, "happened_on": START + day * DAY, **fields})


def converted(prop, user, day, *, minor=None, currency="", trigger="Order placed", **fields):
    """Record that a user converted on a day, without having been sent by anybody just then."""
    say(prop, f"user:{user.pk}")
    # Long before: a conversion has to have a visitor.
    visitor = make_visitor(make_partner(), user=user, clicked_on=START - 900 * DAY)
    type(visitor).objects.filter(pk=visitor.pk).update(referred_on=START - 900 * DAY)
    return Conversion.objects.create(
        visitor=visitor,
        user=user,
        trigger=trigger,
        reference=str(next(numbers)),
        created_on=START + day * DAY,
        amount_minor=minor,
        currency=currency,
        **fields,
    )


def by_label(table, column="conversions", model=None):
    """Return a column of a report by its labels."""
    return {row["label"]: row[column] for row in table.to_pylist() if model in (None, row["model"])}


def travelled(prop, channels, *, won, **fields):
    """Have a new user come by a channel each day; if they are won, they convert on the tenth."""
    user = make_user()
    say(prop, f"user:{user.pk}")
    for day, channel in enumerate(channels, 1):
        touched(prop, f"user:{user.pk}", day=day, **CAME_BY[channel])
    if won:
        converted(prop, user, 10, **fields)
    return user
