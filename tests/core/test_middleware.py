"""The middleware: whom it records, where it sends them, and what it leaves alone."""

from datetime import timedelta
from urllib.parse import quote

import pytest
from django.contrib.sessions.models import Session
from django.core.signing import Signer
from django.db import DatabaseError, connection
from django.http import HttpResponse
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from affiliations import partners, remembered, visits
from affiliations.ident import SALT, of_cookie
from affiliations.middleware import (
    AffiliateMiddleware,
    AffiliateVisitorsRegistrationMiddleware,
    has_consent,
)
from affiliations.models import Callback, Partner, Visitor
from affiliations.testing import assert_not_converted, freeze, refer
from tests.core.factories import make_partner, make_user, make_visitor

pytestmark = pytest.mark.django_db


def whoami(client):
    return client.get("/awhoami/" if client.is_async else "/whoami/").json()


def test_the_predecessors_name_is_the_same_class():
    assert AffiliateVisitorsRegistrationMiddleware is AffiliateMiddleware


# The redirect


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/?affiliate_id={uid}", "/"),
        ("/echo/?affiliate_id={uid}&b=1", "/echo/?b=1"),
        ("/echo/?b=2&affiliate_id={uid}&a=1", "/echo/?b=2&a=1"),
        ("/echo/?b=%C3%A9&b=+&c&&affiliate_id={uid}&d=", "/echo/?b=%C3%A9&b=+&c&&d="),
        ("/echo/?affiliate_id=&affiliate_id={uid}", "/echo/"),
        ("/echo/?x=a|b{{}}^&affiliate_id={uid}", "/echo/?x=a|b{{}}^"),
        ("/echo/?affiliate_id_x=1&affiliate_id={uid}", "/echo/?affiliate_id_x=1"),
    ],
)
def test_all_but_the_affiliate_part_survives_byte_for_byte(given, kept):
    partner = make_partner()
    path, _, query = given.format(uid=partner.uid).partition("?")
    request = RequestFactory().get(path, QUERY_STRING=query)
    request.session = {}
    response = AffiliateMiddleware(lambda request: pytest.fail("the view was run"))(request)
    assert response.status_code == 302
    assert response["Location"] == kept.format()
    assert response.url == response["Location"]
    assert "no-store" in response["Cache-Control"]
    visitor = Visitor.objects.get()
    assert visitor.entry_point == f"http://testserver{kept.format()}"


def test_an_unknown_or_inactive_partner_gets_the_redirect_and_no_visitor(both_clients):
    inactive = make_partner(active=False)
    for uid in (inactive.uid, "unknown1", "", "x", "ä" * 8, "%00" * 8, "A" * 10_000):
        response = both_clients.get(f"/echo/?affiliate_id={uid}&a=1")
        assert (response.status_code, response["Location"]) == (302, "/echo/?a=1")
    assert Visitor.objects.count() == 0
    assert Session.objects.count() == 0
    assert not both_clients.cookies


def test_other_methods_pass_untouched(both_clients):
    partner = make_partner({"Order placed": ""})
    for method in ("post", "put", "patch", "delete", "options"):
        response = getattr(both_clients, method)(f"/echo/?affiliate_id={partner.uid}")
        assert response.status_code == 200
        assert partner.uid in response.content.decode()
    assert Visitor.objects.count() == 0


def test_a_head_request_is_redirected_and_leaves_nothing(both_clients):
    partner = make_partner()
    assert both_clients.head(f"/?affiliate_id={partner.uid}")["Location"] == "/"
    assert Visitor.objects.count() == 0


def test_a_database_that_is_down_does_not_keep_visitors_out(both_clients, monkeypatch, caplog):
    partner = make_partner()

    def down(*args):
        raise DatabaseError("down")

    monkeypatch.setattr(visits, "record", down)
    assert both_clients.get(f"/?affiliate_id={partner.uid}").status_code == 302
    assert "could not be recorded" in caplog.text


def test_a_host_that_is_not_ours_is_refused_as_ever(both_clients):
    partner = make_partner()
    response = both_clients.get(f"/?affiliate_id={partner.uid}", headers={"host": "evil.example"})
    assert response.status_code == 400
    assert Visitor.objects.count() == 0


# The visitor


def test_what_is_kept_of_a_click(both_clients):
    partner = make_partner()
    visitor = refer(
        both_clients,
        partner,
        "/?click_id=c%20%00%261&sub1=a&sub5=%ED%A0%80&sub6=no&sub2=",
        headers={"referer": "https://user:pass@Blog.Example:8443/secret?page=1"},
    )
    assert visitor.click_id == "c &1"
    assert visitor.sub_ids["sub1"] == "a"
    assert set(visitor.sub_ids) == {"sub1", "sub5"}
    assert visitor.referrer_host == "blog.example"
    assert (visitor.user, visitor.successful_on, visitor.ident) == (None, None, "")
    assert whoami(both_clients)["visitor"] == visitor.pk


