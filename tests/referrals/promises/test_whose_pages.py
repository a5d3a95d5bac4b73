"""Row I7 of the promises: members' pages, with every method, by everybody who might ask.

Whose page it is no address says, only the login; and the link in a mail is for whoever has it.
"""

from inspect import unwrap
from typing import Any, NamedTuple

import pytest
from django.db import transaction
from django.test import Client
from django.urls import path

from affiliations.referrals import invoices, sharing, urls, views
from affiliations.referrals.indications import invite
from affiliations.referrals.models import EmailIndication, MailRefusal, Member, Operation
from tests.core.factories import make_user
from tests.referrals.factories import euros, make_member, make_program
from tests.referrals.promises.test_whose_data import METHODS, SAFE, unfiltered
from tests.rest.callers import written

pytestmark = pytest.mark.django_db

MOUNT = "/friends/"
MODELS = (Member, Operation, EmailIndication, MailRefusal)
#: What each page answers to GET and HEAD, and to POST, of whoever is who they should be.
PAGES = {"": (200, 302), "by/<str:code>/": (302, 405), "stop/<str:token>/": (200, 200)}
INVITE, FOLLOW, STOP = PAGES
MEMBERS = ("anna", "bert")
#: Everybody who might ask. Of them the last two are nobody as far as the page of members goes.
CALLERS = (*MEMBERS, "anna without the token", "anonymous", "anonymous without the token")
NOBODY = CALLERS[3:]


class Asked(NamedTuple):
    """A way to ask for a page: the addresses that name something name Bert's, or nothing."""

    route: str
    method: str
    who: str
    there: bool = True

    @property
    def status(self) -> int:
        """What is to be answered."""
        reads, posts = PAGES[self.route]
        forged = "without the token" in self.who and self.method not in SAFE
        # For whoever clicks in a mail there is no token, and a program posts it.
        if forged and self.route != STOP:
            return 403
        if self.route == INVITE and self.who in NOBODY:
            return 302
        return {"GET": reads, "HEAD": reads, "POST": posts}.get(self.method, 405)

    @property
    def changes(self) -> bool:
        """Whether anything is to be different afterwards."""
        if self.method != "POST" or self.status >= 400:
            return False
        return self.there if self.route == STOP else self.who in MEMBERS


class World:
    """Two members who have each invited somebody, and have each brought and earned something."""

    def __init__(self) -> None:
        make_program(reward_minor=1700)
        self.members = {name: make_member(user=make_user(f"{name}s-user")) for name in MEMBERS}
        for number, (name, member) in enumerate(self.members.items(), start=2):
            invite(member, [f"{name}s-friend@example.com"], f"http://testserver/{name}s-link")
            for _ in range(number):
                invoices.report_total(make_member(member), euros(100))
        self.token = EmailIndication.objects.get(indicator=self.members["bert"]).token
        self.before = written(MODELS)

    def words(self, name: str) -> list[str]:
        """Return what tells of a member: nobody else is to read it."""
        member = self.members[name]
        mine = [member.code, member.user_hash, f"{name}s-friend", f"{name}s-user", f"{name}s-link"]
        return [*mine, {"anna": "34.00 EUR", "bert": "51.00 EUR"}[name]]

    def ask(self, asked: Asked) -> Any:
        """Ask for a page; return the answer."""
        client = Client(raise_request_exception=False, enforce_csrf_checks=True)
        name = asked.who.split()[0]
        if name in MEMBERS:
            client.force_login(self.members[name].user)
        headers = {}
        if "without the token" not in asked.who:
            client.cookies["csrftoken"] = headers["x-csrftoken"] = "t" * 32
        code, token = self.members["bert"].code, self.token
        if not asked.there:
            code, token = code[::-1], token[::-1]
        address = asked.route.replace("<str:code>", code).replace("<str:token>", token)
        kind = "application/x-www-form-urlencoded"
        body = "emails=new%40example.com" if asked.method == "POST" else ""
        return client.generic(asked.method, f"{MOUNT}{address}", body, kind, headers=headers)

    def wrong(self, asked: Asked) -> str:
        """Return what is wrong with an answer, "" where nothing is; whatever it did is undone."""
        with transaction.atomic():
            answer = self.ask(asked)
            changed = written(MODELS) != self.before
            whose = [*EmailIndication.objects.filter(email="new@example.com")]
            refused = MailRefusal.objects.count()
            transaction.set_rollback(True)
        if answer.status_code != asked.status:
            return f"is answered {answer.status_code}"
        if changed != asked.changes:
            return "changes something" if changed else "changes nothing"
        name = asked.who.split()[0]
        if any(self.members.get(name) != each.indicator for each in whose):
            return "changes another's"
        if refused > (asked.route == STOP):
            return "changes another's"
        text = answer.content.decode()
        for other in {*MEMBERS} - {name}:
            if any(word in text for word in self.words(other)):
                return f"tells of {other}"
        shown = asked.route == INVITE and asked.method == "GET" and name in MEMBERS
        if shown and "without" not in asked.who:
            mine = [word for word in self.words(name) if word in text]
            # By which names and hashes others know them is not on the page.
            if len(mine) < 3:
                return f"tells only {mine}"
        return ""

    def told(self, asked: Asked) -> tuple[Any, ...]:
        """Return all of an answer that tells whether what an address names is there."""
        with transaction.atomic():
            answer = self.ask(asked)
            transaction.set_rollback(True)
        return answer.status_code, answer.content, answer.headers.get("Location")


