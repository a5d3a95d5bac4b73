"""The router: whom it leads where, and what it records of them."""

import json
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from django.urls import resolve, reverse
from django.utils import timezone

from affiliations import ident as cookie
from affiliations.links import routing, services
from affiliations.links.models import LandingPage, Link, Transaction
from affiliations.models import ApiKey, Visitor
from tests.core.factories import make_partner, make_user
from tests.links.factories import BROWSER, NETWORK_ID, click, make_link, make_transaction

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _forgetful():
    routing.forget_all()


def the_transaction():
    [found] = Transaction.objects.all()
    return found


# The flow of the document


def test_a_click_is_recorded_and_led_to_the_landing_page(both_clients):
    link = make_link()
    answer = click(both_clients, link)
    assert (answer.status_code, answer["Location"]) == (302, link.landing_page)
    assert answer["Cache-Control"] == "private, no-store"
    assert answer["Referrer-Policy"] == "strict-origin-when-cross-origin"
    found = the_transaction()
    ident = cookie.of_cookie(both_clients.cookies["affiliate_ident"].value)
    assert (found.link, found.path, found.item_id) == (link, link.path, link.item_id)
    assert (found.ident, found.user, found.state) == (ident, None, "open")
    assert (found.network_id, found.query) == (NETWORK_ID, {"transaction_id": NETWORK_ID})
    assert (found.clicks, found.landing_page, found.visitor) == (1, link.landing_page, None)
    assert not found.is_fulfilled


def test_the_next_click_updates_it(both_clients):
    link = make_link()
    click(both_clients, link)
    first = the_transaction()
    other = "20" + NETWORK_ID[2:]
    click(both_clients, link, f"transaction_id={other}&aff_sub=x")
    found = the_transaction()
    assert found.pk == first.pk
    assert (found.clicks, found.network_id) == (2, other)
    assert found.query == {"transaction_id": other, "aff_sub": "x"}
    assert found.created_on == first.created_on
    assert found.clicked_on > first.clicked_on


def test_a_click_that_names_no_transaction_forgets_none(both_clients, settings):
    settings.AFFILIATE_LINKS_GATE = "open"
    link = make_link()
    click(both_clients, link, f"transaction_id={NETWORK_ID}&aff_id=9")
    click(both_clients, link, "utm_source=newsletter")
    found = the_transaction()
    assert (found.clicks, found.network_id) == (2, NETWORK_ID)
    assert found.query == {"transaction_id": NETWORK_ID, "aff_id": "9"}


@pytest.mark.parametrize("kind", ["image", "iframe", "script", "style", "video", "object", "embed"])
def test_what_a_page_embeds_is_no_click(both_clients, kind):
    link = make_link()
    assert click(both_clients, link, headers={"sec-fetch-dest": kind}).status_code == 302
    assert not Transaction.objects.exists()
    click(both_clients, link, headers={"sec-fetch-dest": "document"})
    assert Transaction.objects.count() == 1


def test_it_stands_alone_whatever_the_site_does_with_its_requests():
    for name in ("follow", "follow-deep"):
        path = reverse(f"affiliations_links:{name}", args=["x", "y"][: 1 + ("deep" in name)])
        assert "default" in resolve(path).func._non_atomic_requests
    for each in ("list", "complete", "WTY76RkB"):
        assert "default" in resolve(f"/api/links/{each}").func._non_atomic_requests


def test_another_link_or_another_browser_has_its_own(new_client):
    one, other = make_link(), make_link()
    client = new_client()
    click(client, one)
    click(client, other)
    click(new_client(), one)
    assert Transaction.objects.count() == 3
    assert Transaction.objects.values("ident").distinct().count() == 2


def test_what_is_fulfilled_stays_and_the_next_click_opens_another(both_clients):
    link = make_link()
    click(both_clients, link)
    Transaction.objects.update(state="fulfilled", open_key=None)
    click(both_clients, link)
    assert sorted(Transaction.objects.values_list("state", flat=True)) == ["fulfilled", "open"]


def test_a_user_is_known_at_once_and_gets_no_cookie(both_clients):
    user = make_user()
    both_clients.force_login(user)
    link = make_link()
    click(both_clients, link)
    click(both_clients, link)
    found = the_transaction()
    assert (found.user, found.ident, found.clicks) == (user, "", 2)
    assert "affiliate_ident" not in both_clients.cookies


def test_whoever_logs_in_acquires_what_the_browser_had_open(both_clients):
    link, user = make_link(), make_user("anna")
    click(both_clients, link)
    both_clients.post("/login/", {"username": "anna"})
    assert the_transaction().user == user
    click(both_clients, link)
    assert the_transaction().clicks == 2


def test_whoever_signs_up_does_too(both_clients):
    click(both_clients, make_link())
    both_clients.post("/signup/", {"username": "berta"})
    assert the_transaction().user.username == "berta"


