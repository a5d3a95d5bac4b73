"""The partner's pages, and the address that the shop calls back."""

from __future__ import annotations

import time

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from affiliations import signing
from affiliations.exceptions import InvalidSignature
from affiliations.money import Money
from affiliations.rewards import ledger
from affiliations.rewards.models import Account, Payout

from .models import Deal, ReceivedCallback

#: Calls that the log shows, the newest first.
SHOWN = 50
#: What is kept of a header that anybody may have made up.
MAX_HEADER = 100


@require_GET
def blog(request: HttpRequest) -> HttpResponse:
    """Show a post with affiliate links to the shop."""
    deal = Deal.objects.get()
    return render(
        request,
        "partner_site/blog.html",
        {
            "shop": deal.link("/", "footer"),
            "mug": deal.link("/products/morning-mug/", "mug"),
            "teapot": deal.link("/products/rain-teapot/", "teapot"),
            "vase": deal.link("/products/reed-vase/", "vase"),
        },
    )


@require_GET
@never_cache
def log(request: HttpRequest) -> HttpResponse:
    """Show what the shop has called; with `?entries` only the entries, for the page's script."""
    name = "entries" if "entries" in request.GET else "log"
    calls = ReceivedCallback.objects.all()[:SHOWN]
    context = {"calls": calls, "earnings": earnings(Deal.objects.get().uid)}
    return render(request, f"partner_site/{name}.html", context)


def earnings(uid: str) -> list[dict[str, Money]]:
    """Return what a partner has earned in each currency, and what became of it.

    A partner's site elsewhere would have to be told; this one looks into the shop's own ledger.
    """
    found = []
    for account in Account.objects.filter(partner__uid=uid).order_by("currency"):
        balance = ledger.balance(account)
        payouts = account.payouts.exclude(state=Payout.State.FAILED)
        paid = sum(payouts.values_list("minor", flat=True))
        figures = {
            "earned": balance.total + paid,
            "paid": paid,
            "available": balance.available,
            "held": balance.held,
        }
        found.append({name: Money(minor, account.currency) for name, minor in figures.items()})
    return found


@require_GET
def callback(request: HttpRequest, event: str, visitor_id: str) -> HttpResponse:
    """Receive a call of the shop: believe it only if its signature says that it is the shop's.

    A call may come more than once, and its webhook-id is then the same: one that is known is
    acknowledged again, but does not count again.
    """
    target = request.get_full_path()
    headers = {name.lower(): value for name, value in request.headers.items()}
    problem = ""
    try:
        secret = signing.decode_secret(Deal.objects.get().secret)
        payload = signing.payload("GET", target, b"")
        signing.verify([secret], headers, payload, int(time.time()))
    except InvalidSignature as error:
        problem = str(error)
    call = ReceivedCallback(
        event=event,
        visitor_id=visitor_id[:MAX_HEADER],
        target=target,
        webhook_id=headers.get("webhook-id", "")[:MAX_HEADER],
        timestamp=headers.get("webhook-timestamp", "")[:MAX_HEADER],
        signature=headers.get("webhook-signature", ""),
        verified=not problem,
        problem=problem,
    )
    known = ReceivedCallback.objects.filter(webhook_id=call.webhook_id, verified=True)
    call.repeated = call.verified and known.exists()
    call.save()
    return HttpResponse(status=401 if problem else 204)
