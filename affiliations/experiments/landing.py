"""Let the landing pages of short links be the variations of a campaign.

    AFFILIATE_LINKS_LANDING_PAGE = "affiliations.experiments.landing.landing_page"

A variation leads wherever its flag `landing-page` says. By the conditions `aff_link` and
`aff_partner` a campaign means the clicks on one link, or those that a partner sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..models import Partner
from ..tracking import properties
from . import live
from .showing import decided, see, whom

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["FLAG", "landing_page"]

FLAG = "landing-page"


def landing_page(request: HttpRequest, *, path: str, partner_id: int | None) -> str:
    """Return where a click on a link leads by this site's campaigns, "" where by none of them.

    Whoever clicks has seen the variation then, sent by the link's partner.
    """
    who = whom(request, properties.own())
    if who is None:
        return ""
    prop, visitor = who
    ours: dict[str, Any] = {"aff_link": path}
    if partner_id is not None and "aff_partner" in live.of_property(prop.id).now().keys:
        ours["aff_partner"] = Partner.objects.values_list("uid", flat=True).get(pk=partner_id)
    for choice in reversed(decided(request, prop, visitor, known={}, ours=ours)):
        url = choice.value.get(FLAG)
        if isinstance(url, str) and url:
            see(request, prop, visitor, choice, partner_id)
            return url
    return ""
