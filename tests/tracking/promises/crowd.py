"""A site's process to which people say who they are, do something, and ask to be erased.

What chaos_worker.py does in the role "crowd"; test_interleaved.py runs many of it at once, and
takes the same steps one after the other.
"""

import time
from typing import Any

from django.contrib.auth import get_user_model
from django.db import models

from affiliations.savepoints import retried
from affiliations.tracking import privacy, properties
from affiliations.tracking.models import Customer, Hit, Identity
from tests.core.test_privacy import FIRST_PK, Subject, mark
from tests.tracking.factories import hit, say

User = get_user_model()
#: What somebody does, as JSON can hold it: "say" names, a "hit" of names by its number and
#: transaction id, or "erase" the user of a number.
Step = list[Any]


def cookies(number: int) -> list[str]:
    """Return the cookies of somebody's browsers."""
    return [f"{mark(number, 'ident')}{each}" for each in range(5)]


def names(number: int) -> list[str]:
    """Return all that somebody goes by; the last one is their user's key."""
    address = Subject(number).email
    own = [f"email:{address}", f"client:{address}", f"user:{FIRST_PK + number}"]
    return [*(f"cookie:{each}" for each in cookies(number)), *own]


def page(number: int, place: int) -> str:
    """Return the page that somebody's hit is of."""
    return f"https://shop.example/{mark(number, 'page')}?{place}"


def take(prop: Any, step: Step) -> None:
    """Take one step."""
    what, *told = step
    if what == "say":
        say(prop, told[0])
    elif what == "hit":
        who, number, place, order = told
        hit(prop, who, type="transaction", url=page(number, place), transaction_id=order)
    else:
        erase(*told)


def erase(number: int) -> None:
    """Erase somebody of whom the core knows the browsers."""
    user = User(pk=FIRST_PK + number, email=Subject(number).email)
    retried(lambda: privacy.forget(user=user, idents=cookies(number), counts={}), "default")


def crowd(*, public_key: str, steps: list[Step]) -> None:
    """Take so many steps in a property."""
    prop = properties.find(public_key)
    assert prop is not None
    for each in steps:
        take(prop.row, each)


# Broken on purpose


def unlocked_customers() -> None:
    """Make one of several who may be somebody else's by then."""
    models.QuerySet.select_for_update = lambda rows, *args, **options: rows.all()


def hits_first() -> None:
    """Erase what somebody did, and then their names."""

    def forget(*, user: Any, idents: Any, counts: dict[str, int]) -> None:
        customers = privacy._held(user, idents, "default")
        rows = Identity.objects.filter(customer__in=customers)
        Hit.objects.filter(identity__in=list(rows))._raw_delete("default")
        time.sleep(0.01)
        rows._raw_delete("default")
        Customer.objects.filter(pk__in=customers)._raw_delete("default")

    privacy.forget = forget
