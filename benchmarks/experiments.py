"""What a decision costs, against two other programs', and what asking for one costs a request.

The peers are flagship 3.0.1, in the mode in which it decides by itself, and growthbook 4, both in
this process, with the same campaigns; what they would send is not sent. They are measured where
they can be imported: AFFILIATIONS_FLAGSHIP names a directory with `3.0.1/` in it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from django.http import HttpResponse
from django.test import RequestFactory

from affiliations.experiments import live, publishing
from affiliations.experiments.deciding import Visitor, decide
from affiliations.experiments.middleware import ExperimentsMiddleware
from affiliations.experiments.models import Campaign, Environment, Variation, VariationGroup
from affiliations.tracking import properties
from affiliations.tracking.models import Property

from .runner import Fact, Race, Variant
from .stack import count as counted
from .stack import default_stack, empty, environ, serve, wsgi

#: As a ratio of time: twenty times as fast as either of them.
AT_MOST = 1 / 20
#: The throughput is to be 0.6 of the bare view's.
ENDPOINT = 1 / 0.6
#: Microseconds that a request may take longer in which nobody asks.
UNUSED = 2.0
CONTEXT = {"plan": "gold", "age": 30, "country": "FR"}


def measure(quick: bool) -> Iterator[Race | Fact]:
    """Yield decisions for some campaigns, the endpoint, and a request in which nobody asks."""
    for number in (10, 100):
        prop, _ = shop(number)
        yield decisions(prop, number)
        clear()
    prop, key = shop(20)
    yield from endpoint(prop, key)
    yield unused()
    clear()


def shop(number: int) -> tuple[Property, str]:
    """Return a property with so many campaigns, each with two conditions and two variations."""
    prop, key = Property.objects.issue(name="Shop", public_key="SHOP")
    conditions = [
        [
            {"key": "plan", "operator": "EQUALS", "value": "gold"},
            {"key": "age", "operator": "GREATER_THAN", "value": 18},
        ]
    ]
    for each in range(number):
        campaign = Campaign.objects.create(property=prop, slug=f"c{each}", name=f"Campaign {each}")
        group = VariationGroup.objects.create(campaign=campaign, name="Gold", targeting=conditions)
        for name in ("a", "b"):
            Variation.objects.create(
                group=group,
                name=name,
                allocation=50,
                is_reference=name == "a",
                modifications=json.dumps({f"flag{each}": name}),
            )
        publishing.start(campaign=campaign)
    return prop, key


def clear() -> None:
    """Leave nothing behind."""
    Environment.objects.all().delete()
    Campaign.objects.all().delete()
    Property.objects.all().delete()
    live.forget()
    properties.forget()


def decisions(prop: Property, number: int) -> Race:
    """Return the race of a decision for a visitor who was never here before."""
    known = properties.find(prop.public_key)
    if known is None:
        raise RuntimeError("there is no property")
    ids = (f"visitor-{each}" for each in count())

    def ours() -> int:
        return len(decide(known, Visitor(next(ids)), known=CONTEXT).choices)

    force = live.of_property(prop.pk).now()
    peers = {
        name: made(json.loads(force.file), ids)
        for name, made in (("flagship 3.0.1", flagship), ("growthbook 4", growthbook))
        if there(name)
    }
    for name, call in {"ours": ours, **peers}.items():
        if call() != number:
            raise RuntimeError(f"{name}: not each campaign was decided on")
    first = next(iter(peers), "")
    variants = [Variant(name, call) for name, call in peers.items()]
    variants += [Variant(f"ours against {name}", ours, name, at_most=AT_MOST) for name in peers]
    if not first:
        variants = [Variant("ours, as neither peer is installed", ours)]
    return Race(f"decision, {number} campaigns", variants)


def there(name: str) -> bool:
    """Tell whether a peer can be imported."""
    if name == "growthbook 4":
        return find_spec("growthbook") is not None
    named = os.environ.get("AFFILIATIONS_FLAGSHIP")
    path = str(Path(named) / "3.0.1") if named else ""
    if path and path not in sys.path:
        sys.path.insert(0, path)
    return find_spec("flagship") is not None


def flagship(file: dict[str, Any], ids: Iterator[str]) -> Callable[[], int]:
    """Return a decision of flagship's, as it comes to one by the file; its hit is not sent."""
    manager = import_module("flagship.bucketing_manager").BucketingManager
    campaigns = import_module("flagship.campaign").Campaign.parse_campaigns(file)
    decides = SimpleNamespace(campaigns=campaigns, send_context_hit=lambda visitor: None)

    def call() -> int:
        visitor = SimpleNamespace(visitor_id=next(ids), context=CONTEXT, assignations={})
        return len(manager.get_campaigns_modifications(decides, visitor)[1])

    return call


def growthbook(file: dict[str, Any], ids: Iterator[str]) -> Callable[[], int]:
    """Return a decision of growthbook's, by rules that mean the same."""
    book = import_module("growthbook").GrowthBook
    features = {}
    for campaign in file["campaigns"]:
        [group] = campaign["variationGroups"]
        values = [each["modifications"]["value"] for each in group["variations"]]
        [flag] = values[0]
        condition = {"plan": "gold", "age": {"$gt": 18}}
        rule = {
            "variations": [each[flag] for each in values],
            "weights": [each["allocation"] / 100 for each in group["variations"]],
            "key": group["id"],
            "condition": condition,
            "hashAttribute": "id",
        }
        features[flag] = {"defaultValue": "none", "rules": [rule]}

    def call() -> int:
        one = book(attributes={"id": next(ids), **CONTEXT}, features=features)
        found = [one.get_feature_value(flag, "none") for flag in features]
        return sum(each != "none" for each in found)

    return call


def endpoint(prop: Property, key: str) -> Iterator[Race | Fact]:
    """Yield what a client's question costs, beside a view that answers any with the same."""
    told = {"visitorId": "visitor-1", "trigger_hit": False, "context": CONTEXT}
    body = json.dumps(told).encode()
    headers = {"HTTP_X_API_KEY": key}
    stack = wsgi(default_stack())
    path = f"/flagship/v2/{prop.public_key}/campaigns/?exposeAllKeys=true&sendContextEvent=false"
    ours = serve(stack, environ(path, body, **headers), "200", body)
    bare = serve(stack, environ("/bare-json/", body, **headers), "200", body)
    ours()
    yield Fact("campaigns endpoint, 20 campaigns: queries", len(counted(ours)), "queries", 0)
    yield Race(
        "campaigns endpoint, 20 campaigns",
        [
            Variant("bare JSON view", bare),
            Variant("bare JSON view again", bare, "bare JSON view"),
            Variant("decided", ours, "bare JSON view", at_most=ENDPOINT),
        ],
        # It looks once a second whether anything has changed.
        prepare=lambda calls: live.of_property(prop.pk),
    )


def unused() -> Race:
    """Return what the middleware costs a request that asks for nothing, in a stack of its own."""
    response, request = HttpResponse(), RequestFactory().get("/page/?page=2")
    bare, ours = empty(lambda request: response), ExperimentsMiddleware(lambda request: response)
    return Race(
        "request.experiments, unused",
        [
            Variant("empty middleware", partial(bare, request)),
            Variant("experiments", partial(ours, request), "empty middleware", "µs", UNUSED),
        ],
    )
