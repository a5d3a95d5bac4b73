"""Say on each page of the shop what the suite has recorded of this browser."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django import template

from affiliations.models import Conversion
from affiliations.money import Money
from affiliations.rewards.models import Entry

register = template.Library()


def left_of(conversion: Conversion) -> list[Money]:
    """Return what a conversion has earned its partners, less what was taken back of it."""
    left: Counter[str] = Counter()
    entries = Entry.objects.filter(commission__conversion=conversion)
    for currency, minor in entries.values_list("account__currency", "minor"):
        left[currency] += minor
    return [Money(minor, currency) for currency, minor in left.items() if minor]


@register.inclusion_tag("shop/strip.html", takes_context=True)
def just_happened(context: dict[str, Any]) -> dict[str, Any]:
    """Show who sent this visitor, and their conversions so far."""
    visitor = getattr(context["request"], "affiliate_visitor", None)
    conversions: list[Any] = []
    if visitor:
        rows = visitor.conversions.order_by("created_on", "pk").prefetch_related("callbacks")
        conversions = list(rows)
    for each in conversions:
        each.earned = left_of(each)
    # A network's own page, or the blog's log: where it is to be seen what the partner heard.
    is_network = bool(visitor) and visitor.partner.links.exists()
    return {"visitor": visitor, "conversions": conversions, "is_network": is_network}
