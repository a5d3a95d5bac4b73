"""One browser, many users: a login keeps the attribution, and the next user never gets it.

A model in plain Python lives through what the site lives through, and says after every step whose
each visit is and which one counts.
"""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

import pytest
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.models import Session
from django.db import transaction
from django.test import Client, override_settings
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from affiliations import services, visits
from affiliations.conf import settings
from affiliations.models import Conversion, Visitor
from affiliations.testing import freeze, refer
from tests.core.factories import make_partner, make_user

USERS = ("ada", "bob", "eve")
SUBSCRIBED = {"User registered": "", "Order placed": ""}
LINKS = st.sampled_from(["", "A", "B"])
when = attrgetter("clicked_on")


@dataclass
class Visit:
    """What the model knows of a visitor."""

    pk: int
    partner: str
    clicked_on: datetime
    owner: str | None
    by_cookie: bool
    in_session: bool = True

    @property
    def known(self):
        return self.in_session or self.by_cookie


def latest(visits):
    return max(visits, key=when, default=None)


class Browser(RuleBasedStateMachine):
    """A browser that several people use, and the model of what the site should know of it."""

    seen: Counter

    def __init__(self):
        super().__init__()
        self.undo = ExitStack()
        self.undo.enter_context(transaction.atomic())
        self.clock = self.undo.enter_context(freeze())
        self.partners = {name: make_partner(SUBSCRIBED, name=name) for name in "AB"}
        for name in USERS:
            make_user(name)
        self.client = Client()
        self.visits: list[Visit] = []
        self.user = None
        self.newcomers = self.orders = 0

    @initialize(cookie=st.booleans())
    def begin(self, cookie):
        self.undo.enter_context(override_settings(AFFILIATE_COOKIE=cookie))

    def teardown(self):
        transaction.set_rollback(True)
        self.undo.close()

    # The model

    def recent(self, visit):
        return visit.clicked_on > self.clock.now - settings.WINDOW

    def counts(self, visit, user):
        """Tell whether a visit may be credited for what `user` does; None is nobody."""
        if user is not None and visit.owner == user:
            return True
        # Who has registered, and not logged in, is nobody still, and in the same session.
        return visit.known and (visit.owner is None or (user is None and visit.in_session))

    def good(self, user):
        """Return the visits that may be credited for what `user` does now."""
        return [each for each in self.visits if self.recent(each) and self.counts(each, user)]

    def expected(self, user):
        """Return the visit that earns what `user` does now: that of the latest click."""
        return latest(self.good(user))

    def claim(self, user):
        """Let the visits of the browser that are nobody's become the user's."""
        for each in self.visits:
            if each.known and each.owner is None and self.recent(each):
                each.owner = user
                self.seen["claimed"] += 1

    def start_session(self, *holding):
        for each in self.visits:
            each.in_session = each in holding

    def log_everybody_out(self):
        self.start_session()
        self.user = None

    def become(self, user):
        """Log in: the session goes on for who was nobody before, and starts anew for another."""
        if self.user not in (None, user):
            self.seen["switched"] += self.expected(self.user) is not None
            self.start_session()
        self.claim(user)
        held = [each for each in self.visits if each.in_session]
        if not held or any(each.owner != user for each in held):
            own = [each for each in self.visits if each.owner == user and self.recent(each)]
            self.start_session(*sorted(own, key=when)[-visits.TRAIL_LENGTH :])
        self.user = user

    # The steps

    def pass_time(self):
        # So that no two clicks are at the same time, but some so close that they are taken for one.
        self.clock.tick(minutes=20)

    def key(self):
        cookie = self.client.cookies.get("sessionid")
        return cookie.value if cookie else ""

    @rule(link=LINKS, days=st.sampled_from([0, 0, 0, 1, 10, 29, 31]))
    def come(self, link, days=0):
        """Come through a partner's link, or without one, as in what looks after every step."""
        self.clock.tick(days=days)
        self.pass_time()
        if link:
            self.follow(link)

    def follow(self, name):
        visitor = refer(self.client, self.partners[name])
        known = [each for each in self.good(self.user) if each.known]
        visit = latest([each for each in known if each.partner == name])
        if visit is None:
            others = [each for each in self.visits if each.pk == visitor.pk]
            assert not others, f"given away: {others}"
            visit = Visit(visitor.pk, name, self.clock.now, self.user, by_cookie=settings.COOKIE)
            self.visits.append(visit)
        self.check_visitor(visitor.pk, visit)
        if visit is not latest(known) or self.clock.now - visit.clicked_on >= visits.SAME_CLICK:
            visit.clicked_on = self.clock.now
        self.start_session(*known, visit)

    @rule(link=LINKS, logs_in=st.booleans())
    def register(self, link, logs_in):
        self.come(link)
        self.newcomers += 1
        name, key = f"newcomer{self.newcomers}", self.key()
        data = {"username": name, "login": str(int(logs_in))}
        assert self.client.post("/signup/", data).status_code == 201
        earns = None  # nobody sent whom somebody who is logged in registers
        if self.user is None:
            self.claim(name)
            earns = self.expected(name)
        self.check_conversion("User registered", earns, name)
        if logs_in:
            self.become(name)
            self.check_key(key)

    @rule(link=LINKS, name=st.sampled_from(USERS))
    def log_in(self, link, name):
        self.come(link)
        key, was = self.key(), self.user
        assert self.client.post("/login/", {"username": name}).status_code == 200
        self.become(name)
        # Whoever logs in again as themselves keeps the session; that is Django's own rule.
        if was != name:
            self.check_key(key)

    @rule()
    def log_out(self):
        self.pass_time()
        self.client.post("/logout/")
        self.log_everybody_out()

    @rule(what=st.sampled_from(["the row", "sessionid", "affiliate_ident"]))
    def lose(self, what):
        self.pass_time()
        if what == "the row":
            Session.objects.all().delete()
        else:
            self.client.cookies.pop(what, None)
        if what != "affiliate_ident":
            self.log_everybody_out()
            return
        for each in self.visits:
            each.by_cookie = False

    @rule(link=LINKS)
    def place_an_order(self, link):
        self.come(link)
        self.orders += 1
        data = {"number": f"N-{self.orders}", "total": "10"}
        assert self.client.post("/order/", data).status_code == 201
        earns = self.expected(self.user)
        self.check_conversion("Order placed", earns, self.user)
        self.seen["credited"] += earns is not None

    # What holds

    def check_conversion(self, trigger, earns, user):
        now = self.clock.now
        found = Conversion.objects.filter(trigger=trigger, created_on=now)
        rows = dict(found.values_list("visitor", "user__username"))
        self.check_visitor(next(iter(rows), None), earns)
        assert rows == ({earns.pk: user} if earns else {})

    def check_visitor(self, pk, expected):
        if pk is None and expected is not None:
            pytest.fail(f"lost: {expected}")
        if pk is not None and (expected is None or pk != expected.pk):
            pytest.fail(f"given away: visitor {pk}, not {expected}")

    def check_key(self, before):
        assert self.key()
        assert self.key() != before, "the session kept its key at a login"
        assert not Session.objects.filter(pk=before).exists()

    @invariant()
    def the_site_knows_what_the_model_knows(self):
        found = self.client.get("/whoami/").json()
        expected = self.expected(self.user)
        assert found["user"] == self.user
        self.check_visitor(found["visitor"], expected)
        rows = Visitor.objects.values_list("pk", "partner__name", "user__username", "clicked_on")
        assert {row[0]: row[1:] for row in rows} == {
            each.pk: (each.partner, each.owner, each.clicked_on) for each in self.visits
        }, "a visit has another owner than it should"
        # What a site without this care would credit: the browser's latest click, whosever it was.
        last = latest([each for each in self.visits if self.recent(each)])
        self.seen["withheld"] += last is not expected


