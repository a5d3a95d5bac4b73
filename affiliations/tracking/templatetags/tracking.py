"""Put a script into any page that tells of the page, and of what is done there."""

from __future__ import annotations

import logging
from typing import Any

from django import template
from django.template import Context
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse

from ... import middleware
from ...conf import settings as core
from ..conf import settings

register = template.Library()
logger = logging.getLogger(__name__)


@register.simple_tag(takes_context=True)
def tracking_snippet(
    context: Context,
    *,
    wait: bool = False,
    property: str = "",  # noqa: A002 # what it is called everywhere
    nonce: Any = None,
) -> str:
    """Return the script that tells of a page: by itself, and of events by `affiliations.track`.

    "" for a browser that asks by GPC not to be tracked, and without the consent that
    AFFILIATE_CONSENT tells of; but with `wait` the script is there without it, and tells nothing
    before `affiliations.consent()` is called. `property` is the public key of another property than
    AFFILIATE_TRACKING_PROPERTY. The `nonce` is that of Django's or django-csp's policy, where there
    is one, and none is given.

    No query. Where something is missing the page is shown all the same, and a warning logged.
    """
    request: Any = context.get("request")
    key = property or settings.TRACKING_PROPERTY
    if request is None:
        logger.warning("tracking_snippet: the template is rendered without its request")
        return ""
    if not key:
        logger.warning("tracking_snippet: AFFILIATE_TRACKING_PROPERTY is empty")
        return ""
    try:
        url = reverse("affiliations_tracking:events")
    except NoReverseMatch:
        logger.warning("tracking_snippet: affiliations.tracking.urls are included nowhere")
        return ""
    if middleware.asks_not_to_be_tracked(request):
        return ""
    may = middleware.has_consent(request)
    if not (may or wait):
        return ""
    shown = {
        "url": url,
        "key": key,
        "may": int(may),
        "gpc": core.HONOUR_GPC,
        "nonce": _nonce(context, request, nonce),
    }
    return render_to_string("affiliations/tracking/snippet.html", shown)


def _nonce(context: Context, request: Any, given: Any) -> str:
    """Return the nonce of a page's policy, "" where it has none."""
    made = (
        given,
        context.get("csp_nonce"),
        getattr(request, "csp_nonce", None),  # django-csp's
        getattr(request, "_csp_nonce", None),  # Django's, without its context processor
    )
    # Those that nobody has used yet are false, so that it is not by this that they are told.
    return next((str(each) for each in made if each is not None and str(each)), "")