def test_the_next_person_at_the_browser_gets_nothing_of_it(both_clients):
    link, user = make_link(), make_user("anna")
    make_user("berta")
    click(both_clients, link)
    both_clients.post("/login/", {"username": "anna"})
    both_clients.post("/logout/")
    both_clients.post("/login/", {"username": "berta"})
    assert the_transaction().user == user
    both_clients.post("/logout/")
    click(both_clients, link)
    assert Transaction.objects.filter(user=user).get().clicks == 1
    assert Transaction.objects.get(user=None).ident


def test_a_purchased_item_is_led_to_itself_and_nothing_is_recorded(both_clients, settings):
    user = make_user()
    settings.AFFILIATE_LINKS_PURCHASED = lambda user, item_id: f"/courses/{item_id}/"
    link = make_link()
    assert click(both_clients, link)["Location"] == link.landing_page  # nobody knows who it is
    Transaction.objects.all().delete()
    both_clients.force_login(user)
    assert click(both_clients, link)["Location"] == "/courses/course-7/"
    assert not Transaction.objects.exists()


@pytest.mark.parametrize("answer", [None, "", "javascript:alert(1)", "http://[", 1 / 3])
def test_a_hook_that_has_no_answer_leads_to_the_landing_page(both_clients, settings, answer):
    settings.AFFILIATE_LINKS_PURCHASED = lambda user, item_id: answer
    both_clients.force_login(make_user())
    found = click(both_clients, make_link())
    assert found.status_code == 302
    if answer != 1 / 3:
        assert found["Location"] == "https://shop.example/course"


def test_a_hook_that_fails_is_logged_and_leads_to_the_landing_page(both_clients, settings, caplog):
    def fails(user, item_id):
        raise RuntimeError("no")

    settings.AFFILIATE_LINKS_PURCHASED = fails
    both_clients.force_login(make_user())
    assert click(both_clients, make_link())["Location"] == "https://shop.example/course"
    assert "AFFILIATE_LINKS_PURCHASED failed" in caplog.text


# The gate

THROUGH = {"referer": "https://click.shop.example/x?y=1"}
ELSEWHERE = [
    {},
    {"referer": "https://blog.example/"},
    {"referer": "https://click.shop.example.evil.example/"},
    {"referer": "https://xclick.shop.example/"},
    {"referer": "click.shop.example"},
    {"referer": "http://["},
]


@pytest.mark.parametrize(
    ("gate", "by_referer", "by_transaction", "by_neither"),
    [
        ("either", 1, 1, 0),
        ("referer", 1, 0, 0),
        ("transaction", 0, 1, 0),
        ("open", 1, 1, 1),
    ],
)
def test_only_clicks_through_the_network_are_recorded(
    new_client, settings, gate, by_referer, by_transaction, by_neither
):
    settings.AFFILIATE_LINKS_GATE = gate
    settings.AFFILIATE_LINKS_REFERERS = ["click.shop.example", "*.go2cloud.org"]
    link = make_link()

    def recorded(query, headers):
        Transaction.objects.all().delete()
        answer = click(new_client(), link, query, headers=headers)
        assert answer["Location"] == link.landing_page + ("?x=1" if "x=1" in query else "")
        assert ("affiliate_ident" in answer.cookies) == Transaction.objects.exists()
        return Transaction.objects.count()

    assert recorded("x=1", THROUGH) == by_referer
    assert recorded("x=1", {"referer": "https://a.go2cloud.org/"}) == by_referer
    assert recorded(f"transaction_id={NETWORK_ID}", {}) == by_transaction
    assert recorded(f"aff_sub={NETWORK_ID}", {}) == by_transaction
    for headers in ELSEWHERE:
        assert recorded("x=1", headers) == by_neither


@pytest.mark.parametrize(
    "given", ["", "short", "a" * 256, "with%20blank-in-it", "%00" * 12, "ä" * 12]
)
def test_what_is_no_transaction_id_opens_nothing(both_clients, given):
    click(both_clients, make_link(), f"transaction_id={given}")
    assert not Transaction.objects.exists()


def test_the_names_of_the_transaction_id_are_a_setting(both_clients, settings):
    settings.AFFILIATE_LINKS_TRANSACTION_KEYS = ("tid",)
    link = make_link()
    click(both_clients, link, f"transaction_id={NETWORK_ID}")
    assert not Transaction.objects.exists()
    answer = click(both_clients, link, f"tid={NETWORK_ID}&x=1")
    assert the_transaction().network_id == NETWORK_ID
    assert answer["Location"] == f"{link.landing_page}?x=1"


