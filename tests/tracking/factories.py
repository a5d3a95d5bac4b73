"""Properties and people for tests, as plain functions."""

from itertools import count

from affiliations.tracking.identities import identify, name
from affiliations.tracking.models import Identity, Property

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
