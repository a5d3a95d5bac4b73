"""Row I7 of the promises: every address of the API, with every method, by everybody who might ask.

Nothing in it is any partner's or member's own: whoever has the scope or the permission sees all of
it, and nobody else any of it, nor whether it is there. Members' own pages are in test_whose_pages.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import pytest
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from django.test import Client

from affiliations import access
from affiliations.access import Right
from affiliations.models import ApiKey
from affiliations.problems import MEDIA_TYPE
from affiliations.referrals import api_urls
from affiliations.referrals.api import api
from tests.core.factories import make_partner, make_user
from tests.referrals.factories import SCOPES, make_key, make_member, make_program
from tests.referrals.rest import MOUNT, ReferralsSender
from tests.rest.callers import documented, make_staff, rights, written

pytestmark = pytest.mark.django_db

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
#: The document, and the page that shows it.
DOCUMENTS = ("openapi.json", "docs")
NOWHERE = "nothing/there"


class Target(NamedTuple):
    """What a call is about: what is there, or what nobody has ever heard of."""

    program: int
    user_hash: str
    email: str


class Call(NamedTuple):
    """What an operation asks for, what it is sent about a target, and what it answers."""

    #: The last words of the scope and of the permission, "" where it is for everybody.
    right: str
    sent: Callable[[Target], Any] = lambda target: None
    allowed: int = 200
    #: What is answered about what is not there.
    missing: int = 404
    reads: bool = False

    @property
    def asks(self) -> Right | None:
        """What it asks for."""
        scope, _, permission = self.right.partition(" ")
        if not scope:
            return None
        return Right(f"referrals:{scope}", f"affiliations_referrals.{permission}", False)


NOTHING = Target(2**62, "nobodys-hash", "nobody@example.com")
#: A new operation fails until it stands here.
CALLS = {
    "GET /": Call("", missing=200, reads=True),
    "GET /health/": Call("", missing=200, reads=True),
    "GET /program/": Call("read view_program", missing=200, reads=True),
    "POST /program/": Call("write add_program", lambda _: {"name": "Made"}, 201, 201),
    "GET /program/{id}/": Call("read view_program", reads=True),
    "PUT /program/{id}/": Call("write change_program", lambda _: {"name": "Changed"}),
    "DELETE /program/{id}/": Call("write delete_program", allowed=204),
    "POST /register/": Call(
        "register add_member",
        lambda target: {"user_indicator": target.user_hash, "user_indicated": "made"},
        201,
    ),
    "PUT /invoice/user/{user_hash}/": Call(
        "register change_member", lambda _: {"total_amount_paid": 100}
    ),
    "GET /statement/{user_hash}/": Call("read view_member", reads=True),
    "POST /emailindication/": Call(
        "register add_emailindication",
        lambda target: {"user_indicator": target.user_hash, "emails": "made@example.com"},
        201,
        412,
    ),
    "POST /emailverification/": Call(
        "read view_emailindication",
        lambda target: {"emails": target.email},
        missing=200,
        reads=True,
    ),
}

INVALID, DENIED = (401, "invalid-api-key"), (403, "permission-denied")
NEEDED = (401, "authentication-required")
#: Everybody who might call, with what they are answered wherever something is asked for; 0 lets
#: them in. No keys expire: one that is to end is revoked.
CALLERS = {
    "anonymous": NEEDED,
    "key": (0, ""),
    "key without the scope": INVALID,
    "key of another app": INVALID,
    "revoked key": INVALID,
    "unknown key": INVALID,
    "key of a partner": DENIED,
    "staff": (0, ""),
    "staff without the token": (403, "csrf-failed"),
    "staff without the permission": DENIED,
    "staff with a revoked key": INVALID,
    "the member": NEEDED,
    "another member": NEEDED,
}


class Asked(NamedTuple):
    """A way to call an address."""

    route: str
    method: str
    who: str

    @property
    def operation(self) -> str:
        """What the document would have it as, with the slash at its end."""
        path = f"/{self.route.removesuffix('/')}/" if self.route else "/"
        return f"{self.method} {path.replace('<', '{').replace('>', '}')}"

    @property
    def call(self) -> Call | None:
        """What is called, None where there is no such operation."""
        return CALLS.get(self.operation)

    @property
    def status(self) -> int:
        """What is to be answered about what is there."""
        forged = self.who == "staff without the token" and self.method not in SAFE
        if self.route == NOWHERE:
            return 404
        if self.route in DOCUMENTS:
            return 403 if forged else 200
        if self.call is None:
            return 405
        refused, _ = CALLERS[self.who]
        if self.call.asks is None or (self.who == "staff without the token" and not forged):
            refused = 0
        return refused or self.call.allowed


class World:
    """Two members, a program that can be deleted, and everybody who might call."""

    def __init__(self) -> None:
        make_program()
        self.users = {who: make_user() for who in ("the member", "another member")}
        bert = make_member(make_member(), user=self.users["the member"])
        make_member(user=self.users["another member"])
        email = "bert@example.com"
        bert.email_indications.create(program=bert.program, email=email)
        self.target = Target(make_program().pk, bert.user_hash, email)
        self.valid, self.revoked = make_key(), make_key()
        ApiKey.objects.order_by("-pk").first().revoke()
        self.of_a_partner = make_key(partner=make_partner())
        self.before = written(ReferralsSender.models)

    def call(self, asked: Asked, target: Target) -> HttpResponse:
        """Call an address about a target; return the answer."""
        # Where nothing is asked for, anything may be.
        right = (asked.call and asked.call.asks) or Right(SCOPES[0], "auth.view_user")
        client = Client(raise_request_exception=False, enforce_csrf_checks=True)
        headers = {"accept": "application/json", **self.headers(asked.who, right.scope)}
        if asked.who in self.users:
            client.force_login(self.users[asked.who])
        elif asked.who.startswith("staff"):
            holds = asked.who != "staff without the permission"
            client.force_login(make_staff(right, holds=holds))
        if asked.who != "staff without the token":
            client.cookies["csrftoken"] = headers["x-csrftoken"] = "t" * 32
        address = asked.route.replace("<id>", str(target.program))
        sent = asked.call.sent(target) if asked.call else None
        return client.generic(
            asked.method,
            f"{MOUNT}/{address.replace('<user_hash>', target.user_hash)}",
            "" if sent is None else json.dumps(sent),
            content_type="application/json",
            headers=headers,
        )

    def headers(self, who: str, scope: str) -> dict[str, str]:
        """Return what somebody sends to be let in."""
        if who == "key":
            token = make_key([scope])
        elif who == "key without the scope":
            token = make_key([each for each in SCOPES if each != scope])
        elif who == "key of another app":
            token = make_key([f"links:{scope.partition(':')[2]}"])
        elif who == "key of a partner":
            token = self.of_a_partner
        elif who == "unknown key":
            token = f"{self.valid[:-1]}!"
        elif who in ("revoked key", "staff with a revoked key"):
            token = self.revoked
        else:
            return {}
        return {"authorization": f"Bearer {token}"}

    def done(self, asked: Asked, target: Target) -> tuple[Any, bool]:
        """Call an address; return the answer, and whether anything changes. It is undone."""
        with transaction.atomic():
            answer = self.call(asked, target)
            changed = written(ReferralsSender.models) != self.before
            transaction.set_rollback(True)
        return answer, changed

    def wrong(self, asked: Asked) -> str:
        """Return what is wrong with an answer, "" where nothing is."""
        answer, changed = self.done(asked, self.target)
        called = asked.call
        if answer.status_code != asked.status:
            return f"is answered {answer.status_code}"
        if called is None or answer.status_code >= 400:
            if changed:
                return "changes something"
            return self.wrongly_refused(asked, answer) if called else ""
        if changed == called.reads:
            return "changes something" if changed else "changes nothing"
        answer, changed = self.done(asked, NOTHING)
        if answer.status_code != called.missing or (changed and called.missing >= 400):
            return f"is answered {answer.status_code} about what is not there"
        return ""

    def wrongly_refused(self, asked: Asked, answer: Any) -> str:
        """Return what is wrong with a refusal: it tells why, and not what there is."""
        _, code = CALLERS[asked.who]
        if (said := answer.json()["code"]) != code:
            return f"is refused as {said}"
        kept = (answer["Content-Type"], answer["Cache-Control"])
        if kept != (MEDIA_TYPE, "private, no-store"):
            return f"is refused by {kept}"
        missing, changed = self.done(asked, NOTHING)
        same = (missing.status_code, missing.content) == (answer.status_code, answer.content)
        told = self.target.user_hash.encode() in answer.content
        return "tells or changes something" if told or changed or not same else ""


def routes(patterns: Sequence[Any] = tuple(api_urls.urlpatterns)) -> list[str]:
    """Return what is mounted, and in the place of what takes all other addresses one of these."""
    *named, rest = patterns
    assert rest.callback == api_urls.urlpatterns[-1].callback
    return [*(str(each.pattern) for each in named), NOWHERE]


def unknown(mounted: Sequence[str]) -> set[str]:
    """Return what is mounted and does not stand in the table, or the other way round."""
    paths = {Asked(route, "", "").operation.strip() for route in mounted}
    said = {Asked(route, "", "").operation.strip() for route in (*DOCUMENTS, NOWHERE)}
    return paths ^ {each.partition(" ")[2] for each in CALLS} ^ said


def faults(who: str) -> dict[Asked, str]:
    """Return all that is wrong with what somebody is answered, at any address by any method."""
    world = World()
    ways = [Asked(route, method, who) for route in routes() for method in METHODS]
    return {asked: what for asked in ways if (what := world.wrong(asked))}


def caught(world: World, who: str) -> set[str]:
    """Return the operations of which something is wrong with what somebody is answered."""
    ways = [Asked(route, method, who) for route in routes() for method in METHODS]
    known = {asked.operation: asked for asked in ways if asked.call}
    return {operation for operation, asked in known.items() if world.wrong(asked)}


@pytest.fixture(autouse=True)
def _made_once(monkeypatch):
    """Make the document once: that takes longer than all else that a call does."""
    monkeypatch.setattr(api, "get_openapi_schema", cache(api.get_openapi_schema))


def test_every_route_is_here():
    assert unknown(routes()) == set()
    assert documented(api) == CALLS.keys()
    assert rights(api) == {operation: call.asks for operation, call in CALLS.items()}


def test_teeth_a_route_that_is_new_or_gone():
    assert unknown([*routes(), "member/<id>/"]) == {"/member/{id}/"}
    assert unknown([each for each in routes() if "register" not in each]) == {"/register/"}


@pytest.mark.parametrize("who", CALLERS)
def test_everybody_is_answered_what_is_theirs(who):
    assert faults(who) == {}


# What each of them finds if it is missing

ASKING = {operation for operation, call in CALLS.items() if call.asks}


@pytest.mark.parametrize("operation", sorted(ASKING))
def test_teeth_an_operation_that_asks_for_nothing(monkeypatch, operation):
    for router in api._get_bound_routers():
        for path, view in router.path_operations.items():
            for each in view.operations:
                if operation in {f"{method} {path}" for method in each.methods}:
                    monkeypatch.setattr(each, "auth_callbacks", [])
    assert caught(World(), "anonymous") == {operation}


def let_in_any_scope(monkeypatch):
    authenticate = ApiKey.objects.authenticate

    def any_scope(token, *, scope):
        return next(authenticate(token, scope=each) for each in SCOPES if each != scope)

    monkeypatch.setattr(ApiKey.objects, "authenticate", any_scope)


def let_in_partners(monkeypatch):
    caller = access.caller
    monkeypatch.setattr(
        access, "caller", lambda request, right: caller(request, right._replace(of_partners=True))
    )


def let_in_all_staff(monkeypatch):
    monkeypatch.setattr("django.contrib.auth.models.User.has_perm", lambda self, perm: True)


def ask_no_token(monkeypatch):
    monkeypatch.setattr(access, "_forged", lambda request: "")


def compare_nothing(monkeypatch):
    monkeypatch.setattr("affiliations.models.keys.constant_time_compare", lambda a, b: True)


def mind_no_revocation(monkeypatch):
    monkeypatch.setattr(ApiKey, "from_db", classmethod(never_revoked))


def never_revoked(cls, db, names, values):
    row = super(ApiKey, cls).from_db(db, names, values)
    row.revoked_on = None
    return row


@pytest.mark.parametrize(
    ("damage", "who", "operations"),
    [
        (let_in_any_scope, "key without the scope", ASKING),
        (let_in_partners, "key of a partner", ASKING),
        (let_in_all_staff, "staff without the permission", ASKING),
        (ask_no_token, "staff without the token", {e for e in ASKING if not e.startswith("GET")}),
        (compare_nothing, "unknown key", ASKING),
        (mind_no_revocation, "revoked key", ASKING),
        (mind_no_revocation, "staff with a revoked key", ASKING),
    ],
)
def test_teeth_who_may_not_is_let_in(monkeypatch, damage, who, operations):
    world = World()
    damage(monkeypatch)
    assert caught(world, who) == operations


def unfiltered(monkeypatch, *names):
    """Have no queryset ask for what these name."""
    there = QuerySet.filter

    def kept(self, *args, **wanted):
        left = {name: wanted[name] for name in wanted if name not in names}
        return there(self, *args, **left)

    monkeypatch.setattr(QuerySet, "filter", kept)


@pytest.mark.parametrize(
    ("name", "what"),
    [("user_hash", "user_hash"), ("pk", "id")],
)
def test_teeth_a_queryset_that_asks_for_nobody(monkeypatch, name, what):
    world = World()
    unfiltered(monkeypatch, name)
    assert {each for each in CALLS if what in each} <= caught(world, "key")
