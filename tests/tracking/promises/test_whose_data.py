"""Row I7 of the promises: every address of Attribution.io's APIs, by everybody who might ask.

By its secret somebody reads of one property, and by its public key anybody writes to one; nobody
reads of another or writes to it, nor is told what is there. The staff's pages are in
test_whose_pages.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest
from django.db import transaction
from django.test import Client

from affiliations.tracking import hits, properties, urls
from affiliations.tracking.models import Customer, EventType, Hit, HitKey, Identity, Property
from tests.core.factories import make_user
from tests.referrals.promises.test_whose_data import METHODS, unfiltered
from tests.tracking.factories import hit, make_event_type

pytestmark = pytest.mark.django_db

MOUNT = "/attribution/"
INSIDE = (EventType, Customer, Identity, Hit)
MODELS = (Property, *INSIDE, HitKey)
OWNERS = ("anna", "bert", "gone")
TARGETS = ("annas", "berts", "nobodys")


class Call(NamedTuple):
    """What is sent to an address about somebody, and what is answered, by its method."""

    route: str
    method: str
    sent: Callable[[str], Any] = lambda target: None
    #: What is answered about whoever is Anna's, and about whoever is not.
    there: int = 201
    elsewhere: int = 201

    @property
    def asks(self) -> bool:
        """Whether the secret is needed."""
        return "<client_id>" in self.route

    @property
    def reads(self) -> bool:
        """Whether nothing is to be changed by it."""
        return self.method != "POST"


def event(target: str, **fields: Any) -> dict[str, Any]:
    return {"event": {"aliases": [f"{target}-cookie"], **fields}}


ROUTE = r"api/v1/<public_key>/customers/<client_id>"
#: A new route fails until it stands here.
CALLS = {
    "POST identities": Call(
        "identities",
        "POST",
        lambda target: {"identity": {"aliases": [f"{target}-cookie"], "client_id": "new"}},
    ),
    "POST events": Call(
        "events",
        "POST",
        lambda target: event(target, event_public_key=f"{target}-event", transaction_id="R-2"),
        elsewhere=404,
    ),
    "POST events of an order": Call(
        "events", "POST", lambda target: event(target, type="transaction", transaction_id="R-2")
    ),
    "POST events of a page": Call("events", "POST", lambda target: event(target, type="pageview")),
    "GET customer": Call(ROUTE, "GET", there=200, elsewhere=404),
    "HEAD customer": Call(ROUTE, "HEAD", there=200, elsewhere=404),
    "GET openapi.json": Call("openapi.json", "GET", there=200, elsewhere=200),
    "HEAD openapi.json": Call("openapi.json", "HEAD", there=200, elsewhere=200),
    "OPTIONS identities": Call("identities", "OPTIONS", there=204, elsewhere=204),
    "OPTIONS events": Call("events", "OPTIONS", there=204, elsewhere=204),
}


class Caller(NamedTuple):
    """Somebody with the public key of a property, and a secret or none."""

    whose: str = "anna"
    header: str = ""
    query: str = ""
    #: What they are answered where a secret is needed, and where not; 0 lets them in.
    asking: int = 401
    telling: int = 0


CALLERS = {
    "own secret": Caller(header="anna", asking=0),
    "own secret in the address": Caller(query="anna", asking=0),
    "no secret": Caller(),
    "empty secret": Caller(header=""),
    "unknown secret": Caller(header="unknown"),
    "secret of another property": Caller(header="bert"),
    "secret of another property in the address": Caller(query="bert"),
    "another's, and the own one in the address": Caller(header="bert", query="anna"),
    "secret that was renewed": Caller(header="renewed"),
    "digest of the secret": Caller(header="digest"),
    "public key for a secret": Caller(header="key"),
    "staff without a secret": Caller(),
    "disabled property": Caller("gone", header="gone", asking=403, telling=403),
    "disabled property, without its secret": Caller("gone", telling=403),
    "unknown property": Caller("nobody", header="anna", telling=401),
    "property in other letters": Caller("ANNA", header="anna", telling=401),
    "no property": Caller("", header="anna", telling=401),
}


class Asked(NamedTuple):
    """A way to call an address."""

    route: str
    method: str
    who: str
    #: Which of the calls there, "" where there is none.
    name: str = ""

    @property
    def empty(self) -> bool:
        """Whether an answer has no body."""
        return self.method in ("HEAD", "OPTIONS")

    @property
    def call(self) -> Call | None:
        """What is called, None where there is no such operation."""
        return CALLS.get(self.name)

    def status(self, target: str) -> int:
        """What is to be answered about somebody."""
        caller, call = CALLERS[self.who], self.call
        # What has no public key is no address.
        if call is None or self.method == "OPTIONS":
            return 404 if not caller.whose and "<public_key>" in self.route else self.refused
        if call.asks and not caller.whose:
            return 404
        if call.route == "openapi.json":
            return call.there
        refused = caller.asking if call.asks else caller.telling
        return refused or (call.there if target == "annas" else call.elsewhere)

    @property
    def refused(self) -> int:
        return self.call.there if self.call else 405


class World:
    """Three properties, the last of them disabled, and everybody who might call."""

    def __init__(self) -> None:
        self.secrets = {"": "", "unknown": "x" * 43}
        self.properties = {}
        for owner in OWNERS:
            made, self.secrets[owner] = Property.objects.issue(name=owner, public_key=owner)
            self.properties[owner] = made
            make_event_type(made, public_key=f"{owner}s-event")
            told = {"url": f"https://{owner}s.example/", "type": "transaction"}
            who = f"cookie:{owner}s-cookie client:{owner}s-customer"
            hit(made, who, transaction_id=f"{owner}s-order", **told)
        anna = self.properties["anna"]
        self.secrets["renewed"], self.secrets["anna"] = self.secrets["anna"], anna.renew_secret()
        self.secrets |= {"digest": anna.digest, "key": "anna"}
        anna.save()
        Property.objects.filter(pk=self.properties["gone"].pk).update(active=False)
        properties.forget()
        staff = make_user()
        staff.is_staff = staff.is_superuser = True
        staff.save()
        client = Client()
        client.force_login(staff)
        self.session = client.cookies
        self.before = self.rows()

    def rows(self) -> dict[Any, list[dict[str, Any]]]:
        """Return all that a call might change."""
        return {each: list(each.objects.order_by("pk").values()) for each in MODELS}

    def others(self, rows: dict[Any, list[dict[str, Any]]]) -> list[Any]:
        """Return what there is of others than Anna: of all properties, and what is in theirs."""
        anna = self.properties["anna"].pk
        inside = [[each for each in rows[kind] if each["property_id"] != anna] for kind in INSIDE]
        return [rows[Property], *inside]

    def ask(self, asked: Asked, target: str) -> Any:
        """Call an address about somebody; return the answer."""
        caller = CALLERS[asked.who]
        client = Client(raise_request_exception=False, enforce_csrf_checks=True)
        if "staff" in asked.who:
            client.cookies.update(self.session)
        headers = {}
        if caller.header or "empty" in asked.who:
            headers["authorization"] = f"Bearer {self.secrets[caller.header]}"
        path = asked.route.replace("<public_key>", caller.whose)
        path = path.replace("<client_id>", f"{target}-customer")
        query = f"&secret={self.secrets[caller.query]}" if caller.query else ""
        sent = asked.call.sent(target) if asked.call else None
        for inner in (sent or {}).values():
            inner["public_key"] = caller.whose
        return client.generic(
            asked.method,
            f"{MOUNT}{path}?show_all=true{query}",
            "" if sent is None else json.dumps(sent),
            content_type="application/json",
            headers=headers,
        )

    def wrong(self, asked: Asked) -> str:
        """Return what is wrong with an answer, "" where nothing is; whatever it did is undone."""
        told = {}
        # What is no operation is about nobody.
        targets = TARGETS if asked.call else TARGETS[:1]
        for target in targets:
            with transaction.atomic():
                answer = self.ask(asked, target)
                after = self.rows()
                transaction.set_rollback(True)
            status, expected = answer.status_code, asked.status(target)
            if status != expected:
                return f"is answered {status} about {target}"
            if self.others(after) != self.others(self.before):
                return "changes what is another's"
            if (after == self.before) == (status == 201):
                return "changes nothing" if status == 201 else "changes something"
            text = answer.content.decode().replace(target, "TARGET")
            if any(f"{owner}s" in text for owner in OWNERS if owner != "anna"):
                return "tells of another's"
            if status != 200 and "annas" in text:
                return "tells of what is there"
            asks = asked.call is not None and asked.call.asks
            if status == 200 and asks and not asked.empty and "https://TARGET.example/" not in text:
                return "tells nothing"
            kept = answer.headers.get("Cache-Control")
            if (asks or asked.method == "POST") and status != 404 and not kept:
                return "may be kept by a cache"
            # How long it is the text tells, but for what they have said themselves.
            headers = {**answer.headers, "Content-Length": len(text)}
            told[target] = (status, text, headers)
        return "" if told.get("berts") == told.get("nobodys") else "tells what is another's"


def routes(patterns: Iterable[Any] = tuple(urls.urlpatterns)) -> dict[str, str]:
    """Return what is mounted, by its name, with its parameters as a path has them."""
    found = {}
    for each in patterns:
        route = str(each.pattern).removeprefix("^").removesuffix(r"\Z")
        for name in each.pattern.regex.groupindex:
            start = route.index(f"(?P<{name}>")
            end = route.index(")", start)
            route = f"{route[:start]}<{name}>{route[end + 1 :]}"
        found[each.name] = route
    return found


def unknown(mounted: Iterable[str]) -> set[str]:
    """Return what is mounted and does not stand in the table, or the other way round."""
    return {*mounted} ^ {each.route for each in CALLS.values()}


def ways(who: str) -> list[Asked]:
    """Return every way in which somebody may call, by every method."""
    found = []
    for route in routes().values():
        for method in METHODS:
            names = [
                name for name, each in CALLS.items() if (each.route, each.method) == (route, method)
            ]
            found += [Asked(route, method, who, name) for name in names or [""]]
    return found


def faults(world: World, asked: Iterable[Asked]) -> dict[str, str]:
    """Return all that is wrong with what is answered."""
    wrong = {each.name or f"{each.method} {each.route}": world.wrong(each) for each in asked}
    return {name: what for name, what in wrong.items() if what}


def caught(world: World, who: str) -> dict[str, str]:
    """Return all that is wrong with what somebody is answered wherever there is an operation."""
    return faults(world, [each for each in ways(who) if each.call])


def test_every_route_is_here():
    assert unknown(routes().values()) == set()
    assert {each.name for who in CALLERS for each in ways(who)} == {*CALLS, ""}


def test_teeth_a_route_that_is_new_or_gone():
    assert unknown([*routes().values(), "export"]) == {"export"}
    assert unknown([each for each in routes().values() if each != "events"]) == {"events"}


@pytest.mark.parametrize("who", CALLERS)
def test_everybody_is_answered_what_is_theirs(who):
    assert faults(World(), ways(who)) == {}


# What each of them finds if it is missing


@pytest.mark.parametrize("who", [who for who, each in CALLERS.items() if each.asking == 401])
def test_teeth_a_secret_that_is_not_compared(monkeypatch, who):
    world = World()
    monkeypatch.setattr(Property, "is_secret", lambda self, secret: True)
    found = {"GET customer", "HEAD customer"}
    # What is no property has nothing to tell.
    is_property = CALLERS[who].whose in OWNERS
    assert caught(world, who).keys() == (found if is_property else set())


def test_teeth_a_secret_of_any_property(monkeypatch):
    world = World()
    of_any = [each.digest for each in Property.objects.all()]
    there = Property.is_secret

    def is_any(self, secret):
        return any(there(Property(digest=each), secret) for each in of_any)

    monkeypatch.setattr(Property, "is_secret", is_any)
    assert caught(world, "secret of another property")


def test_teeth_a_property_that_is_disabled_in_vain(monkeypatch):
    def always_active(cls, db, names, values):
        row = super(Property, cls).from_db(db, names, values)
        row.active = True
        return row

    world = World()
    monkeypatch.setattr(Property, "from_db", classmethod(always_active))
    properties.forget()
    assert {"GET customer", "POST events", "POST identities"} <= {
        *caught(world, "disabled property")
    }


def test_teeth_a_queryset_that_does_not_ask_of_which_property(monkeypatch):
    world = World()
    unfiltered(monkeypatch, "property")
    found = caught(world, "own secret")
    assert {"GET customer", "POST identities"} <= found.keys()


def test_teeth_a_hit_of_whoever_goes_by_a_name_anywhere(monkeypatch):
    world = World()
    statement = hits._statement

    def of_any(*shape):
        text = statement(*shape)
        return text.replace("i.property_id = %s AND", "(i.property_id = %s OR 1 = 1) AND")

    monkeypatch.setattr(hits, "_statement", of_any)
    assert caught(world, "no secret")["POST events of a page"] == "changes what is another's"


def test_teeth_events_of_any_property(monkeypatch):
    ask, world = properties._known._ask, World()
    every = {f"{each}s-event": 1 for each in OWNERS}

    def with_every_event(public_key):
        found = ask(public_key)
        return found and found._replace(event_types=every)

    monkeypatch.setattr(properties._known, "_ask", with_every_event)
    properties.forget()
    assert caught(world, "no secret") == {"POST events": "is answered 201 about berts"}
