"""What the tracking holds on a person: show it, and erase it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.db import models, router

from ..money import major
from . import erasures, stream
from .identities import Kind, Name
from .models import Customer, Hit, Identity, Property
from .signals import identities_exported, identities_forgotten
from .users import names_of, usable

__all__ = ["export", "forget"]

#: Names that are looked for, and rows that are erased, by one query.
BATCH = 500
#: Times that others may have made one person of two meanwhile.
TURNS = 100


def _names(user: Any, idents: Iterable[str]) -> list[Name]:
    """Return what a user goes by: their key, their address, their browsers, and client ids."""
    address = getattr(user, user.get_email_field_name(), "") or ""
    # A program may have written it in small letters.
    told = [(Kind.EMAIL, address), (Kind.CLIENT, address), (Kind.CLIENT, address.lower())]
    return [*names_of(user), *usable([*told, *((Kind.COOKIE, each) for each in idents)])]


def _anywhere(using: str) -> models.QuerySet[Identity]:
    """Return the names in all properties.

    An index has them by property: without one, all that there are would be gone through.
    """
    properties = list(Property.objects.using(using).values_list("pk", flat=True))
    return Identity.objects.using(using).filter(property__in=properties)


def _held(user: Any, idents: Iterable[str], using: str) -> list[int]:
    """Return the keys of whoever goes by any of a user's names, in any property.

    Not one that is another user's, who has shared a browser.
    """
    rows, anywhere = Identity.objects.using(using), _anywhere(using)
    wanted = set(_names(user, idents))
    values = sorted({each.value for each in wanted})
    named: dict[int, set[str]] = {}
    for start in range(0, len(values), BATCH):
        some = anywhere.filter(value__in=values[start : start + BATCH])
        for pk, kind, value in some.values_list("customer", "kind", "value"):
            if Name(kind, value) in wanted:
                named.setdefault(pk, set()).add(kind)
    shared = [pk for pk, kinds in named.items() if Kind.USER not in kinds]
    if shared:
        others = rows.filter(customer__in=shared, kind=Kind.USER).values_list("customer", flat=True)
        for pk in others:
            named.pop(pk, None)
    return sorted(named)


def _locked(user: Any, idents: Iterable[str], using: str) -> list[int]:
    """Lock these customers, and return their keys.

    From then on nobody makes one of two, and puts a name out of sight. Until they were locked
    somebody may have, so that they are looked for again.
    """
    idents, held = list(idents), set[int]()
    for _ in range(TURNS):
        found = _held(user, idents, using)
        if held.issuperset(found):
            return found
        rows = Customer.objects.using(using).filter(pk__in=set(found) - held)
        held |= set(rows.order_by("pk").select_for_update().values_list("pk", flat=True))
    raise RuntimeError("user: others have changed whose the names are all the time")


def _on_their_way(
    user: Any, idents: Iterable[str], rows: models.QuerySet[Identity]
) -> Iterator[Name]:
    """Yield the names of whoever is erased: theirs, and those that nobody goes by as yet."""
    for kind, value in rows.values_list("kind", "value"):
        yield Name(kind, value)
    theirs = _names(user, idents)
    known = _anywhere(rows.db).filter(value__in={each.value for each in theirs})
    yield from set(theirs) - {Name(*each) for each in known.values_list("kind", "value")}


def export(*, user: Any, idents: Iterable[str], data: dict[str, Any], **kwargs: Any) -> None:
    """Add what a user did to an export, and by what names."""
    using = router.db_for_write(Identity)
    customers = Customer.objects.using(using).filter(pk__in=_held(user, idents, using))
    rows = customers.select_related("property").order_by("pk")
    data["tracking"] = [_told(each, using) for each in rows]


def _told(customer: Customer, using: str) -> dict[str, Any]:
    names = list(customer.identities.order_by("pk"))
    shown = {
        "property": customer.property.name,
        "created_on": customer.created_on.isoformat(),
        "names": [
            {"kind": row.kind, "value": row.value, "created_on": row.created_on.isoformat()}
            for row in names
        ],
        "hits": [_shown(row) for row in _hits(customer)],
    }
    pks = [row.pk for row in names]
    identities_exported.send(Identity, identities=pks, shown=shown, using=using)
    return shown


def _hits(customer: Customer) -> models.QuerySet[Hit]:
    rows = Hit.objects.using(customer._state.db).filter(identity__customer=customer)
    return rows.select_related("event_type", "partner").order_by("happened_on", "pk")


def _shown(hit: Hit) -> dict[str, Any]:
    return {
        "type": hit.type,
        "event": hit.event_type.key if hit.event_type_id and hit.event_type else "",
        "happened_on": hit.happened_on.isoformat(),
        "url": hit.url,
        "referrer": hit.referrer,
        "title": hit.title,
        "channel": hit.channel,
        "source": hit.source,
        "medium": hit.medium,
        "campaign": hit.campaign,
        "term": hit.term,
        "content": hit.content,
        "click_ids": hit.click_ids,
        "partner": hit.partner.name if hit.partner_id and hit.partner else "",
        "link": hit.link,
        "amount": None if hit.minor is None else str(major(hit.minor, hit.currency)),
        "currency": hit.currency,
        "transaction_id": hit.transaction_id,
        "more": hit.meta,
    }


def forget(*, user: Any, idents: Iterable[str], counts: dict[str, int], **kwargs: Any) -> None:
    """Erase a user's names, and with them all that was done under these."""
    using = router.db_for_write(Hit)
    if stream.is_used():
        erasures.lock(using)
    customers = _locked(user, idents, using)
    counts["hits"], counts["customers"] = 0, len(customers)
    rows = Identity.objects.using(using).filter(customer__in=customers)
    if stream.is_used():
        erasures.remember(_on_their_way(user, idents, rows), using)
    if not customers:
        return
    pks = list(rows.values_list("pk", flat=True))
    # Before they are gone: other apps have rows of theirs that hang on these.
    identities_forgotten.send(Identity, identities=pks, counts=counts, using=using)
    # The names first: whoever writes a hit of one at this moment is waited for, and then it is
    # there to be deleted; after that nobody finds the name.
    rows.filter(pk__in=pks)._raw_delete(using)
    for start in range(0, len(pks), BATCH):
        some = Hit.objects.using(using).filter(identity__in=pks[start : start + BATCH])
        counts["hits"] += some._raw_delete(using)
    Customer.objects.using(using).filter(pk__in=customers)._raw_delete(using)
