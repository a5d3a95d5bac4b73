"""Views that do as little as a view can, so that what is around them shows."""

import json
from decimal import Decimal

from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from affiliations.conf import settings
from affiliations.models import Visitor
from affiliations.tracking.models import Hit

from .models import BaseOrder

#: The columns of a hit that are empty, but not NULL.
EMPTY = ("channel", "source", "medium", "campaign", "term", "content", "link", "currency")
COLUMNS = (
    *("property_id", "identity_id", "type", "happened_on", "received_on", "is_informational"),
    *("url", "referrer", "title", "click_ids", "meta", *EMPTY, "transaction_id"),
)
INSERT = (
    f"INSERT INTO {Hit._meta.db_table} ({', '.join(COLUMNS)}) "
    f"VALUES ({', '.join(['%s'] * len(COLUMNS))})"
)

CAMPAIGNS = [
    {
        "id": f"{number:020}",
        "name": f"Campaign {number}",
        "slug": f"c{number}",
        "type": "ab",
        "variationGroupId": f"{number:020}",
        "variationGroupName": "Gold",
        "variation": {
            "id": f"{number:020}",
            "name": "a",
            "modifications": {"type": "FLAG", "value": {f"flag{number}": "a"}},
            "reference": True,
        },
    }
    for number in range(20)
]


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"ok")


async def apage(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"ok")


@csrf_exempt
def bare_json(request: HttpRequest) -> HttpResponse:
    """Answer whatever is asked with the same twenty campaigns."""
    told = json.loads(request.body)
    return JsonResponse({"visitorId": told["visitorId"], "campaigns": CAMPAIGNS})


def bare(request: HttpRequest, path: str) -> HttpResponse:
    """Redirect, and keep nothing."""
    return HttpResponseRedirect("https://shop.example/course/7?utm_medium=affiliate")


@csrf_exempt
def empty(request: HttpRequest) -> HttpResponse:
    """Answer, and do nothing."""
    return HttpResponse(status=204)


def floor(request: HttpRequest, partner_id: int) -> HttpResponse:
    """Write what a click has to leave behind, the visitor and its session, and nothing else."""
    visitor = Visitor.objects.create(partner_id=partner_id, entry_point="http://testserver/page/")
    request.session[settings.SESSION_KEY] = visitor.pk
    return HttpResponseRedirect("/page/")


def order(request: HttpRequest, model: type[BaseOrder], user: bool = False) -> HttpResponse:
    """Save an order; with `user`, of whoever is logged in."""
    model.objects.create(total=Decimal("9.99"), user=request.user if user else None)
    return HttpResponse(b"ok")


@csrf_exempt
def insert(request: HttpRequest, property_id: int, identity_id: int) -> HttpResponse:
    """Write the hit that a body tells of, by the ORM."""
    told = json.loads(request.body)["event"]
    now = timezone.now()
    Hit.objects.create(
        property_id=property_id,
        identity_id=identity_id,
        type=told["type"],
        happened_on=now,
        received_on=now,
        url=told["url"],
        referrer=told["referrer"],
        title=told["title"],
    )
    return JsonResponse({}, status=201)


@csrf_exempt
def insert_by_sql(request: HttpRequest, property_id: int, identity_id: int) -> HttpResponse:
    """Write the hit that a body tells of."""
    told = json.loads(request.body)["event"]
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    values = [property_id, identity_id, told["type"], now, now, False]
    values += [told["url"], told["referrer"], told["title"], "{}", "{}", *[""] * len(EMPTY), ""]
    with connection.cursor() as cursor:
        cursor.execute(INSERT, values)
    return JsonResponse({}, status=201)