def test_sub_ids_may_have_the_networks_own_names(both_clients, settings):
    settings.AFFILIATE_SUBID_KEYS = ("aff_sub", "source")
    settings.AFFILIATE_CLICK_ID_KEY = "transaction_id"
    visitor = refer(
        both_clients, make_partner(), "/?aff_sub=1&source=mail&transaction_id=t1&sub1=x"
    )
    assert (visitor.click_id, visitor.sub_ids) == ("t1", {"sub1": "1", "sub2": "mail"})


def test_no_sub_ids_can_make_the_callback_too_long_to_be_sent(both_clients):
    names = ["click_id", *(f"sub{number}" for number in range(1, 6))]
    url = "https://p.example/?v={visitor_id}&" + "&".join(f"{each}={{{each}}}" for each in names)
    query = "&".join(f"{each}={quote(chr(0x1F600) * 300)}" for each in names)
    visitor = refer(both_clients, make_partner({"Order placed": url}), f"/?{query}")
    assert visitor.click_id == chr(0x1F600) * 50
    both_clients.post("/order/", {"number": "A-1", "total": "1"})
    assert Callback.objects.get().state == "pending"


def test_a_long_entry_point_is_cut(both_clients):
    visitor = refer(both_clients, make_partner(), "/?a=" + "x" * 5000)
    assert len(visitor.entry_point) == 2000


def test_a_logged_in_user_is_known_at_once(both_clients):
    make_user("ada")
    both_clients.post("/login/", {"username": "ada"})
    assert refer(both_clients, make_partner()).user.username == "ada"


def test_the_same_partner_again_is_the_same_visitor(both_clients):
    partner = make_partner()
    with freeze() as clock:
        first = refer(both_clients, partner)
        clock.tick(days=3)
        again = refer(both_clients, partner, "/elsewhere/")
        assert again.pk == first.pk
        assert again.clicked_on == clock.now
        assert again.referred_on == first.referred_on
        clock.tick(days=29)
        assert whoami(both_clients)["visitor"] is None  # the session has expired
    assert Visitor.objects.count() == 1


def test_a_click_after_the_window_is_a_new_visitor(both_clients, settings):
    settings.SESSION_COOKIE_AGE = 10**8
    partner = make_partner()
    with freeze() as clock:
        first = refer(both_clients, partner)
        clock.tick(days=30, seconds=1)
        assert whoami(both_clients)["visitor"] is None
        assert refer(both_clients, partner).pk != first.pk


@pytest.mark.parametrize(("policy", "winner"), [("last", 1), ("first", 0)])
def test_the_policy_decides_between_partners(both_clients, settings, policy, winner):
    settings.AFFILIATE_ATTRIBUTION = policy
    with freeze() as clock:
        visitors = []
        for _ in range(2):
            visitors.append(refer(both_clients, make_partner({"Order placed": ""})))
            clock.tick(hours=1)
        assert whoami(both_clients)["visitor"] == visitors[winner].pk
        both_clients.post("/order/", {"number": "A-1", "total": "1"})
    won = Visitor.objects.successful().get()
    assert won == visitors[winner]


def test_back_at_an_earlier_partner_is_that_visitor_again(both_clients):
    one, two = make_partner(), make_partner()
    first = refer(both_clients, one)
    refer(both_clients, two)
    assert refer(both_clients, one).pk == first.pk
    assert whoami(both_clients)["visitor"] == first.pk
    assert Visitor.objects.count() == 2


def test_the_trail_of_a_session_stays_short(both_clients):
    for _ in range(visits.TRAIL_LENGTH + 3):
        newest = refer(both_clients, make_partner())
    assert len(both_clients.session[visits.trail_key()]) == visits.TRAIL_LENGTH
    assert both_clients.session["affiliate_visitor_id"] == newest.pk


# The session


@pytest.mark.parametrize(
    "broken", [10**6, 2**70, -1, 0, "17", "x", True, 1.5, [1], {"pk": 1}, "\0", None]
)
def test_a_session_that_names_no_visitor_is_mended(client, broken):
    session = client.session
    session["affiliate_visitor_id"] = broken
    session["affiliate_visitor_id_trail"] = {"not": "a list"}
    session["cart"] = [1]
    session.save()
    assert client.get("/whoami/").json()["visitor"] is None
    assert dict(client.session) == {"cart": [1]}
    client.post("/order/", {"number": "A-1", "total": "1"})
    assert refer(client, make_partner()).pk == client.session["affiliate_visitor_id"]


def test_a_deleted_visitor_is_mended(both_clients):
    refer(both_clients, make_partner()).delete()
    assert whoami(both_clients)["visitor"] is None
    assert "affiliate_visitor_id" not in both_clients.session


