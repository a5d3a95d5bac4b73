"""Put a member's share link, and what came of it, into any page."""

from __future__ import annotations

from typing import Any

from django import template
from django.template import Context

from .. import pages, sharing
from ..exceptions import NotRegistered, UnknownProgram
from ..models import Member

register = template.Library()


@register.simple_tag(takes_context=True)
def referral_link(context: Context, path: str = "/") -> str:
    """Return the share link of whoever is logged in, to a path of this site; "" for others."""
    member = _member(context)
    return sharing.link_of(context["request"], member, path) if member else ""


@register.simple_tag(takes_context=True)
def referral_stats(context: Context) -> pages.Stats | None:
    """Return what came of the share link of whoever is logged in; None for others."""
    member = _member(context)
    return pages.stats(member) if member else None


def _member(context: Context) -> Member | None:
    request: Any = context.get("request")
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return None
    # Once for each page, however many tags are in it.
    if not hasattr(request, "_affiliate_member"):
        try:
            request._affiliate_member = sharing.member_of(user)
        except (NotRegistered, UnknownProgram):
            request._affiliate_member = None
    found: Member | None = request._affiliate_member
    return found