def test_a_closed_gate_costs_nothing(both_clients, django_assert_num_queries):
    link = make_link()
    click(both_clients, link, "")
    with django_assert_num_queries(0):
        answer = click(both_clients, link, "utm_source=x")
    assert answer["Location"] == f"{link.landing_page}?utm_source=x"
    assert not answer.has_header("Vary") or "Cookie" not in answer["Vary"]
    assert not answer.cookies


def test_a_click_costs_one_statement(both_clients):
    link = make_link()
    click(both_clients, link)
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            click(both_clients, link)
        [only] = queries
        assert only["sql"].startswith("INSERT INTO affiliations_links_transaction")


# Who leaves nothing


@pytest.mark.parametrize(
    "headers",
    [
        {"user-agent": "Googlebot/2.1"},
        {"sec-purpose": "prefetch"},
        {"sec-gpc": "1"},
        {"webhook-id": "msg_1"},
    ],
)
def test_robots_prefetches_and_the_unwilling_are_led_on_and_leave_nothing(both_clients, headers):
    link = make_link(partner=make_partner())
    answer = click(both_clients, link, headers=headers)
    assert (answer.status_code, answer["Location"]) == (302, link.landing_page)
    assert not Transaction.objects.exists()
    assert not Visitor.objects.exists()
    assert not answer.cookies


def test_without_consent_nothing_is_recorded(both_clients, settings):
    settings.AFFILIATE_CONSENT = lambda request: False
    answer = click(both_clients, make_link())
    assert answer.status_code == 302
    assert not answer.cookies
    assert not Transaction.objects.exists()


def test_head_is_led_on_and_leaves_nothing(both_clients):
    link = make_link()
    answer = both_clients.head(
        f"/router/{link}?transaction_id={NETWORK_ID}", headers={"user-agent": BROWSER}
    )
    assert (answer.status_code, answer["Location"]) == (302, link.landing_page)
    assert not Transaction.objects.exists()
    assert both_clients.options(f"/router/{link}").status_code == 405
    assert both_clients.post(f"/router/{link}").status_code in (403, 405)


# Links that lead nowhere, or no more


@pytest.mark.parametrize("path", ["nothere", "x" * 100, "ä", "%00", "a%20b", "..", "%0d%0aX:1"])
def test_an_unknown_path_is_a_page_that_people_understand(both_clients, path):
    answer = click(both_clients, path)
    assert answer.status_code == 404
    assert "leads nowhere" in answer.content.decode()


def test_a_slash_behind_it_leads_there_too(both_clients):
    link = make_link()
    answer = click(both_clients, f"{link}/")
    assert (answer.status_code, answer["Location"]) == (302, link.landing_page)
    assert the_transaction().link == link


def test_a_path_is_not_another_in_other_letters(both_clients):
    make_link(path="Summer")
    assert click(both_clients, "summer").status_code == 404
    assert click(both_clients, "Summer").status_code == 302


def test_a_link_counts_from_and_until(both_clients):
    now = timezone.now()
    early = make_link(valid_from=now + timedelta(hours=1))
    late = make_link(valid_until=now - timedelta(seconds=1))
    just = make_link(valid_from=now - timedelta(hours=1), valid_until=now + timedelta(hours=1))
    assert [click(both_clients, each).status_code for each in (early, late, just)] == [
        404,
        404,
        302,
    ]
    assert the_transaction().link == just


def test_one_that_is_switched_off_leads_on_untracked_or_is_gone(both_clients, settings):
    link = make_link(active=False)
    assert click(both_clients, link)["Location"] == link.landing_page
    settings.AFFILIATE_LINKS_INACTIVE = "gone"
    answer = click(both_clients, link)
    assert answer.status_code == 410
    assert "no longer in use" in answer.content.decode()
    assert not Transaction.objects.exists()


def test_one_that_is_deleted_leads_nowhere(both_clients):
    link = make_link()
    click(both_clients, link)
    services.delete_link(link.path)
    assert click(both_clients, link).status_code == 404
    assert Transaction.objects.count() == 1


def test_a_change_of_a_link_its_pages_or_its_partner_is_seen_at_once(both_clients):
    partner = make_partner()
    link = make_link(partner=partner)
    click(both_clients, link)
    link.landing_page = "https://shop.example/other"
    link.save()
    assert click(both_clients, link)["Location"] == link.landing_page
    LandingPage.objects.create(link=link, url="https://shop.example/b", weight=1000)
    seen = {click(both_clients.__class__(), link)["Location"] for _ in range(20)}
    assert "https://shop.example/b" in seen
    Transaction.objects.all().delete()
    partner.active = False
    partner.save()
    click(both_clients, link)
    assert not Transaction.objects.exists()


# A partner's link


def test_a_partners_click_is_a_visitor_too(both_clients):
    partner = make_partner()
    link = make_link(partner=partner)
    click(both_clients, link, headers={"referer": "https://blog.example/post"})
    click(both_clients, link)
    [visitor] = Visitor.objects.all()
    assert (visitor.partner, visitor.entry_point) == (partner, link.landing_page)
    assert (visitor.click_id, visitor.referrer_host) == (NETWORK_ID, "blog.example")
    assert the_transaction().visitor == visitor