def test_logout_ends_it_and_another_user_does_not_inherit(both_clients):
    make_user("ada")
    make_user("bob")
    partner = make_partner({"Order placed": ""})
    visitor = refer(both_clients, partner)
    both_clients.post("/login/", {"username": "ada"})
    assert whoami(both_clients) == {"visitor": visitor.pk, "user": "ada"}
    both_clients.post("/login/", {"username": "bob"})
    assert whoami(both_clients) == {"visitor": None, "user": "bob"}
    both_clients.post("/logout/")
    assert whoami(both_clients) == {"visitor": None, "user": None}
    both_clients.post("/login/", {"username": "ada"})
    assert whoami(both_clients) == {"visitor": visitor.pk, "user": "ada"}


def test_without_sessions_visitors_are_recorded_all_the_same():
    partner = make_partner()
    request = RequestFactory().get("/", {"affiliate_id": partner.uid})
    assert AffiliateMiddleware(HttpResponse)(request).status_code == 302
    assert Visitor.objects.count() == 1


def test_who_registers_is_known_without_a_trigger_and_without_a_login(both_clients):
    visitor = refer(both_clients, make_partner())
    both_clients.post("/signup/", {"username": "ada", "login": "0"})
    visitor.refresh_from_db()
    assert (visitor.user.username, visitor.successful_on) == ("ada", None)


def test_users_whom_staff_create_are_not_taken_for_the_visitor(both_clients):
    make_user("staff")
    both_clients.post("/login/", {"username": "staff"})
    visitor = refer(both_clients, make_partner())
    both_clients.post("/signup/", {"username": "ada", "login": "0"})
    visitor.refresh_from_db()
    assert visitor.user.username == "staff"


# The cookie


def test_the_cookie_outlives_the_session(both_clients, settings):
    settings.AFFILIATE_COOKIE = True
    visitor = refer(both_clients, make_partner())
    morsel = both_clients.cookies["affiliate_ident"]
    assert morsel["httponly"]
    assert morsel["samesite"] == "Lax"
    assert not morsel["secure"]
    assert morsel["max-age"] == timedelta(days=30).total_seconds()
    assert morsel.value.partition(":")[0] == visitor.ident
    both_clients.post("/logout/")
    assert whoami(both_clients)["visitor"] == visitor.pk


def test_the_cookie_of_one_user_is_of_no_use_to_the_next(both_clients, settings):
    settings.AFFILIATE_COOKIE = True
    make_user("ada")
    make_user("bob")
    visitor = refer(both_clients, make_partner({"Order placed": ""}))
    both_clients.post("/login/", {"username": "ada"})
    both_clients.post("/logout/")
    assert whoami(both_clients)["visitor"] is None
    both_clients.post("/order/", {"number": "A-1", "total": "1"})
    both_clients.post("/login/", {"username": "bob"})
    both_clients.post("/order/", {"number": "A-2", "total": "1"})
    assert Visitor.objects.successful().count() == 0
    both_clients.post("/login/", {"username": "ada"})
    assert whoami(both_clients)["visitor"] == visitor.pk


@pytest.mark.parametrize("cookie", [True, False])
def test_who_withdraws_is_a_stranger_from_then_on(both_clients, settings, cookie):
    settings.AFFILIATE_COOKIE = cookie
    refer(both_clients, make_partner({"User registered": ""}))
    response = both_clients.get("/stranger/")
    assert response.json()["visitor"] is None
    assert ("affiliate_ident" in response.cookies) is cookie
    assert ("no-store" in response.headers.get("Cache-Control", "")) is cookie
    assert whoami(both_clients)["visitor"] is None
    both_clients.post("/signup/", {"username": "ada"})
    assert_not_converted("User registered")


def test_at_a_computer_of_many_nobodys_own_visit_is_crowded_out(both_clients, settings):
    settings.AFFILIATE_COOKIE = True
    partner = make_partner({"Order placed": ""})
    visitor = refer(both_clients, partner)
    both_clients.post("/signup/", {"username": "ada"})
    for _ in range(60):
        make_visitor(partner, user=make_user(), ident=visitor.ident)
    assert refer(both_clients, partner) == visitor
    both_clients.post("/order/", {"number": "A-1", "total": "1"})
    assert Visitor.objects.successful().get() == visitor


def test_a_secure_site_gets_a_secure_cookie(client, settings):
    settings.AFFILIATE_COOKIE = True
    client.get(make_partner().link("/"), secure=True)
    assert client.cookies["affiliate_ident"]["secure"]


