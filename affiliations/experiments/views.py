"""Answer Flagship's clients: decide for them, take what they tell, and let them decide themselves.

They take an answer that is not JSON for a crash, a redirect for another method, and a slow one for
none. So each is JSON or empty, none is a redirect, and what is written is written afterwards.
"""

from __future__ import annotations

import base64
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial, wraps
from typing import Any

from django.db import Error, transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.http import http_date, parse_http_date_safe
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from .. import middleware
from ..tracking import hits, limits, origins, properties
from ..tracking.properties import Known
from . import bucketing, collect, deciding, exposures, live, rules, segments, wire
from .acknowledging import Acknowledged
from .conf import rate
from .deciding import Visitor, names_of
from .exposures import Seen
from .rules import Choice
from .wire import MANDATORY, Asked, Invalid

__all__ = ["activate", "bucketing_file", "campaign", "campaigns", "events", "flags", "universal"]

logger = logging.getLogger(__name__)

JSON = "application/json"
HEADERS = "Content-Type, X-Api-Key, X-Sdk-Client, X-Sdk-Version"
#: Hits and exposures that one request tells of.
MAX_CHILDREN = 10_000
CONTENT_TYPES = {"IMAGE": "image", "TEXT": "text/plain", "HTML": "text/html"}

View = Callable[..., HttpResponse]


class Refused(Exception):
    """A request is answered by an error of a client's kind."""

    def __init__(self, status: int, message: str, wait: int = 0) -> None:
        self.status, self.message, self.wait = status, message, wait
        super().__init__(message)


