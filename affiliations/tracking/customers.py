"""Tell of a customer what Attribution.io's clients ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import models, router
from django.utils import timezone

from ..money import major
from .exceptions import InvalidName
from .identities import LOOKED_FOR, Kind, name
from .models import Hit, Identity
from .properties import Known

__all__ = ["LISTS", "described", "lists_of"]

#: Of each list; the newest.
MOST = 1000
#: What may be asked for beyond a customer's own fields.
LISTS = ("pageviews", "touchpoints", "events", "identities")
YES = frozenset({"1", "true", "yes", "on"})
BROWSED = (Hit.Type.PAGEVIEW, Hit.Type.SCREEN)
CONVERSIONS = (Hit.Type.EVENT, Hit.Type.TRANSACTION)


def lists_of(query: Mapping[str, str]) -> frozenset[str]:
    """Return which lists a query asks for, by `show_pageviews=true` and the like."""
    asked = {each for each in (*LISTS, "all") if query.get(f"show_{each}", "").lower() in YES}
    return frozenset(LISTS if "all" in asked else asked)


def described(prop: Known, client_id: str, lists: frozenset[str]) -> dict[str, Any] | None:
    """Return who goes by a client id in a property, with some of LISTS, or None for nobody.

    Two queries, and one for each list of hits. A list has the newest thousand; where that is not
    all, "truncated" says so beside it.
    """
    using = router.db_for_read(Hit)
    found, asked = _identities(prop, client_id, using)
    if asked is None:
        return None
    clients = [each.value for each in found if each.kind == Kind.CLIENT]
    whose = asked.customer
    hits = Hit.objects.using(using).filter(identity__customer=whose)
    customer = {
        "client_id": asked.value if asked.kind == Kind.CLIENT or not clients else clients[0],
        "id": str(whose.pk),
        "created_at": _iso(whose.created_on),
        **_scalars(hits),
        "first_touch": _touch(found, "first", min),
        "last_touch": _touch(found, "last", max),
    }
    truncated = False
    for each, rows, shown in (
        ("pageviews", hits.filter(type__in=BROWSED), _pageview),
        ("touchpoints", hits.exclude(channel="").select_related("partner"), _touchpoint),
        ("events", hits.exclude(type__in=BROWSED).select_related("event_type"), _event),
    ):
        if each in lists:
            newest = list(rows.order_by("-happened_on", "-pk")[: MOST + 1])
            truncated = truncated or len(newest) > MOST
            customer[each] = [shown(hit) for hit in newest[:MOST]]
    if "identities" in lists:
        customer["identities"] = [
            {"kind": each.kind, "value": each.value, "at": _iso(each.created_on)}
            for each in sorted(found, key=lambda each: (each.created_on, each.pk), reverse=True)
        ]
    if truncated:
        customer["truncated"] = True
    return customer


def _identities(prop: Known, client_id: str, using: str) -> tuple[list[Identity], Identity | None]:
    """Return all the names of who goes by a client id, the oldest first, and the one asked for.

    Each with when and by what it was brought here first and last.
    """
    try:
        wanted = name(Kind.CLIENT, client_id).value
    except InvalidName:
        return [], None
    rows = Identity.objects.using(using)
    named = rows.filter(
        models.Q(value=wanted) | models.Q(value=wanted.lower(), kind=Kind.EMAIL), property=prop.id
    )
    touches = Hit.objects.filter(identity=models.OuterRef("pk")).exclude(channel="")
    first = touches.order_by("happened_on", "pk")
    last = touches.order_by("-happened_on", "-pk")
    rows = (
        rows.filter(customer__in=named.values("customer"))
        .select_related("customer")
        .annotate(
            first_on=models.Subquery(first.values("happened_on")[:1]),
            first_channel=models.Subquery(first.values("channel")[:1]),
            last_on=models.Subquery(last.values("happened_on")[:1]),
            last_channel=models.Subquery(last.values("channel")[:1]),
        )
    )
    found = list(rows.order_by("pk"))
    meant = {each.kind: each for each in found if _is_called(each, wanted)}
    asked = next((meant[kind] for kind in LOOKED_FOR if kind in meant), None)
    if asked is None:
        return [], None
    return [each for each in found if each.customer_id == asked.customer_id], asked


def _is_called(identity: Identity, wanted: str) -> bool:
    return bool(identity.value == (wanted.lower() if identity.kind == Kind.EMAIL else wanted))


def _touch(
    found: list[Identity], which: str, chosen: Callable[[Any], tuple[datetime, str]]
) -> dict[str, str | None] | None:
    touches = [(getattr(each, f"{which}_on"), getattr(each, f"{which}_channel")) for each in found]
    touches = [each for each in touches if each[0] is not None]
    if not touches:
        return None
    moment, channel = chosen(touches)
    return {"channel": channel, "at": _iso(moment)}


def _scalars(hits: models.QuerySet[Hit]) -> dict[str, Any]:
    counts = models.Q(type__in=CONVERSIONS, is_informational=False)
    rows = list(
        hits.order_by()
        .values("currency")
        .annotate(
            first=models.Min("happened_on"),
            last=models.Max("happened_on"),
            conversions=models.Count("pk", filter=counts),
            revenue=models.Sum("minor", filter=counts),
        )
        .order_by("currency")
    )
    return {
        "first_seen_at": _iso(min((each["first"] for each in rows), default=None)),
        "last_seen_at": _iso(max((each["last"] for each in rows), default=None)),
        "conversions": sum(each["conversions"] for each in rows),
        "revenue": [
            {
                "amount": str(major(int(each["revenue"]), each["currency"])),
                "currency": each["currency"],
            }
            for each in rows
            if each["revenue"] is not None
        ],
    }


def _pageview(hit: Hit) -> dict[str, Any]:
    return {
        "id": str(hit.pk),
        "at": _iso(hit.happened_on),
        "url": hit.url,
        "referrer": hit.referrer,
        "title": hit.title or None,
    }


def _touchpoint(hit: Hit) -> dict[str, Any]:
    return {
        "id": str(hit.pk),
        "at": _iso(hit.happened_on),
        "channel": hit.channel,
        "source": hit.source or None,
        "medium": hit.medium or None,
        "campaign": hit.campaign or None,
        "term": hit.term or None,
        "content": hit.content or None,
        # One of whom there is nothing but the key any more has no uid.
        "partner": hit.partner.uid if hit.partner_id and hit.partner else None,
        "link": hit.link or None,
        "url": hit.url,
        "referrer": hit.referrer,
    }


def _event(hit: Hit) -> dict[str, Any]:
    kind = hit.event_type if hit.event_type_id else None
    return {
        "id": str(hit.pk),
        "at": _iso(hit.happened_on),
        "type": hit.type,
        "key": kind.key if kind else hit.type,
        "name": kind.name if kind else hit.get_type_display(),
        "public_key": kind.public_key if kind else None,
        "url": hit.url,
        "transaction_id": hit.transaction_id or None,
        "is_informational": hit.is_informational,
        "amount": None if hit.minor is None else str(major(hit.minor, hit.currency)),
        "currency": hit.currency or None,
    }


def _iso(moment: datetime | None) -> str | None:
    """Return a moment as clients read it, in UTC."""
    if moment is None:
        return None
    aware = timezone.make_aware(moment) if timezone.is_naive(moment) else moment
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
