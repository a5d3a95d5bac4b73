"""Tell Flagship's clients what somebody sees, or what they decide it by themselves by."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.http import http_date, parse_http_date_safe
from django.views.decorators.csrf import csrf_exempt

from .. import middleware, openapidocument
from ..tracking import origins
from ..tracking.properties import Known
from . import bucketing, deciding, exposures, live, rules, segments, wire
from .acknowledging import Acknowledged
from .answering import (
    JSON,
    Refused,
    answered,
    as_json,
    as_message,
    environment,
    message,
    with_key,
    within_limits,
)
from .deciding import Visitor, names_of
from .exposures import Seen
from .rules import Choice
from .wire import Asked

__all__ = ["bucketing_file", "campaign", "campaigns", "flags", "openapi"]

CONTENT_TYPES = {"IMAGE": "image", "TEXT": "text/plain", "HTML": "text/html"}


@answered(as_message)
def campaigns(request: HttpRequest, env: str) -> HttpResponse:
    """Tell what somebody sees of all campaigns."""
    prop, asked, visitor = _read(request, env)
    found = deciding.decide(prop, visitor, known=asked.context)
    if found.panic:
        return _panicking(asked)
    with_all = request.GET.get("exposeAllKeys") == "true"
    shown = _shown(request, asked, found.choices, with_all)
    return _after(HttpResponse(shown, JSON), request, prop, asked, visitor, found.choices)


@answered(as_message)
def flags(request: HttpRequest, env: str) -> HttpResponse:
    """Tell what somebody sees, flag by flag."""
    prop, asked, visitor = _read(request, env)
    found = deciding.decide(prop, visitor, known=asked.context)
    if found.panic:
        return _panicking(asked)
    with_all = request.GET.get("exposeAllKeys", "true") == "true"
    told = {
        flag: {"value": value, "metadata": _metadata(each)}
        for each in found.choices
        for flag, value in _flags(each, with_all).items()
    }
    return _after(as_json(told), request, prop, asked, visitor, found.choices)


@answered(as_message)
def campaign(request: HttpRequest, env: str, campaign: str) -> HttpResponse:
    """Tell what somebody sees of one campaign, that is called by its id or its slug."""
    prop, asked, visitor = _read(request, env)
    found = deciding.decide(prop, visitor, known=asked.context, only=campaign)
    if found.panic:
        return _panicking(asked)
    if not found.choices:
        return _nothing(prop, asked, visitor, campaign)
    [choice] = found.choices
    with_all = request.GET.get("exposeAllKeys") == "true"
    content_type = CONTENT_TYPES.get(choice.modification_type)
    if asked.is_formatted and content_type:
        first = next(iter(choice.value.values()), "")
        response = HttpResponse(str(first), content_type)
        # It is what staff wrote; no browser is to take it for a page of this site.
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Content-Security-Policy"] = "sandbox"
    else:
        response = HttpResponse(choice.with_all_keys if with_all else choice.with_own_keys, JSON)
    return _after(response, request, prop, asked, visitor, found.choices)


def _nothing(prop: Known, asked: Asked, visitor: Visitor, campaign: str) -> HttpResponse:
    force = live.of_property(prop.id).now()
    for each in force.campaigns:
        if campaign in (each.id, each.slug):
            known = deciding.known_of(prop, visitor, asked.context, force, {})
            groups = rules.considered(each, known, asked.visitor_id)[1]
            if any(group.is_meant for group in groups):
                return message(400, "Visitor untracked")
            return HttpResponse(status=204)
    return message(
        400,
        f"The campaign {campaign[:100]} is paused or doesn’t exist. "
        "Verify your customId or campaignId.",
    )


def _read(request: HttpRequest, env: str) -> tuple[Known, Asked, Visitor]:
    prop = with_key(request, env)
    asked = wire.asked(wire.body(request))
    names, before = names_of(asked.visitor_id), names_of(asked.anonymous_id)
    if not asked.has_consent or middleware.asks_not_to_be_tracked(request):
        # What they have had is looked up all the same; nothing is written.
        asked = asked._replace(has_consent=False)
    group = asked.decision_group
    hashed_id = base64.b64encode(group.encode(errors="surrogatepass")).decode() if group else ""
    return (
        prop,
        asked,
        Visitor(asked.visitor_id, names, asked.anonymous_id, before, asked.has_consent, hashed_id),
    )


def _panicking(asked: Asked) -> HttpResponse:
    return as_json({"visitorId": asked.visitor_id, "campaigns": [], "panic": True})


def _shown(request: HttpRequest, asked: Asked, choices: Sequence[Choice], with_all: bool) -> str:
    """Return the answer in the form that is asked for, as JSON."""
    parts = {}
    mode = request.GET.get("mode")
    if mode != "simple":
        parts["visitorId"] = json.dumps(asked.visitor_id)
        told = [each.with_all_keys if with_all else each.with_own_keys for each in choices]
        parts["campaigns"] = f"[{','.join(told)}]"
    if mode in ("simple", "full"):
        parts["campaignsVariation"] = json.dumps(
            [{"campaignId": each.campaign_id, "variationId": each.variation_id} for each in choices]
        )
        merged: dict[str, Any] = {}
        for each in choices:
            merged |= _flags(each, with_all)
        parts["mergedModifications"] = json.dumps(merged)
    wanted = [*request.GET.getlist("extras"), *request.GET.getlist("extras[]")]
    if "accountSettings" in wanted:
        kind = "type.googleapis.com/flagship.protobuf.AccountSettings"
        settings = {"@type": kind, **bucketing.ACCOUNT_SETTINGS}
        parts["extras"] = json.dumps({"accountSettings": settings})
    return "{" + ",".join(f'"{name}":{part}' for name, part in parts.items()) + "}"


def _flags(choice: Choice, with_all: bool) -> dict[str, Any]:
    if with_all:
        return {**choice.value, **dict.fromkeys(choice.others)}
    return {name: value for name, value in choice.value.items() if value is not None}


def _metadata(choice: Choice) -> dict[str, Any]:
    return {
        "campaignId": choice.campaign_id,
        "campaignName": choice.campaign_name,
        "slug": choice.slug,
        "type": choice.type,
        "variationGroupId": choice.group_id,
        "variationGroupName": choice.group_name,
        "variationId": choice.variation_id,
        "variationName": choice.variation_name,
        "reference": choice.is_reference,
    }


def _after(
    response: HttpResponse,
    request: HttpRequest,
    prop: Known,
    asked: Asked,
    visitor: Visitor,
    choices: Sequence[Choice],
) -> HttpResponse:
    """Have written once the answer is sent what somebody has seen, and what is known of them."""
    if not (asked.has_consent and visitor.names):
        return response
    seen = choices if asked.is_seen else ()
    context: Mapping[str, Any] = {}
    if request.GET.get("sendContextEvent") != "false":
        context = asked.context
    if not (seen or context):
        return response
    now = timezone.now()

    def work() -> None:
        exposures.record(prop, visitor, [Seen(each.keys, each.version, now) for each in seen])
        if context:
            segments.tell(prop, visitor, context, now)

    acknowledged = Acknowledged(response.content, response.headers["Content-Type"])
    for name, value in response.headers.items():
        acknowledged.headers[name] = value
    acknowledged.work = work
    return acknowledged


@csrf_exempt
@transaction.non_atomic_requests
def bucketing_file(request: HttpRequest, env: str) -> HttpResponse:
    """Give what a client decides by, or say that it has not changed."""
    if request.method not in ("GET", "HEAD"):
        return message(400, "only GET http method is allowed")
    try:
        prop = environment(request, env)
        within_limits(request, prop)
    except Refused as refusal:
        return message(refusal.status, refusal.message)
    found = live.of_property(prop.id)
    force = found.now()
    date = http_date(force.stamp)
    asked = request.headers.get("If-Modified-Since", "")
    # While panicking it is given each time: one that was started then would stay so for ever.
    if not found.panic and asked and parse_http_date_safe(asked) == force.stamp:
        response = HttpResponse(status=304)
    else:
        response = HttpResponse(bucketing.PANIC if found.panic else force.file, JSON)
    response.headers["Last-Modified"] = date
    response.headers["Cache-Control"] = "no-cache"
    return origins.share(request, response, prop)


@csrf_exempt
@transaction.non_atomic_requests
def openapi(request: HttpRequest) -> HttpResponse:
    """Answer with the OpenAPI document of all of this, as it is where it is mounted."""
    if request.method not in ("GET", "HEAD"):
        return message(400, "only GET http method is allowed")
    return openapidocument.answered(request, beside=__file__)
