"""What a success costs: a save that makes a conversion and the callback that tells the partner.

The same save in a transaction of its own, of two models that are alike, only one of which is the
sender of a trigger. The request's session is read, and holds the visitor; its partner is active and
subscribed, with an address to call. Every save is its visitor's first success, the dearest. The
transactions are committed and the delivery is woken, but goes nowhere (a dummy task backend).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction
from django.http import HttpRequest
from django.test import RequestFactory

from affiliations import tasks, visits
from affiliations.conf import settings
from affiliations.context import current_request
from affiliations.models import Callback, Conversion, Partner, Share, Subscription, Visitor

from .runner import Fact, Race, Variant
from .shop.models import BaseOrder, Order, PlainOrder
from .stack import count

QUERIES = 5


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield what a conversion adds to the save that causes it."""
    partner = Partner.objects.create(name="Anna", active=True)
    url = "https://anna.example/{visitor_id}?amount={amount}&of={reference}"
    Subscription.objects.create(partner=partner, trigger="Order placed", callback_url=url)
    waiting: deque[HttpRequest] = deque()

    def clear() -> None:
        waiting.clear()
        tasks.deliver_callbacks.get_backend().clear()
        for model in (Callback, Share, Conversion, Visitor, Order, PlainOrder):
            model.objects.all().delete()

    def prepare(calls: int) -> None:
        clear()
        Visitor.objects.bulk_create(
            Visitor(partner=partner, entry_point="http://testserver/page/") for _ in range(calls)
        )
        waiting.extend(request_of(each) for each in Visitor.objects.all())

    def saving(model: type[BaseOrder]) -> Callable[[], None]:
        def save() -> None:
            token = current_request.set(waiting.popleft())
            with transaction.atomic():
                model.objects.create(total=Decimal("9.99"))
            current_request.reset(token)

        return save

    plain, ours = saving(PlainOrder), saving(Order)
    prepare(2)
    added = len(own_queries(count(ours))) - len(own_queries(count(plain)))
    if not Callback.objects.exists():
        raise RuntimeError("the save did not convert")
    yield Fact("save that converts: queries added, savepoints aside", added, "queries", QUERIES)
    yield Race(
        "save that converts, in a transaction",
        [Variant("bare", plain), Variant("converts", ours, "bare")],
        prepare=prepare,
        max_calls=100,
    )
    clear()
    partner.delete()


def own_queries(queries: list[str]) -> list[str]:
    """Return the queries but for those that make and release savepoints."""
    return [each for each in queries if "SAVEPOINT" not in each.upper()]


def request_of(visitor: Visitor) -> Any:
    """Return the request of a visitor who is not logged in, its session read."""
    request: Any = RequestFactory().post("/order/")
    request.user = AnonymousUser()
    request.session = SessionStore()
    request.session[settings.SESSION_KEY] = visitor.pk
    request.session[visits.trail_key()] = [visitor.pk]
    visits.attach(request)
    return request