def test_without_a_deal_the_link_leads_on_and_nothing_counts(both_clients):
    link = make_link(partner=make_partner(active=False))
    assert click(both_clients, link).status_code == 302
    assert not Visitor.objects.exists()
    assert not Transaction.objects.exists()


def test_a_database_that_fails_keeps_nobody_from_the_page(both_clients, monkeypatch, caplog):
    def fails(*args, **kwargs):
        raise DatabaseError("full")

    link = make_link()
    monkeypatch.setattr(routing.clicks, "record", fails)
    assert click(both_clients, link)["Location"] == link.landing_page
    assert "could not be recorded" in caplog.text


def test_a_session_does_not_name_a_visitor_that_was_undone(both_clients, monkeypatch):
    def fails(*args, **kwargs):
        raise DatabaseError("full")

    link = make_link(partner=make_partner())
    monkeypatch.setattr(routing.clicks, "_upsert", fails)
    click(both_clients, link)
    assert not Visitor.objects.exists()
    # Looked at as it is: the next request would mend it, unless another has that key by then.
    assert "affiliate_visitor_id" not in both_clients.session


# Where to


def test_parameters_are_added_and_passed_on_and_the_pages_own_win(both_clients):
    link = make_link(
        landing_page="https://shop.example/course?lang=en#top",
        adds="utm_source=anna&lang=xx",
    )
    query = f"transaction_id={NETWORK_ID}&aff_sub=1&offer_id=2&lang=de&utm_source=x&a=1&a=2&b=%26"
    target = urlsplit(click(both_clients, link, query)["Location"])
    assert target.fragment == "top"
    assert parse_qsl(target.query) == [
        ("lang", "en"),
        ("utm_source", "anna"),
        ("a", "1"),
        ("a", "2"),
        ("b", "&"),
    ]


@pytest.mark.parametrize(
    ("passes", "kept"),
    [("*", "a=1&b=2"), ("a", "a=1"), ("b c", "b=2"), ("", ""), ("* aff_sub", "a=1&b=2&aff_sub=s")],
)
def test_what_is_passed_on_is_the_links_to_say(both_clients, passes, kept):
    link = make_link(passes=passes)
    answer = click(both_clients, link, f"transaction_id={NETWORK_ID}&a=1&b=2&aff_sub=s")
    assert urlsplit(answer["Location"]).query == kept


def test_a_browser_sees_the_same_of_several_pages_each_time(new_client):
    link = make_link(weight=3)
    LandingPage.objects.create(link=link, url="https://shop.example/b", weight=1)
    seen = []
    for _ in range(40):
        client = new_client()
        seen.append({click(client, link)["Location"] for _ in range(3)})
    assert all(len(each) == 1 for each in seen)
    assert 1 <= sum(each == {"https://shop.example/b"} for each in seen) <= 25
    assert set(Transaction.objects.values_list("landing_page", flat=True)) == set.union(*seen)


def test_a_query_is_kept_in_bounds(both_clients):
    query = "&".join(f"p{number}={'x' * 900}" for number in range(80))
    click(both_clients, make_link(), f"transaction_id={NETWORK_ID}&a=1&a=2&{query}")
    kept = the_transaction().query
    assert kept["a"] == ["1", "2"]
    assert len(json.dumps(kept)) < 6_000


# As the document's API


def test_a_program_that_asks_for_json_needs_a_key(both_clients):
    link = make_link(floor_minor=1250, currency="EUR")
    accept = {"accept": "application/json"}
    answer = both_clients.get(f"/router/{link}", headers=accept)
    assert answer.status_code == 401
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "authentication-required"
    _, token = ApiKey.objects.issue(name="test", scopes=["links:read"])
    answer = both_clients.get(
        f"/router/{link}", headers={**accept, "authorization": f"Bearer {token}"}
    )
    assert answer["Cache-Control"] == "private, no-store"
    assert {"Accept", "Authorization", "Cookie"} <= set(answer["Vary"].split(", "))
    assert answer.json() == {
        "mlp": link.landing_page,
        "item_id": "course-7",
        "floor_price": "12.50",
    }
    unknown = both_clients.get(
        "/router/nothere", headers={**accept, "authorization": f"Bearer {token}"}
    )
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-link")


def test_the_path_is_never_given_out_again():
    link = services.generate_link(item_id="x", landing_page="https://a.example/", path="summer")
    services.delete_link("summer")
    with pytest.raises(services.InvalidLink, match="path"):
        services.generate_link(item_id="x", landing_page="https://a.example/", path="summer")
    assert Link.objects.get() == link
    assert make_transaction(link).path == "summer"
