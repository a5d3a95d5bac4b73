"""What the core serves to machines."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_safe

from . import status
from .conf import settings

__all__ = ["metrics"]


@never_cache
@require_safe
@sensitive_variables()
def metrics(request: HttpRequest) -> HttpResponse:
    """Tell Prometheus how the delivery of callbacks does.

    There is no such page unless `AFFILIATE_METRICS_TOKEN` is set, and without that token, as
    `Authorization: Bearer …`, the answer is 401.
    """
    token = settings.METRICS_TOKEN
    if not token:
        raise Http404("AFFILIATE_METRICS_TOKEN is not set")
    given = request.headers.get("Authorization", "")
    if not constant_time_compare(given, f"Bearer {token}"):
        challenge = {"WWW-Authenticate": 'Bearer realm="metrics"'}
        return HttpResponse("", status=401, headers=challenge)
    text = status.prometheus(status.figures())
    return HttpResponse(text, content_type="text/plain; version=0.0.4; charset=utf-8")
