"""Say on each page of the shop what the suite has recorded of this browser."""

from __future__ import annotations

from typing import Any

from django import template

register = template.Library()


@register.inclusion_tag("shop/strip.html", takes_context=True)
def just_happened(context: dict[str, Any]) -> dict[str, Any]:
    """Show who sent this visitor, and their conversions so far."""
    visitor = getattr(context["request"], "affiliate_visitor", None)
    conversions = (
        visitor.conversions.order_by("created_on", "pk").prefetch_related("callbacks")
        if visitor
        else ()
    )
    # A network's own page, or the blog's log: where it is to be seen what the partner heard.
    is_network = bool(visitor) and visitor.partner.links.exists()
    return {"visitor": visitor, "conversions": conversions, "is_network": is_network}
