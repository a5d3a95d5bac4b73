"""Row I7 of the promises: the staff's pages of the tracking, by every method and permission.

Nothing in them is any staff member's own: whoever has the permission sees all of it, and nobody
else any of it, nor whether it is there.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from django import VERSION
from django.contrib import admin
from django.contrib.admin.options import ModelAdmin
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.test import Client
from django.urls import path, reverse

from affiliations.admin.lists import RecordAdmin
from affiliations.tracking.admin.customers import CustomerAdmin
from affiliations.tracking.admin.hits import HitAdmin
from affiliations.tracking.admin.properties import PropertyAdmin
from affiliations.tracking.models import Customer, EventType, Hit, HitKey, Identity, Property
from tests.core.factories import make_user
from tests.referrals.promises.test_whose_data import METHODS, SAFE
from tests.tracking.factories import hit, make_event_type, make_property

pytestmark = pytest.mark.django_db

APP = "affiliations_tracking"
MODELS = (Property, EventType, Customer, Identity, Hit, HitKey)
NOTHING = 2**40
WORDS = ("annas-shop", "annas-name", "annas.example", "ANNAS")


class Page(NamedTuple):
    """Which permissions for its model let somebody see a page, and do what it is there for."""

    seen: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    #: What is posted to it, and what is answered to whoever may.
    sent: dict[str, Any] = {}
    status: int = 200
    #: What is answered about what is not there, to whoever may see it.
    missing: int = 302


LOOKED_AT = ("view", "change")
LIST, ONE = Page(LOOKED_AT), Page(LOOKED_AT)
NEVER = Page()
OLD = "<path:object_id>/"
CHANGE, DELETE, HISTORY = (f"{OLD}{each}/" for each in ("change", "delete", "history"))
FORM = {"name": "Changed", "active": "on", "origins": "", "keep_days": ""}
RENEW = {"action": "renew", "confirmed": "yes"}
#: By the model and the address; a new page fails until it stands here. None is for everybody: the
#: address that old links have leads on to the page, whoever follows it.
PAGES = {
    ("property", ""): Page(LOOKED_AT, ("change",), RENEW),
    ("property", "add/"): Page(("add",), ("add",), FORM),
    ("property", HISTORY): ONE,
    # Whether one can be deleted depends on it.
    ("property", DELETE): Page(("delete",), ("delete",), {"post": "yes"}, 302, 403),
    ("property", CHANGE): Page(LOOKED_AT, ("change",), FORM, 302),
    ("property", OLD): None,
    **{
        (name, route): page
        for name in ("customer", "hit")
        for route, page in {
            "": LIST,
            "add/": NEVER,
            HISTORY: ONE,
            DELETE: NEVER,
            CHANGE: ONE,
            OLD: None,
        }.items()
    },
}
#: Everybody who might ask, with their permissions for the model.
CALLERS = {
    "anonymous": (),
    "no staff": ("view", "add", "change", "delete"),
    "staff": (),
    "staff of other pages": (),
    "staff who view": ("view",),
    "staff who add": ("add",),
    "staff who change": ("change",),
    "staff who delete": ("delete",),
    "staff without the token": ("view", "add", "change", "delete"),
}
OUTSIDE = ("anonymous", "no staff")


class Asked(NamedTuple):
    """A way to ask for a page."""

    model: str
    route: str
    method: str
    who: str
    there: bool = True

    @property
    def page(self) -> Page | None:
        """What is asked for."""
        return PAGES[self.model, self.route]

    @property
    def is_of_one(self) -> bool:
        """Whether the address names something."""
        return "<" in self.route

    def may(self, permissions: tuple[str, ...]) -> bool:
        """Tell whether whoever asks has one of some permissions."""
        held = () if self.who in OUTSIDE else CALLERS[self.who]
        return bool({*held} & {*permissions})

    @property
    def does(self) -> bool:
        """Whether something is to be done."""
        page = self.page
        can = page is not None and self.method == "POST" and self.may(page.done)
        return can and self.there and "token" not in self.who

    @property
    def status(self) -> int:
        """What is to be answered."""
        page = self.page
        if "token" in self.who and self.method not in SAFE:
            return 403
        if self.who in OUTSIDE:
            return 302
        if page is None:
            return 405 if self.method == "TRACE" else 302
        # A list is shown, and a history, whatever is posted to it.
        posts = self.method == "POST" and self.route not in ("", HISTORY)
        if not self.may(page.done if posts else page.seen):
            # Since 6.1 Django looks first whether it is there, for whoever may see it.
            tells = VERSION >= (6, 1) and self.route == CHANGE and self.may(page.seen)
            return page.missing if tells and not self.there else 403
        if not self.there:
            return page.missing
        return page.status if self.does else 200


class World:
    """What there is of each kind, and everybody who might ask."""

    def __init__(self) -> None:
        shop = make_property(name="annas-shop", public_key="ANNAS")
        make_event_type(shop, name="annas-event")
        hit(make_property(), "client:annas-name", url="https://annas.example/")
        found = {"property": shop, "customer": Customer.objects.get(), "hit": Hit.objects.get()}
        self.targets = {model: row.pk for model, row in found.items()}
        self.sessions = {}
        for who, held in CALLERS.items():
            for model in self.targets:
                client = Client()
                if who != "anonymous":
                    client.force_login(self.with_permissions(who, model, held))
                self.sessions[who, model] = client.cookies
        self.before = self.rows()

    def with_permissions(self, who: str, model: str, held: tuple[str, ...]) -> User:
        """Return a user with some permissions for a model, or all for the others."""
        user = make_user()
        user.is_staff = who not in OUTSIDE
        user.save()
        allowed = Permission.objects.filter(content_type__app_label=APP)
        if who == "staff of other pages":
            user.user_permissions.set(allowed.exclude(content_type__model=model))
        else:
            user.user_permissions.set(allowed.filter(codename__in=[f"{e}_{model}" for e in held]))
        return user

    def rows(self) -> list[Any]:
        """Return all that a page might change."""
        return [list(each.objects.order_by("pk").values()) for each in MODELS]

    def ask(self, asked: Asked) -> Any:
        """Ask for a page; return the answer."""
        client = Client(raise_request_exception=False, enforce_csrf_checks=True)
        client.cookies.update(self.sessions[asked.who, asked.model])
        headers = {}
        if "token" not in asked.who:
            client.cookies["csrftoken"] = headers["x-csrftoken"] = "t" * 32
        pk = self.targets[asked.model] if asked.there else NOTHING
        mount = reverse(f"admin:{APP}_{asked.model}_changelist")
        address = f"{mount}{asked.route.replace('<path:object_id>', str(pk))}"
        if asked.method != "POST":
            return client.generic(asked.method, address, headers=headers)
        sent = dict(asked.page.sent) if asked.page else {}
        if "action" in sent:
            sent["_selected_action"] = pk
        return client.post(address, sent, headers=headers)

    def done(self, asked: Asked) -> tuple[Any, bool]:
        """Ask for a page; return the answer, and whether anything changes. It is undone."""
        with transaction.atomic():
            answer = self.ask(asked)
            changed = self.rows() != self.before
            transaction.set_rollback(True)
        return answer, changed

    def told(self, asked: Asked) -> tuple[int, str, str]:
        """Return all of an answer that tells whether what an address names is there."""
        answer, _ = self.done(asked)
        named = f"/{self.targets[asked.model] if asked.there else NOTHING}/"
        target = answer.headers.get("Location", "").replace(named, "/PK/")
        return answer.status_code, target, answer.content.decode().replace(named, "/PK/")

    def wrong(self, asked: Asked) -> str:
        """Return what is wrong with an answer, "" where nothing is."""
        answer, changed = self.done(asked)
        if answer.status_code != asked.status:
            return f"is answered {answer.status_code}"
        if changed != asked.does:
            return "changes something" if changed else "changes nothing"
        text = answer.content.decode()
        shown = [each for each in WORDS if each in text]
        page = asked.page
        sees = page and asked.there and (asked.may(page.seen) or asked.does)
        if shown and not sees:
            return f"tells of {shown}"
        reads = asked.method == "GET" and asked.route not in ("add/", HISTORY)
        if reads and answer.status_code == 200 and not shown:
            return "tells nothing"
        if not (asked.is_of_one and asked.there) or asked.method not in ("GET", "POST"):
            return ""
        if page and asked.may((*page.seen, *page.done)):
            return ""
        same = self.told(asked) == self.told(asked._replace(there=not asked.there))
        return "" if same else "tells what is there"


def pages() -> set[tuple[str, str]]:
    """Return the pages that are mounted: of every model's admin, its own ones as well."""
    return {
        (model._meta.model_name, str(each.pattern))
        for model, registered in admin.site._registry.items()
        if model._meta.app_label == APP
        for each in registered.urls
    }