@pytest.fixture(autouse=True)
def site(settings):
    # Sessions end when the test says so.
    settings.SESSION_COOKIE_AGE = 10**9
    # So many steps are taken that what plays no part in them is left out.
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "affiliations.middleware.AffiliateMiddleware",
    ]


def live(runs, steps, **options):
    """Let browsers be used at random; return how often they came to what is of interest."""
    kind = type("Browser", (Browser,), {"seen": Counter()})
    options |= {"max_examples": runs, "stateful_step_count": steps}
    checks = list(HealthCheck)
    chosen = hypothesis_settings(suppress_health_check=checks, deadline=None, **options)
    run_state_machine_as_test(kind, settings=chosen)
    return kind.seen


LONG = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.mark.django_db
@pytest.mark.parametrize(("runs", "steps"), [(30, 25), pytest.param(2000, 50, marks=LONG)])
def test_a_login_keeps_the_attribution_and_the_next_user_never_gets_it(runs, steps):
    seen = live(runs, steps)
    for what in ("claimed", "switched", "credited", "withheld"):
        assert seen[what] > 0, f"nothing was {what} in any run"


def keep_it_in_the_session(monkeypatch):
    """As a site that carries the visitor over the flush between two users."""
    flush = SessionBase.flush
    keys = (settings.SESSION_KEY, visits.trail_key())

    def carrying(session):
        kept = {key: session[key] for key in keys if key in session}
        flush(session)
        session.update(kept)

    monkeypatch.setattr(SessionBase, "flush", carrying)
    monkeypatch.setattr(visits, "identify", visits.identify_newcomer)
    monkeypatch.setattr(Visitor, "counts_for", lambda *args, **kwargs: True)


def give_it_to_whoever_comes(monkeypatch):
    """As a cookie that credits whatever the browser has ever followed."""
    monkeypatch.setattr(Visitor, "counts_for", lambda *args, **kwargs: True)


def lose_it_at_login(monkeypatch):
    """As Django itself loses the session whose user changes."""
    monkeypatch.setattr(SessionBase, "cycle_key", SessionBase.flush)


def leave_it_nameless(monkeypatch):
    """As a site that never learns who its visitors are."""
    monkeypatch.setattr(services, "identify", lambda **kwargs: None)


def keep_the_key(monkeypatch):
    """As a login that lets sessions be fixed."""
    monkeypatch.setattr(SessionBase, "cycle_key", lambda session: None)


VARIANTS = [
    (keep_it_in_the_session, "given away"),
    (give_it_to_whoever_comes, "given away"),
    (lose_it_at_login, "lost"),
    (leave_it_nameless, "lost|owner"),
    (keep_the_key, "kept its key"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("variant", "verdict"), VARIANTS)
def test_the_same_machine_finds_who_loses_it_or_gives_it_away(monkeypatch, variant, verdict):
    variant(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception), match=verdict):
        live(400, 10, derandomize=True, phases=[Phase.generate], database=None)
