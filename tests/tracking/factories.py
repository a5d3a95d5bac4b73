"""Properties and people for tests, as plain functions."""

from itertools import count

from django.db import connection

from affiliations.tracking import hits, partitions, properties
from affiliations.tracking.identities import identify, name
from affiliations.tracking.models import EventType, Identity, Property

numbers = count(1)


def make_property(**fields):
    """Return a new property."""
    return Property.objects.issue(**{"name": f"Shop {next(numbers)}", **fields})[0]


def names(text):
    """Return the names in a text such as "cookie:a client:42"."""
    return [name(*each.split(":", 1)) for each in text.split()]


def say(prop, text):
    """Say that the names in a text are one person's; return who that is."""
    return identify(prop, names(text))


def people(prop):
    """Return the sets of names that are one person's, as texts."""
    found = {}
    for row in Identity.objects.filter(property=prop):
        found.setdefault(row.customer_id, set()).add(f"{row.kind}:{row.value}")
    return sorted(" ".join(sorted(each)) for each in found.values())


def make_event_type(prop, key="purchase", **fields):
    """Return a new event type of a property."""
    return EventType.objects.create(property=prop, key=key, **{"name": key.title(), **fields})


def known(prop):
    """Return a property as services take it."""
    return properties.find(prop.public_key)


def hit(prop, text, **fields):
    """Record a hit of who goes by the names in a text; return whether it is new."""
    found = known(prop)
    return hits.record(found, names(text), hits.new_hit(found, **{"type": "pageview", **fields}))


def drop_parts():
    """Leave no month's part behind: others count the queries of all that there are."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for each in partitions.listed("default"):
                if each.month:
                    cursor.execute(f"DROP TABLE {each.name}")