def ways(who: str, methods: Iterable[str] = METHODS) -> list[Asked]:
    """Return every way in which somebody may ask."""
    return [
        Asked(model, route, method, who, there)
        for model, route in PAGES
        for method in methods
        # By the other methods a page is shown as by GET, or it is not.
        for there in ((True, False) if "<" in route and method in ("GET", "POST") else (True,))
    ]


def faults(world: World, asked: Iterable[Asked]) -> dict[Asked, str]:
    """Return all that is wrong with what is answered."""
    return {each: what for each in asked if (what := world.wrong(each))}


def caught(world: World, who: str) -> set[tuple[str, str]]:
    """Return the pages of which something is wrong with what somebody is answered."""
    return {(each.model, each.route) for each in faults(world, ways(who, ("GET", "POST")))}


def test_every_page_is_here():
    assert pages() == PAGES.keys()


def test_teeth_a_page_that_is_new(monkeypatch):
    there = HitAdmin.get_urls

    def one_more(self):
        return [path("export/", self.changelist_view), *there(self)]

    monkeypatch.setattr(HitAdmin, "get_urls", one_more)
    assert pages() - PAGES.keys() == {("hit", "export/")}


@pytest.mark.parametrize("who", CALLERS)
def test_everybody_is_answered_what_is_theirs(who):
    assert faults(World(), ways(who)) == {}


