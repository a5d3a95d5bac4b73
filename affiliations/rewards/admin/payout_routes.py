"""Say where the payouts of a batch go to, before they are sent, and which of them do not."""

from __future__ import annotations

from typing import Any

from django.utils.text import Truncator
from django.utils.translation import ngettext

from ...admin.amounts import amount
from ...admin.callbacks import intcomma
from .. import payouts
from ..models import Method, Payout, PayoutBatch, PayoutDestination

#: Payouts of which it is said where each goes, and those named of what goes nowhere.
NAMED, FEW = 20, 3


def led(rows: Any, number: int) -> list[str]:
    """Say of the first of so many payouts where each goes to."""
    first = list(rows.select_related("account__partner").order_by("pk")[:NAMED])
    holders = [payout.account.holder for payout in first]
    there = PayoutDestination.objects.in_bulk(holders, field_name="holder")
    lines = []
    for payout in first:
        # Whoever has none any more was erased at this moment.
        where = there.get(payout.account.holder)
        to = f" → {where.email} ({where.name})" if where else ""
        lines.append(f"{_named(payout)}{to}")
    if number > NAMED:
        more = ngettext("and %(n)s other", "and %(n)s others", number - NAMED)
        lines.append(more % {"n": intcomma(number - NAMED)})
    return lines


def left(batch: PayoutBatch, method: Method) -> list[str]:
    """Say of what is approved of a batch what does not go by a method."""
    lines = []
    for other in Method:
        if other != method and (number := payouts.sendable(batch, other).count()):
            text = ngettext(
                "Not now: %(n)s goes by %(method)s.", "Not now: %(n)s go by %(method)s.", number
            )
            lines.append(text % {"n": intcomma(number), "method": other.label})
    nowhere = payouts.sendable(batch)
    if number := nowhere.count():
        first = nowhere.select_related("account__partner").order_by("pk")[:FEW]
        text = ngettext(
            "Not at all: %(n)s has no destination (%(first)s).",
            "Not at all: %(n)s have no destination (%(first)s).",
            number,
        )
        named = ", ".join(_named(payout) for payout in first)
        named += ", …" if number > FEW else ""
        lines.append(text % {"n": intcomma(number), "first": named})
    return lines


def _named(payout: Payout) -> str:
    whose = Truncator(payout.account.partner or payout.account.holder).chars(40)
    return f"{whose}: {amount(payout.minor, payout.account.currency)}"