def faults(world: World, who: str, routes: Any = PAGES, methods: Any = METHODS) -> dict[Asked, str]:
    """Return all that is wrong with what somebody is answered."""
    ways = [
        Asked(route, method, who, there)
        for route in routes
        for method in methods
        for there in ((True,) if route == INVITE else (True, False))
    ]
    return {asked: what for asked in ways if (what := world.wrong(asked))}


def unknown(patterns: Any) -> set[str]:
    """Return the pages that are mounted and do not stand in the table, or the other way round."""
    return {str(each.pattern) for each in patterns} ^ PAGES.keys()


def test_every_page_is_here():
    assert unknown(urls.urlpatterns) == set()
    assert unknown([*urls.urlpatterns, path("of/<int:pk>/", views.invite)]) == {"of/<int:pk>/"}


@pytest.mark.parametrize("who", CALLERS)
def test_everybody_sees_and_changes_what_is_theirs(who):
    assert faults(World(), who) == {}


@pytest.mark.parametrize("route", [FOLLOW, STOP])
@pytest.mark.parametrize("who", CALLERS)
def test_what_is_not_there_looks_like_what_is_anothers(who, route):
    world = World()
    for method in ("GET", "HEAD", "PUT"):
        there, missing = (world.told(Asked(route, method, who, each)) for each in (True, False))
        assert there == missing


# What each of them finds if it is missing


@pytest.mark.parametrize(
    ("name", "who", "expected"),
    [
        ("indicator", "anna", "tells of bert"),
        ("user", "bert", "tells of anna"),
        ("token", "anonymous", "changes something"),
    ],
)
def test_teeth_a_queryset_that_asks_for_nobody(monkeypatch, name, who, expected):
    world = World()
    unfiltered(monkeypatch, name)
    assert expected in faults(world, who, methods=("GET", "POST")).values()


def test_teeth_a_page_that_asks_for_no_login(monkeypatch):
    def first(user):
        return Member.objects.get(user__username="annas-user")

    monkeypatch.setattr(sharing, "member_of", first)
    monkeypatch.setattr(urls.urlpatterns[0], "callback", unwrap(views.invite))
    found = faults(World(), "anonymous", routes=[INVITE])
    assert found[Asked(INVITE, "GET", "anonymous")] == "is answered 200"


def test_teeth_a_page_of_whoever_the_address_says(monkeypatch):
    """Of another member, as a page would be that takes the member from the address."""
    monkeypatch.setattr(
        sharing, "member_of", lambda user: Member.objects.get(user__username="berts-user")
    )
    found = faults(World(), "anna", routes=[INVITE])
    assert found[Asked(INVITE, "GET", "anna")] == "tells of bert"
    assert found[Asked(INVITE, "POST", "anna")] == "changes another's"