def _json(told: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(json.dumps(told), content_type=JSON, status=status)


def _message(status: int, message: str) -> HttpResponse:
    return _json({"message": message}, status)


def _errors(errors: Mapping[str, str]) -> dict[str, Any]:
    return {"status": "error", "errors": dict(errors)}


def _as_message(invalid: Invalid) -> HttpResponse:
    return _message(invalid.status, str(invalid))


def _as_text_in_message(invalid: Invalid) -> HttpResponse:
    # So clients have it: JSON in a text of JSON.
    return _message(invalid.status, json.dumps(_errors(invalid.errors)))


def _as_errors(invalid: Invalid) -> HttpResponse:
    return _json(_errors(invalid.errors), invalid.status)


def answered(told: Callable[[Invalid], HttpResponse]) -> Callable[[View], View]:
    """Make a view that is posted to; `told` answers what cannot be as it was sent."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @transaction.non_atomic_requests
        @sensitive_variables()
        @wraps(view)
        def answer(request: HttpRequest, **named: str) -> HttpResponse:
            if request.method == "OPTIONS":
                return origins.preflight(request, headers=HEADERS)
            try:
                if request.method != "POST":
                    raise Refused(400, "only POST http method is allowed")
                response = view(request, **named)
            except Refused as refusal:
                response = _message(refusal.status, refusal.message)
                if refusal.wait:
                    response.headers["Retry-After"] = str(refusal.wait)
            except Invalid as invalid:
                response = told(invalid)
            except Error:
                logger.exception("The database could not be asked for a decision")
                response = _failed(request)
            response.headers["Cache-Control"] = "private, no-store"
            return origins.share(request, response, getattr(request, PROPERTY, None))

        return answer

    return decorate


#: The attribute of a request by which its answer is shared with the page of an origin.
PROPERTY = "_affiliate_environment"


def _failed(request: HttpRequest) -> HttpResponse:
    if request.headers.get("X-Sdk-Version", "").startswith("2."):
        # It raises an error into the application for what is no JSON.
        return _message(500, "the decision could not be made")
    # The later ones drop the flags they have for an answer that is JSON.
    return HttpResponse("the decision could not be made", content_type="text/plain", status=503)


def _environment(request: HttpRequest, env: str) -> Known:
    """Return the property that a client calls by its environment's id; raises Refused."""
    prop = properties.find(env)
    if prop is None:
        raise Refused(400, f"environment {env[:100]} not found")
    if not prop.row.active:
        raise Refused(403, f"environment {env[:100]} is disabled")
    if not origins.may_write(request, prop):
        raise Refused(403, "Origin: the environment is not written to from there")
    setattr(request, PROPERTY, prop)
    return prop


@sensitive_variables()
def _with_key(request: HttpRequest, env: str) -> Known:
    """Return the property of an environment whose key a client has; raises Refused."""
    prop = _environment(request, env)
    key = request.headers.get("X-Api-Key", "")
    # Before the key is compared, or one more could be tried; whoever knows it gets it back.
    taken = limits.take("address", limits.address_of(request), by="secret")
    if taken.wait:
        raise Refused(429, "address: there are too many requests", taken.wait)
    if not prop.row.is_secret(key):
        raise Refused(403, "Forbidden")
    limits.give_back(taken)
    return prop


def _within_limits(request: HttpRequest, prop: Known) -> None:
    """Count a request that shows no key; raises Refused where there are too many."""
    address = limits.address_of(request)
    taken = limits.take_of(rate(), "experiments", address and f"{prop.id} {address}")
    if taken.wait:
        raise Refused(429, "address: there are too many requests", taken.wait)


# What somebody sees


@answered(_as_message)
def campaigns(request: HttpRequest, env: str) -> HttpResponse:
    """Tell what somebody sees of all campaigns."""
    prop, asked, visitor = _read(request, env)
    found = deciding.decide(prop, visitor, known=asked.context)
    if found.panic:
        return _panicking(asked)
    with_all = request.GET.get("exposeAllKeys") == "true"
    shown = _shown(request, asked, found.choices, with_all)
    return _after(HttpResponse(shown, JSON), request, prop, asked, visitor, found.choices)


@answered(_as_message)
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
    return _after(_json(told), request, prop, asked, visitor, found.choices)


@answered(_as_message)
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
                return _message(400, "Visitor untracked")
            return HttpResponse(status=204)
    return _message(
        400,
        f"The campaign {campaign[:100]} is paused or doesn’t exist. "
        "Verify your customId or campaignId.",
    )


def _read(request: HttpRequest, env: str) -> tuple[Known, Asked, Visitor]:
    prop = _with_key(request, env)
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
    return _json({"visitorId": asked.visitor_id, "campaigns": [], "panic": True})


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


# What somebody has seen and done


@answered(_as_text_in_message)
def activate(request: HttpRequest) -> HttpResponse:
    """Take that variations were seen: one, or a batch of which bad ones are passed over."""
    told = wire.body(request, batches=True)
    env = told.get("cid")
    prop = properties.find(env)
    batch = told.get("batch")
    now = timezone.now()
    if batch is None:
        seen = _seen(told, now)
        if prop is None:
            raise Invalid({"cid": "Invalid cid."})
        found = [seen]
    else:
        if prop is None:
            raise Invalid({"cid": MANDATORY if env is None else "Invalid cid."})
        found = _good(partial(_seen, now=now), _children(batch, "batch"))
    prop = _environment(request, prop.row.public_key)
    _within_limits(request, prop)
    return _acknowledged(request, partial(_write_seen, prop, found))


#: Of one activation: who has seen it, its group and variation, and when.
SeenBy = tuple[Visitor, str, str, datetime]


def _seen(told: Mapping[str, Any], now: datetime) -> SeenBy:
    errors = {
        name: MANDATORY if told.get(name) in (None, "") else "must be text"
        for name in ("cid", "caid", "vaid", "vid")
        if (name != "cid" or "qt" not in told)
        and (not isinstance(told.get(name), str) or not told.get(name))
    }
    before = told.get("aid")
    if before is not None and not isinstance(before, str):
        errors["aid"] = "must be text"
    if errors:
        raise Invalid(errors)
    visitor = Visitor(told["vid"], names_of(told["vid"]), before or "", names_of(before or ""))
    if told.get("qa") is True:
        # Whoever tries it out is no visitor.
        visitor = Visitor(told["vid"])
    return visitor, told["caid"], told["vaid"], wire.moment(told, now)


def _write_seen(prop: Known, found: Sequence[SeenBy]) -> None:
    choices = live.of_property(prop.id).now().choices
    for visitor, group, variation, seen_on in found:
        variation = bucketing.variation_of(variation)
        choice = choices.get((group, variation))
        known = (choice.keys, choice.version) if choice else exposures.find(prop, group, variation)
        if known is None:
            logger.info("A variation was seen that there is not: %.40r %.40r", group, variation)
            continue
        exposures.record(prop, visitor, [Seen(*known, seen_on)])


@answered(_as_errors)
def events(request: HttpRequest, env: str) -> HttpResponse:
    """Take what is known of somebody."""
    prop = _environment(request, env)
    _within_limits(request, prop)
    told = wire.body(request)
    errors = {name: MANDATORY for name in ("type", "visitorId") if told.get(name) in (None, "")}
    if errors:
        raise Invalid(errors)
    visitor = Visitor(wire.text(told, "visitorId"), names_of(wire.text(told, "visitorId")))
    if told["type"] not in ("CONTEXT", 1):
        raise Invalid({"type": "must be CONTEXT"})
    data = told.get("data")
    if data is not None and not isinstance(data, dict):
        raise Invalid({"data": "must be an object"})
    known = {name: value for name, value in wire.known_of(data or {}).items() if value != ""}
    if not (known and visitor.names) or middleware.asks_not_to_be_tracked(request):
        return HttpResponse(status=204)
    now = timezone.now()
    return _acknowledged(request, partial(segments.tell, prop, visitor, known, now))


@answered(_as_errors)
def universal(request: HttpRequest) -> HttpResponse:
    """Take what somebody has done: one hit, or a batch of which bad ones are passed over."""
    # As early as can be: by it, and by how late a hit is told, one is known that comes again.
    now = timezone.now()
    told = wire.body(request, batches=True)
    is_batch = told.get("t") == "BATCH"
    children = _children(told.get("h"), "h") if is_batch else [told]
    inner = next((each.get("cid") for each in children if isinstance(each, dict)), None)
    env = told.get("cid", inner)
    prop = properties.find(env)
    if prop is None:
        raise Invalid({"cid": MANDATORY if env is None else "Invalid cid."})
    prop = _environment(request, prop.row.public_key)
    _within_limits(request, prop)
    # Earlier ones tell nothing twice, and later ones that are sent one by one have no `qt`.
    repeats = request.headers.get("X-Sdk-Version", "").startswith("3.")
    counted = Counter[str]()

    def read(child: Mapping[str, Any]) -> Callable[[], object] | None:
        if child.get("cid") not in (None, env):
            raise Invalid({"cid": "Invalid cid."})
        if child.get("t") == "CAMPAIGN":
            seen = _seen({"cid": env, **child}, now)
            return partial(_write_seen, prop, [seen])
        hit = collect.told_of(prop, child, now)
        if hit is None:
            return None
        once = hit.once
        if repeats and "qt" in child and not (once or hit.hit.transaction_id):
            once = collect.once_of(child, hit.hit.happened_on, counted)
        return partial(hits.record, prop, hit.names, hit.hit, once=once)

    if is_batch:
        found = _good(read, children)
    else:
        try:
            found = [read(told)]
        except Invalid:
            if repeats:
                # It would be sent again for four hours, and be no better then.
                return HttpResponse(status=204)
            raise
    works = [each for each in found if each is not None]
    return _acknowledged(request, partial(_each, works))


def _each(works: Sequence[Callable[[], object]]) -> None:
    for work in works:
        try:
            work()
        except Exception:
            # One that cannot be written takes no other along.
            logger.exception("A hit could not be written")


def _children(told: Any, field: str) -> list[Any]:
    if not isinstance(told, list):
        raise Invalid({field: "must be a list"})
    if len(told) > MAX_CHILDREN:
        raise Invalid({field: f"must have at most {MAX_CHILDREN}"}, 413)
    return told


def _good(read: Callable[[Mapping[str, Any]], Any], children: Sequence[Any]) -> list[Any]:
    """Return what can be read of a batch: to refuse all of it would have it sent for ever."""
    found = []
    for number, each in enumerate(children):
        try:
            if not isinstance(each, dict):
                raise Invalid({"h": "must be an object"})
            found.append(read(each))
        except Invalid as error:
            logger.info("One of a batch, number %s, was passed over: %s", number, error)
    return found


def _acknowledged(request: HttpRequest, work: Callable[[], object]) -> HttpResponse:
    response = Acknowledged(status=204)
    if not middleware.asks_not_to_be_tracked(request):
        response.work = work
    return response


# For those who decide by themselves


@csrf_exempt
@transaction.non_atomic_requests
def bucketing_file(request: HttpRequest, env: str) -> HttpResponse:
    """Give what a client decides by, or say that it has not changed."""
    if request.method not in ("GET", "HEAD"):
        return _message(400, "only GET http method is allowed")
    try:
        prop = _environment(request, env)
        _within_limits(request, prop)
    except Refused as refusal:
        return _message(refusal.status, refusal.message)
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