@pytest.mark.parametrize("value", ["", "x", "x:y", "a" * 5000, '"', ":", "é:é"])
def test_a_forged_cookie_is_as_none(client, settings, value):
    settings.AFFILIATE_COOKIE = True
    client.cookies["affiliate_ident"] = value
    assert client.get("/whoami/").json()["visitor"] is None


def test_a_value_signed_for_something_else_is_no_ident(client, settings):
    settings.AFFILIATE_COOKIE = True
    visitor = make_visitor(ident="x" * 22)
    client.cookies["affiliate_ident"] = Signer(salt="else").sign(visitor.ident)
    assert client.get("/whoami/").json()["visitor"] is None
    client.cookies["affiliate_ident"] = Signer(salt=SALT).sign(visitor.ident)
    assert client.get("/whoami/").json()["visitor"] == visitor.pk


def test_a_cookie_is_signed_anew_where_the_key_is_on_its_way_out(client, settings):
    settings.AFFILIATE_COOKIE = True
    partner = make_partner()
    refer(client, partner)
    signed = client.cookies["affiliate_ident"].value
    refer(client, partner)
    assert client.cookies["affiliate_ident"].value == signed
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new" * 20, [settings.SECRET_KEY]
    refer(client, partner)
    anew = client.cookies["affiliate_ident"].value
    assert (anew.partition(":")[0], anew != signed) == (signed.partition(":")[0], True)
    settings.SECRET_KEY_FALLBACKS = []
    assert of_cookie(anew)
    assert not of_cookie(signed)


def test_no_cookie_is_set_by_default(both_clients):
    refer(both_clients, make_partner())
    assert set(both_clients.cookies) == {"sessionid"}


def test_who_comes_back_through_an_earlier_partner_is_theirs_again(both_clients):
    partners = [make_partner({"Order placed": ""}) for _ in range(2)]
    with freeze() as clock:
        for partner in (*partners, partners[0]):
            visitor = refer(both_clients, partner)
            clock.tick(minutes=5)
        assert visitor.partner == partners[0]
        assert whoami(both_clients)["visitor"] == visitor.pk
        both_clients.post("/order/", {"number": "A-1", "total": "1"})
    assert Visitor.objects.successful().get() == visitor
    assert Visitor.objects.count() == 2


# Who does not want to be recorded


def test_gpc_gets_the_redirect_and_nothing_else(both_clients, settings):
    settings.AFFILIATE_COOKIE = True
    link = make_partner().link("/echo/?a=1")
    response = both_clients.get(link, headers={"sec-gpc": "1"})
    assert response["Location"] == "/echo/?a=1"
    assert (Visitor.objects.count(), Session.objects.count()) == (0, 0)
    assert not both_clients.cookies
    settings.AFFILIATE_HONOUR_GPC = False
    both_clients.get(link, headers={"sec-gpc": "1"})
    assert Visitor.objects.count() == 1


def refuse(request):
    raise RuntimeError("no idea")


@pytest.mark.parametrize(
    ("hook", "consent"),
    [
        (None, True),
        (lambda request: True, True),
        (lambda request: False, False),
        (lambda request: None, False),
        (refuse, False),
        ("tests.core.test_middleware.refuse", False),
        ("no.such.hook", False),
    ],
)
def test_consent(rf, settings, hook, consent):
    settings.AFFILIATE_CONSENT = hook
    assert has_consent(rf.get("/")) is consent


# What it costs


def test_an_untouched_request_costs_nothing(both_clients, django_assert_num_queries):
    visitor = refer(both_clients, make_partner())
    assert visitor
    with CaptureQueriesContext(connection) as captured:
        response = both_clients.get("/?affiliate=1")
    assert len(captured) == 0
    assert not response.has_header("Vary") or "Cookie" not in response["Vary"]
    assert not response.cookies


def test_a_known_partner_costs_no_look_up(both_clients):
    partner = make_partner()
    partners.active_id(partner.uid)
    with CaptureQueriesContext(connection) as captured:
        both_clients.get(partner.link("/"))
    tables = [query["sql"] for query in captured if "affiliations" in query["sql"]]
    assert len(tables) == 1
    assert tables[0].startswith("INSERT")


def test_a_change_of_a_partner_is_seen_at_once_here_and_soon_elsewhere(monkeypatch):
    partner = make_partner()
    now = 1000.0
    monkeypatch.setattr(remembered.time, "monotonic", lambda: now)
    assert partners.active_id(partner.uid) == partner.pk
    partner.active = False
    partner.save()
    assert partners.active_id(partner.uid) is None
    Partner.objects.update(active=True)  # as another process would
    assert partners.active_id(partner.uid) is None
    now += 1
    assert partners.active_id(partner.uid) == partner.pk


def test_strangers_cannot_fill_the_memory():
    for number in range(2 * remembered.SIZE):
        partners.active_id(f"{number:08}")
    assert len(partners._known) <= remembered.SIZE
