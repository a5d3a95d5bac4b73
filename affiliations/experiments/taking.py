"""Take what Flagship's clients tell: what somebody has seen, who they are, and what they did."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from .. import middleware
from ..tracking import hits, properties
from ..tracking.properties import Known
from . import bucketing, collect, exposures, live, segments, wire
from .acknowledging import Acknowledged
from .answering import answered, as_errors, as_text_in_message, environment, within_limits
from .deciding import Visitor, names_of
from .exposures import Seen
from .wire import MANDATORY, Invalid

__all__ = ["activate", "events", "universal"]

logger = logging.getLogger(__name__)

#: Hits and exposures that one request tells of.
MAX_CHILDREN = 10_000


@answered(as_text_in_message)
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
    prop = environment(request, prop.row.public_key)
    within_limits(request, prop)
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


@answered(as_errors)
def events(request: HttpRequest, env: str) -> HttpResponse:
    """Take what is known of somebody."""
    prop = environment(request, env)
    within_limits(request, prop)
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


@answered(as_errors)
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
    prop = environment(request, prop.row.public_key)
    within_limits(request, prop)
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
