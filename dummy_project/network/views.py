"""The network's page for publishers, its links, and the address that advertisers call."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from urllib.parse import urlencode

from django.core.exceptions import TooManyFieldsSent
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotFound,
    HttpResponseRedirect,
    QueryDict,
)
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from . import services
from .models import Click, Conversion, Offer, Postback

#: Who is looking, at the network's page; a real one would have them log in.
PUBLISHER = "Tea Almanac"
AFF_ID = "1042"
#: The place of the publisher's own that its links are for.
PLACE = "autumn-issue"
#: Clicks and postbacks that the page shows, the newest first.
SHOWN = 40
TEXT = "text/plain; charset=utf-8"


@require_GET
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """Show offers, and what came of them; with `?entries` only the latter, for the script."""
    name = "entries" if "entries" in told(request) else "home"
    context = {
        "publisher": PUBLISHER,
        "aff_id": AFF_ID,
        "offers": [(offer, link(request, offer)) for offer in Offer.objects.all()],
        "entries": entries(),
        "totals": totals(),
    }
    return render(request, f"network/{name}.html", context)


def link(request: HttpRequest, offer: Offer) -> str:
    """Return the publisher's link to an offer."""
    query = urlencode({"offer_id": offer.pk, "aff_id": AFF_ID, "aff_sub": PLACE})
    return request.build_absolute_uri(f"{reverse('network:click')}?{query}")


def entries() -> list[Click | Postback]:
    """Return what came in lately, the newest first."""
    clicks = Click.objects.select_related("offer")[:SHOWN]
    postbacks = Postback.objects.select_related("click__offer")[:SHOWN]
    return sorted([*postbacks, *clicks], key=lambda each: each.on, reverse=True)[:SHOWN]


def totals() -> Sequence[tuple[str, int | Decimal]]:
    """Return what the publisher wants to know first, by name."""
    conversions = list(Conversion.objects.select_related("click__offer"))
    approved = sum(each.status == Conversion.Status.APPROVED for each in conversions)
    return (
        ("Clicks", Click.objects.count()),
        ("Approved", approved),
        ("Rejected", len(conversions) - approved),
        ("Earned", sum((each.earned for each in conversions), Decimal("0.00"))),
    )


@require_GET
@never_cache
def click(request: HttpRequest) -> HttpResponse:
    """Count a click on a publisher's link, and lead on to the advertiser."""
    query = told(request)
    number = query.get("offer_id", "")
    known = number.isascii() and number.isdigit() and len(number) < 10
    offer = Offer.objects.filter(pk=int(number)).first() if known else None
    if offer is None:
        return HttpResponseNotFound("There is no such offer.", content_type=TEXT)
    return HttpResponseRedirect(services.count_click(offer, query))


@require_GET
@never_cache
def postback(request: HttpRequest) -> HttpResponse:
    """Take what an advertiser reports of a click; accepted or not, the status is 200."""
    said = services.receive(request.path, told(request))
    return HttpResponse(said.answer, content_type=TEXT)


def told(request: HttpRequest) -> QueryDict:
    """Return what an address tells; one with more in it than is read tells nothing."""
    try:
        return request.GET
    except TooManyFieldsSent:
        # Left to Django, its page about the error would trip over the same query while DEBUG is on.
        return QueryDict()
