"""Let customers of the past have come by more ways than a partner's link, as people do."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.utils import timezone

from affiliations.tracking import hits, properties, users
from affiliations.tracking.models import Hit

SEARCH = "?utm_source=google&utm_medium=cpc&utm_campaign=autumn"
LETTER = "?utm_source=letter&utm_medium=email&utm_campaign=kiln-letter"
FOUND = "https://www.google.com/"
TALKED_OF = "https://www.reddit.com/r/pottery/"
#: By what customers came before a partner's link: how many days before, with which query, and from
#: where. One after the other they go one of these ways, of which the first is that link alone.
WAYS: tuple[tuple[tuple[int, str, str], ...], ...] = (
    (),
    ((9, SEARCH, FOUND),),
    ((12, "", TALKED_OF), (4, LETTER, "")),
    ((2, LETTER, ""),),
    ((21, "", FOUND), (9, SEARCH, FOUND), (1, LETTER, "")),
    (),
    ((6, "", TALKED_OF),),
    ((28, SEARCH, FOUND), (3, "", FOUND)),
)


def come(user: User, turn: int) -> None:
    """Let a customer have come to the shop's pages, by one of the ways."""
    prop = properties.find(django_settings.AFFILIATE_TRACKING_PROPERTY)
    for days, query, referrer in WAYS[turn % len(WAYS)]:
        seen = hits.new_hit(
            prop,
            type=Hit.Type.PAGEVIEW,
            happened_on=timezone.now() - timedelta(days=days),
            url=f"https://kiln.example/{query}",
            referrer=referrer,
            title="Harbour Kiln",
        )
        hits.record(prop, users.names_of(user), seen)