# What each of them finds if it is missing


def let_in_all_staff(monkeypatch):
    monkeypatch.setattr(User, "has_perm", lambda self, perm, obj=None: True)


def ask_no_permission_to_act(monkeypatch):
    monkeypatch.setattr(PropertyAdmin, "has_act_permission", lambda self, request: True)


def ask_no_permission_to_change(monkeypatch):
    monkeypatch.setattr(
        PropertyAdmin, "has_change_permission", lambda self, request, obj=None: True
    )


def ask_no_permission_to_look(monkeypatch):
    for each in (CustomerAdmin, HitAdmin):
        monkeypatch.setattr(each, "has_view_permission", lambda self, request, obj=None: True)


def ask_only_about_what_is_there(monkeypatch):
    """As Django does before it shows a history: whoever is led elsewhere knows what is not."""
    there = ModelAdmin.has_view_or_change_permission

    def has_permission(self, request, obj=None):
        return obj is None or there(self, request, obj)

    monkeypatch.setattr(RecordAdmin, "has_view_or_change_permission", has_permission)


SHOWN = ("", HISTORY, CHANGE)


@pytest.mark.parametrize(
    ("damage", "who", "found"),
    [
        (let_in_all_staff, "staff", {each for each in PAGES if PAGES[each] not in (None, NEVER)}),
        (ask_no_permission_to_act, "staff who view", {("property", "")}),
        (ask_no_permission_to_change, "staff who view", {("property", CHANGE)}),
        (
            ask_no_permission_to_look,
            "staff of other pages",
            {(model, route) for model, route in PAGES if route in SHOWN and model != "property"},
        ),
        (ask_only_about_what_is_there, "staff", {each for each in PAGES if each[1] in SHOWN}),
    ],
)
def test_teeth_who_may_not_is_let_in(monkeypatch, damage, who, found):
    world = World()
    damage(monkeypatch)
    assert caught(world, who) == found
