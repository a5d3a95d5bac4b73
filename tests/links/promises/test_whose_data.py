"""Whose data: every operation of the API, and the router's JSON, by everybody who might ask."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from django.db import transaction
from django.test import Client

from affiliations.access import Right
from affiliations.links import access, api_urls, routing, services
from affiliations.links.api import api
from affiliations.links.models import LandingPage, Link, Transaction
from affiliations.links.querysets import LinkQuerySet, TransactionQuerySet
from affiliations.models import ApiKey, Callback, Conversion
from tests.core.factories import make_partner, make_user
from tests.links.factories import SCOPES, make_key, make_link, make_transaction
from tests.rest.callers import documented, make_staff, rights, written

pytestmark = pytest.mark.django_db

ROUTER = "GET /router/{path}"


class Target(NamedTuple):
    """What a call is about: somebody's, or nobody's."""

    path: str
    item_id: str
    user_id: int
    ident: str
    order_id: str


def of_user(target: Target) -> dict[str, Any]:
    return {"item_id": target.item_id, "user_id": target.user_id}


NOBODYS = "Nobodys1", "nobodys-item", "n" * 22, "nobodys-order"
#: What each operation is sent, to do something to a target; a new one fails until it stands here.
CALLS: dict[str, Callable[[Target], Any]] = {
    "GET /list": lambda target: None,
    "POST /generate": lambda target: {
        "item_id": target.item_id,
        "MarketingLandingPage": "http://testserver/made",
    },
    "DELETE /delete": lambda target: {"UniquePath": target.path},
    "DELETE /delete/{path}": lambda target: None,
    "POST /acquire": lambda target: {
        "anonymous_ident": target.ident,
        "user_id": target.user_id,
    },
    "POST /validate-item-id": of_user,
    "POST /fulfill": of_user,
    "POST /complete": lambda target: {**of_user(target), "AmountPaid": "5"},
    "POST /complete again": lambda target: {
        **of_user(target),
        "AmountPaid": "7",
        "item_id": f"{target.item_id}-sold",
        "order_id": target.order_id,
    },
    "POST /complete for less": lambda target: {
        **of_user(target),
        "AmountPaid": "6",
        "item_id": f"{target.item_id}-sold",
        "order_id": target.order_id,
    },
    "POST /refund": lambda target: {**of_user(target), "item_id": f"{target.item_id}-sold"},
    "GET /{path}": lambda target: None,
    ROUTER: lambda target: None,
}
#: What comes of it where it is allowed.
ALLOWED = {"POST /generate": 201, "DELETE /delete": 204, "DELETE /delete/{path}": 204}
ALLOWED |= {"POST /complete for less": 409}


def right(operation: str) -> Right:
    """Return what an operation asks for, as the API has it."""
    found = rights(api).get(" ".join(operation.split()[:2]), access.READ)
    assert found is not None, operation
    return found


class World:
    """Two partners and the house, each with links and clicks, and everybody who might call."""

    def __init__(self) -> None:
        routing.forget_all()
        self.partners: dict[str, Any] = {name: make_partner(name=name) for name in ("anna", "bert")}
        self.partners["house"] = None
        self.targets = {name: self.settle(name) for name in self.partners}
        path, item_id, ident, order_id = NOBODYS
        self.missing = Target(path, item_id, self.targets["anna"].user_id, ident, order_id)
        self.keys = {name: make_key(partner) for name, partner in self.partners.items()}
        self.keys["revoked"] = make_key(self.partners["anna"])
        ApiKey.objects.order_by("-pk").first().revoke()

    def settle(self, name: str) -> Target:
        """Give a partner a link, a click of a browser's, one of a user's, and a sold item."""
        partner, user = self.partners[name], make_user(f"{name}s-user")
        link = make_link(path=f"{name}s-path", item_id=f"{name}s-item", partner=partner)
        ident = name[0] * 22
        make_transaction(link, ident=ident)
        make_transaction(link, user=user)
        sold = make_link(path=f"{name}s-sold", item_id=f"{name}s-item-sold", partner=partner)
        make_transaction(sold, user=user)
        services.complete(item_id=sold.item_id, user=user, amount=7, order_id=f"{name}s-order")
        return Target(link.path, link.item_id, user.pk, ident, f"{name}s-order")

    def call(self, operation: str, target: Target, who: str) -> Any:
        """Do something to a target as somebody; return the answer."""
        client = Client(raise_request_exception=False)
        method, path = operation.split()[:2]
        headers = {"accept": "application/json"}
        if who in self.keys:
            headers["authorization"] = f"Bearer {self.keys[who]}"
        elif who == "without scope":
            scopes = [scope for scope in SCOPES if scope != right(operation).scope]
            token = make_key(self.partners["anna"], scopes)
            headers["authorization"] = f"Bearer {token}"
        elif who != "anonymous":
            client.force_login(self.user(operation, who))
        address = path.replace("{path}", target.path)
        if operation != ROUTER:
            address = f"/api/links{address}"
        sent = CALLS[operation](target)
        call = getattr(client, method.lower())
        if sent is None:
            return call(address, headers=headers)
        return call(address, json.dumps(sent), content_type="application/json", headers=headers)

    def user(self, operation: str, who: str) -> Any:
        """Return a user who may log in to the admin, and with what the operation asks for."""
        user = make_staff(right(operation), holds=who != "staff without")
        user.is_staff = who != "no staff"
        user.save()
        return user


def rows() -> str:
    """Return all that a call might change, as text."""
    return written((Link, LandingPage, Transaction, Conversion, Callback))


def told(answer: Any, target: Target) -> str:
    """Return what somebody is told, without what they have said themselves."""
    text = f"{answer.status_code} {answer.headers['Content-Type']} {answer.content.decode()}"
    return text.replace(target.path, "PATH").replace(target.item_id, "ITEM")


def crossed(operation: str, whose: str = "anna") -> str:
    """Say how a partner's key gets at what is another's, "" where it does not."""
    world = World()
    target = world.targets[whose]
    before = rows()
    foreign = world.call(operation, target, "bert")
    after = rows()
    if operation == "POST /generate":
        # There is nothing of anybody's in it: what is made is Bert's.
        made = Link.objects.get(landing_page="http://testserver/made")
        return "" if made.partner == world.partners["bert"] else "made another's"
    if before != after:
        return "changed"
    if f"{whose}s" in foreign.content.decode():
        return "told"
    missing = world.call(operation, world.missing, "bert")
    return "" if told(foreign, target) == told(missing, world.missing) else "another answer"


def test_every_operation_is_here():
    assert {" ".join(operation.split()[:2]) for operation in CALLS} == {ROUTER, *documented(api)}
    # And nothing is mounted that is not documented.
    mounted = {each.name for each in api_urls.urlpatterns} - {"openapi", "docs", "api-root", None}
    views = {
        operation.view_func.__name__
        for router in api._get_bound_routers()
        for view in router.path_operations.values()
        for operation in view.operations
    }
    assert mounted == views
    assert rights(api).keys() == documented(api)


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("whose", ["anna", "house"])
def test_no_partner_gets_at_what_is_anothers(operation, whose):
    assert crossed(operation, whose) == ""


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize(
    ("who", "status"),
    [
        ("anonymous", 401),
        ("revoked", 401),
        ("without scope", 401),
        ("no staff", 401),
        ("staff without", 403),
    ],
)
def test_who_may_not_is_refused_and_changes_nothing(operation, who, status):
    world = World()
    before = rows()
    answers = [world.call(operation, each, who) for each in (world.targets["anna"], world.missing)]
    assert rows() == before
    assert {answer.status_code for answer in answers} == {status}
    # Nor does a refusal tell what there is.
    assert answers[0].content == answers[1].content
    assert b"annas" not in answers[0].content


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("who", ["anna", "house", "staff with"])
def test_who_may_gets_what_they_ask_for(operation, who):
    world = World()
    before, annas = rows(), world.targets["anna"]
    answer = world.call(operation, annas, who)
    assert answer.status_code == ALLOWED.get(operation, 200), answer.content
    reads = {"GET", "POST /validate-item-id", "POST /complete again", "POST /complete for less"}
    changes = operation.split()[0] not in reads and operation not in reads
    assert (rows() != before) is changes
    if operation == "GET /list":
        paths = {each["UniquePath"] for each in answer.json()["links"]}
        owners = ["anna"] if who == "anna" else world.partners
        assert paths == {f"{name}s-{kind}" for name in owners for kind in ("path", "sold")}
    if operation == "POST /validate-item-id":
        assert answer.json() == {"valid": True}
    if operation == "POST /generate":
        made = Link.objects.get(landing_page="http://testserver/made")
        assert made.partner == (world.partners["anna"] if who == "anna" else None)


def test_teeth_querysets_that_do_not_ask_whose(monkeypatch):
    monkeypatch.setattr(LinkQuerySet, "for_partner", lambda self, partner: self)
    monkeypatch.setattr(TransactionQuerySet, "for_partner", lambda self, partner: self)
    found = {}
    for operation in CALLS:
        with transaction.atomic():
            found[operation] = crossed(operation)
            transaction.set_rollback(True)
    # All but what makes a new link.
    assert {operation for operation, what in found.items() if not what} == {"POST /generate"}
    assert set(found.values()) >= {"changed", "told", "another answer"}


def test_teeth_a_key_whose_scope_nobody_looks_at(monkeypatch):
    authenticate = ApiKey.objects.authenticate

    def any_scope(token, *, scope):
        return next(authenticate(token, scope=each) for each in SCOPES if each != scope)

    monkeypatch.setattr(ApiKey.objects, "authenticate", any_scope)
    world = World()
    answer = world.call("GET /list", world.targets["anna"], "without scope")
    assert answer.status_code == 200
