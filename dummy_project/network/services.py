"""Count clicks, and take the reports of advertisers. Source: HasOffers/TUNE, "server postback"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.http import QueryDict
from django.utils.crypto import constant_time_compare

from .models import MAX_TARGET, MAX_TEXT, Click, Conversion, Offer, Postback

#: What an offer's address is filled in with, besides the ids of the click and the offer.
MACROS = ("aff_id", "aff_sub", "aff_sub2", "aff_sub3", "aff_sub4", "aff_sub5", "source")
TRANSACTION_ID = re.compile(r"10[0-9a-f]{28}")
AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,2})?")
Status = Conversion.Status


class Refused(Exception):
    """A postback does not count; says why."""


def count_click(offer: Offer, told: Mapping[str, str]) -> str:
    """Record a click on an offer; return where it leads."""
    values = {name: kept(told.get(name, "")) for name in MACROS}
    click = Click.objects.create(offer=offer, aff_id=values["aff_id"], aff_sub=values["aff_sub"])
    ids = {"transaction_id": click.transaction_id, "offer_id": str(offer.pk)}
    return offer.address({**values, **ids})


def receive(path: str, told: QueryDict) -> Postback:
    """Record a postback, and do what it says; its `answer` is for whoever sent it."""
    number = told.get("transaction_id", "")
    if not TRANSACTION_ID.fullmatch(number):
        # What is no id is not repeated in the answer: that might read as if it were accepted.
        number = ""
    click = Click.objects.select_related("offer").filter(transaction_id=number).first()
    problem = ""
    try:
        if click is None:
            raise Refused(f"Invalid Trans. ID #{number}")
        convert(click, told)
    except Refused as error:
        problem = str(error)
    shown = told.copy()
    if "security_token" in shown:
        # The advertiser's secret is none of the publisher's business, who sees the calls.
        shown["security_token"] = "***"
    return Postback.objects.create(
        click=click,
        target=f"{path}?{shown.urlencode(safe='*')}"[:MAX_TARGET],
        accepted=not problem,
        answer=f"success=false; err_msg={problem};" if problem else "success=true;",
    )


def convert(click: Click, told: Mapping[str, str]) -> None:
    """Record the sale that a click led to, or take it back; raises Refused."""
    if not constant_time_compare(told.get("security_token", ""), click.offer.security_token):
        raise Refused("Invalid security token")
    status = told.get("status") or Status.APPROVED
    if status not in Status.values:
        raise Refused("Invalid status")
    amount = told.get("amount") or "0"
    if not AMOUNT.fullmatch(amount):
        raise Refused("Invalid amount")
    unique_id = kept(told.get("conversion_unique_id", "")) or None
    if status == Status.REJECTED:
        reported = Conversion.objects.filter(click=click, unique_id=unique_id)
        if not reported.update(status=Status.REJECTED):
            raise Refused(f"No conversion to adjust for Trans. ID #{click}")
        return
    try:
        with transaction.atomic():
            Conversion.objects.create(
                click=click,
                unique_id=unique_id,
                adv_sub=kept(told.get("adv_sub", "")),
                amount=Decimal(amount),
            )
    except IntegrityError:
        # Another click's under this unique id, or this click's own: it is the same sale.
        raise Refused(f"Duplicate conversion for Trans. ID #{click}") from None


def kept(text: str) -> str:
    """Return as much of a stranger's text as is kept: nothing that cannot be seen, nor a lot."""
    return "".join(filter(str.isprintable, text))[:MAX_TEXT]
