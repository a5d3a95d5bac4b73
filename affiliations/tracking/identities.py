"""Know people by their names: several names are one person's as soon as anybody says so.

In whatever order it is said, and by however many at once, the same names are one customer's in the
end, unless they would be two users of the site. Nothing that a customer did is touched for it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from typing import NamedTuple

from django.db import connections, models, router
from django.utils import timezone

from ..isolation import hold_to
from ..savepoints import retried
from .exceptions import InvalidName, TooManyNames
from .models import Customer, Identity, Property
from .models.customers import MAX_VALUE

__all__ = ["Name", "find_customer", "identify", "introduce", "name"]

Kind = Identity.Kind
#: Made anew at each look at them.
KINDS = tuple(Kind.values)
#: Of one person. Whoever has more is none, but something that many share.
MOST = 1000
#: Names that are said to be one person's at once.
AT_ONCE = 100
#: What programs write where they know nobody: whoever went by it would be everybody.
NOBODY = frozenset(
    (
        "0",
        "-1",
        "[object object]",
        "anonymous",
        "anonymoususer",
        "false",
        "guest",
        "nan",
        "nil",
        "none",
        "not_authenticated",
        "null",
        "true",
        "undefined",
        "unknown",
    )
)
#: As which kind a value is looked for, the first one first.
LOOKED_FOR = (Kind.CLIENT, Kind.USER, Kind.EMAIL, Kind.COOKIE)
#: Times that others may have been faster, each of whom has made one person of two.
TURNS = 100


class Name(NamedTuple):
    """A name that somebody goes by; made by `name`, which brings it into one form."""

    kind: str
    value: str


def name(kind: str, value: str | int) -> Name:
    """Return a name of a kind of `Identity.Kind`.

    Numbers are their digits, composed letters are one, addresses are in small letters, and blanks
    around it are left out. Raises InvalidName for what is then empty, longer than 500 characters or
    not all visible, for what programs write where they know nobody, such as "undefined", and for
    another kind.
    """
    if kind not in KINDS:
        raise InvalidName(f"kind: must be one of {', '.join(KINDS)}, not {kind!r:.40}")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        value = str(value)
    if not isinstance(value, str):
        raise InvalidName(f"value: must be text or a number, not {value!r:.40}")
    # Longer than any form of it that would do.
    if len(value) > 8 * MAX_VALUE:
        raise InvalidName(f"value: must be at most {MAX_VALUE} characters")
    text = unicodedata.normalize("NFC", value).strip()
    if kind == Kind.EMAIL:
        text = text.lower()
    if not 0 < len(text) <= MAX_VALUE:
        raise InvalidName(f"value: must be 1 to {MAX_VALUE} characters")
    if not text.isprintable():
        raise InvalidName("value: must not contain control characters")
    if text.lower() in NOBODY:
        raise InvalidName(f"value: {text!r} is what programs write for nobody")
    return Name(kind, text)


def find_customer(prop: Property, value: str | int) -> Customer | None:
    """Return who goes by a value in a property, as a client id before anything else, or None."""
    try:
        wanted = name(Kind.CLIENT, value).value
    except InvalidName:
        return None
    rows = Identity.objects.using(router.db_for_write(Identity)).select_related("customer")
    same = models.Q(value=wanted) | models.Q(value=wanted.lower(), kind=Kind.EMAIL)
    found = {row.kind: row.customer for row in rows.filter(same, property=prop)}
    return next((found[kind] for kind in LOOKED_FOR if kind in found), None)


def identify(prop: Property, names: Iterable[Name]) -> Customer:
    """Say that all these names are one person's, and return the customer who that is.

    Names that nobody went by are theirs from now on. Customers who went by some of them become one:
    the oldest of them, who has all their names and whatever they did. But two users of the site are
    two people, who may share a browser: of customers with other users, those stay as they are that
    are not the named user's, or else the oldest one's. One query where nothing is new. Everything
    happens or nothing. Raises ValueError for no names, more than a hundred or two users, and
    TooManyNames where that person would have more than a thousand.
    """
    wanted = sorted(set(names))
    if not 0 < len(wanted) <= AT_ONCE:
        raise ValueError(f"names: must be 1 to {AT_ONCE}, not {len(wanted)}")
    if sum(each.kind == Kind.USER for each in wanted) > 1:
        raise ValueError("names: two users are not one person")
    using = router.db_for_write(Identity)
    known = _known(prop, wanted, using)
    customers = {row.customer_id: row.customer for row in known.values()}
    if len(known) == len(wanted) and len(customers) == 1:
        return next(iter(customers.values()))
    return retried(lambda: _identify(prop, wanted, using), using)


def _known(prop: Property, names: Collection[Name], using: str) -> dict[Name, Identity]:
    """Return those of the names that somebody goes by."""
    rows = Identity.objects.using(using).filter(
        property=prop, value__in={each.value for each in names}
    )
    found = {Name(row.kind, row.value): row for row in rows.select_related("customer")}
    return {each: found[each] for each in names if each in found}


def _identify(prop: Property, names: Collection[Name], using: str) -> Customer:
    # Elsewhere it would not be seen whose names they have become meanwhile.
    hold_to(connections[using])
    rows = Customer.objects.using(using)
    held: dict[int, Customer] = {}
    made = None
    for _ in range(TURNS):
        known = _known(prop, names, using)
        owners = {row.customer_id for row in known.values()}
        if others := owners - held.keys():
            # In the same order everywhere; whoever was made one with another is not there any more.
            locked = rows.filter(pk__in=others).order_by("pk").select_for_update()
            held |= {each.pk: each for each in locked}
            continue
        one = _one_person(names, owners, using)
        missing = [each for each in names if each not in known]
        if not missing:
            break
        if not one:
            made = made or rows.create(property=prop, created_on=timezone.now())
            held[made.pk] = made
            one = [made.pk]
        _add(held[one[0]], missing, using)
    else:
        raise RuntimeError("names: others have changed whose they are all the time")
    if made is not None and made.pk not in owners:
        # Somebody else was faster with each of the names.
        made.delete(using=using)
    return _one_of([held[pk] for pk in one], using)


def _one_person(names: Iterable[Name], customers: Collection[int], using: str) -> list[int]:
    """Return which of the customers with these names may be one, the oldest first."""
    user = next((each.value for each in names if each.kind == Kind.USER), None)
    if not customers or (len(customers) == 1 and user is None):
        return list(customers)
    rows = Identity.objects.using(using).filter(customer__in=customers, kind=Kind.USER)
    users: dict[int, set[str]] = {}
    for pk, value in rows.values_list("customer", "value"):
        users.setdefault(pk, set()).add(value)
    found = []
    for pk in sorted(customers):
        theirs = users.get(pk)
        if theirs and user is None:
            user = min(theirs)
        if not theirs or user in theirs:
            found.append(pk)
    return found


def introduce(names: Collection[tuple[int, Name]], using: str) -> None:
    """Make a customer of each of these names of properties, unless somebody goes by it already.

    To be called in a transaction, on a database that tells the keys of many new rows.
    """
    names = sorted(set(names))
    rows, now = Customer.objects.using(using), timezone.now()
    made = rows.bulk_create([Customer(property_id=each, created_on=now) for each, _ in names])
    identities = Identity.objects.using(using)
    identities.bulk_create(
        [
            Identity(property_id=property_id, customer=customer, kind=kind, value=value)
            for customer, (property_id, (kind, value)) in zip(made, names, strict=True)
        ],
        ignore_conflicts=True,
    )
    named = set(identities.filter(customer__in=made).values_list("customer", flat=True))
    if unnamed := [each.pk for each in made if each.pk not in named]:
        # Somebody else was faster.
        rows.filter(pk__in=unnamed).delete()


def _add(customer: Customer, names: Iterable[Name], using: str) -> None:
    """Have a customer go by names that nobody went by; somebody faster keeps theirs."""
    Identity.objects.using(using).bulk_create(
        [
            Identity(property_id=customer.property_id, customer=customer, kind=kind, value=value)
            for kind, value in names
        ],
        ignore_conflicts=True,
    )


def _one_of(customers: list[Customer], using: str) -> Customer:
    """Make one customer of several that are locked, the first of them, and return it."""
    kept, *others = customers
    identities = Identity.objects.using(using)
    if identities.filter(customer__in=customers)[: MOST + 1].count() > MOST:
        raise TooManyNames(f"names: one person would have more than {MOST}")
    if not others:
        return kept
    identities.filter(customer__in=others).update(customer=kept)
    Customer.objects.using(using).filter(pk__in=[each.pk for each in others]).delete()
    kept.created_on = min(each.created_on for each in customers)
    kept.save(using=using, update_fields=["created_on"])
    return kept
