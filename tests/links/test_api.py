"""The API: each operation, in JSON and as a form, under both spellings, and each refusal."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission
from django.core.handlers.asgi import ASGIRequest
from django.core.signing import Signer
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import include, path
from django.utils import timezone

from affiliations import ident, requestbody
from affiliations.links import routing, services
from affiliations.links.models import LandingPage, Link, Transaction
from affiliations.models import ApiKey, Callback, Conversion
from tests.core.factories import make_partner, make_user
from tests.links.factories import Program, make_key, make_link, make_transaction

pytestmark = pytest.mark.django_db

PAGE = "https://shop.example/course"
POSTBACK = "https://network.example/lsr?transaction_id={transaction_id}&amount={amount}"
SNAPSHOT = Path(__file__).with_name("openapi.json")


@pytest.fixture(autouse=True)
def _forgetful():
    routing.forget_all()


@pytest.fixture
def api(client):
    """Return a program with a key of the whole site's, that sends JSON."""
    return Program(client, make_key())


@pytest.fixture(params=[False, True], ids=["json", "form"])
def both(request, client):
    """Return one that sends JSON, and one that sends forms."""
    return Program(client, make_key(), form=request.param)


def refused(answer, status, code, *fields):
    """Assert that an answer is a problem, with these fields named; return it."""
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["Cache-Control"] == "private, no-store"
    assert (body["type"], body["status"]) == ("about:blank", status)
    assert body["title"]
    assert body["detail"]
    assert [each["field"] for each in body.get("errors", [])] == list(fields)
    return body


# generate


def test_generate_makes_a_partners_link(both, client):
    anna, berta = make_partner(), make_partner()
    said = {"item_id": "c-7", "MarketingLandingPage": "http://testserver/course"}
    assert both.post("generate", **said, partner=anna.uid).status_code == 201
    hers = Program(client, make_key(anna))
    assert hers.post("generate", **said, partner=anna.uid).status_code == 201
    assert [each.partner for each in Link.objects.all()] == [anna, anna]
    for program, uid in ((both, "nobodyhe"), (both, anna.uid.swapcase()), (hers, berta.uid)):
        refused(program.post("generate", **said, partner=uid), 422, "invalid-fields", "partner")
    assert Link.objects.count() == 2


@pytest.mark.parametrize(
    ("page", "callback", "floor"),
    [
        ("MarketingLandingPage", "CallbackURL", "FloorPrice"),
        ("marketing_landing_page", "callback_url", "floor_price"),
        ("landing_page", "callback_url", "floor_price"),
    ],
)
def test_generate_makes_a_link(both, page, callback, floor):
    answer = both.post("generate", item_id="c-7", **{page: PAGE, callback: POSTBACK, floor: "9.50"})
    assert answer.status_code == 201
    link = Link.objects.get()
    assert answer.json() == {
        "UniquePath": link.path,
        "mlp": PAGE,
        "item_id": "c-7",
        "floor_price": "9.50",
        "currency": "USD",
        "url": f"http://testserver/router/{link.path}",
        "deep_link": None,
    }
    assert (link.landing_page, link.callback_url, link.floor_minor) == (PAGE, POSTBACK, 950)
    assert (link.partner, link.active, link.expects, link.passes) == (
        None,
        True,
        "success=true",
        "*",
    )
    assert both.client.get(answer.json()["url"]).headers["Location"] == PAGE


@pytest.mark.parametrize("floor", ["0.29", "0.290000000", "29e-2", '"0.29"'])
def test_amounts_are_exact(client, floor):
    body = f'{{"item_id": 7, "MarketingLandingPage": "{PAGE}", "FloorPrice": {floor}}}'
    headers = {"authorization": f"Bearer {make_key()}"}
    answer = client.post(
        "/api/links/generate", body, content_type="application/json", headers=headers
    )
    assert (answer.status_code, answer.json()["floor_price"]) == (201, "0.29")
    assert Link.objects.get().item_id == "7"


@pytest.mark.parametrize("none", [{}, {"FloorPrice": None}, {"FloorPrice": ""}])
def test_without_a_floor_price_it_is_zero(api, none):
    answer = api.post("generate", item_id="c-7", MarketingLandingPage=PAGE, currency="jpy", **none)
    assert (answer.json()["floor_price"], answer.json()["currency"]) == ("0", "JPY")


def test_generate_takes_what_else_a_link_has(both):
    begin = datetime(2030, 1, 1, tzinfo=UTC)
    answer = both.post(
        "generate",
        item_id="c-7",
        MarketingLandingPage=PAGE,
        UniquePath="Summer-30",
        currency="EUR",
        expects="ok=1",
        valid_from=begin.isoformat(),
        valid_until=(begin + timedelta(days=9)).isoformat(),
        passes="utm_source utm_medium",
        adds="ref=anna",
        weight=3,
        landing_pages=["https://shop.example/b", "https://shop.example/c"],
        deep_path="/part/2?x=1",
    )
    assert answer.status_code == 201, answer.json()
    link = Link.objects.get()
    assert (link.path, link.currency, link.expects) == ("Summer-30", "EUR", "ok=1")
    assert (link.valid_from, link.valid_until) == (begin, begin + timedelta(days=9))
    assert (link.passes, link.adds, link.weight) == ("utm_source utm_medium", "ref=anna", 3)
    others = LandingPage.objects.filter(link=link)
    assert [(each.url, each.weight) for each in others] == [
        ("https://shop.example/b", 1),
        ("https://shop.example/c", 1),
    ]
    Link.objects.update(valid_from=None)
    deep = answer.json()["deep_link"]
    assert deep.startswith("http://testserver/router/Summer-30/")
    led = both.client.get(deep).headers["Location"]
    assert led == "https://shop.example/part/2?x=1&ref=anna"


def test_other_pages_have_weights(api):
    pages = [{"url": "https://shop.example/b", "weight": 4}]
    answer = api.post("generate", item_id=7, MarketingLandingPage=PAGE, landing_pages=pages)
    assert answer.status_code == 201
    assert LandingPage.objects.get().weight == 4


def test_generate_names_everything_that_is_wrong(both):
    answer = both.post(
        "generate",
        item_id="c-7",
        landing_page="ftp://shop.example/",
        CallbackURL="https://network.example/{nobody}",
        floor_price="1.234",
        path="list",
        currency="USD",
        adds="a",
        passes="x y" * 80,
        landing_pages=["https://shop.example/b", "nowhere"],
    )
    fields = {each["field"] for each in answer.json()["errors"]}
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-link")
    # As the caller has spelt them, each.
    expected = {"landing_page", "CallbackURL", "floor_price", "path", "adds"}
    assert fields == {*expected, "landing_pages.1.url"}
    assert not Link.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"item_id": ""}, "item_id"),
        ({"item_id": "x" * 201}, "item_id"),
        ({"item_id": "a\nb"}, "item_id"),
        ({"item_id": ["a"]}, "item_id"),
        ({"item_id": True}, "item_id"),
        ({"MarketingLandingPage": "x"}, "MarketingLandingPage"),
        ({"MarketingLandingPage": "https://shop.example/" + "x" * 2000}, "MarketingLandingPage"),
        ({"FloorPrice": -1}, "FloorPrice"),
        ({"FloorPrice": "12,50"}, "FloorPrice"),
        ({"FloorPrice": 2**62}, "FloorPrice"),
        ({"FloorPrice": True}, "FloorPrice"),
        ({"FloorPrice": {}}, "FloorPrice"),
        ({"currency": "XXX"}, "currency"),
        ({"currency": "EURO"}, "currency"),
        ({"UniquePath": "a b"}, "UniquePath"),
        ({"unique_path": "_abc"}, "unique_path"),
        ({"path": "taken-1"}, "path"),
        ({"path": "gone-1"}, "path"),
        ({"valid_from": "tomorrow"}, "valid_from"),
        ({"valid_from": "2030-01-01T00:00:00"}, "valid_from"),
        ({"valid_from": "0001-01-01T00:00:00+14:00"}, "valid_from"),
        ({"valid_until": "9999-12-31T23:59:59-14:00"}, "valid_until"),
        (
            {"valid_from": "2030-01-02T00:00:00Z", "valid_until": "2030-01-01T00:00:00Z"},
            "valid_until",
        ),
        ({"weight": 0}, "weight"),
        ({"weight": 10**6}, "weight"),
        ({"landing_pages": [{"url": PAGE, "weight": 0}]}, "landing_pages.0.weight"),
        ({"landing_pages": [{"url": "x"}]}, "landing_pages.0.url"),
        ({"landing_pages": [PAGE] * 21}, "landing_pages"),
        ({"landing_pages": {}}, "landing_pages"),
        ({"deep_path": "//evil.example"}, "deep_path"),
        ({"deep_path": "part"}, "deep_path"),
        ({"deep_path": "/" + "x" * 1990}, "deep_path"),
        ({"expects": "x" * 201}, "expects"),
        ({"FlorPrice": 1}, "FlorPrice"),
        ({"FloorPrice": 1, "floor_price": 2}, "floor_price"),
    ],
    ids=str,
)
def test_generate_refuses(api, wrong, field):
    make_link(path="taken-1")
    make_link(path="gone-1", deleted_on=timezone.now())
    sent = {"item_id": "c-7", "MarketingLandingPage": PAGE, **wrong}
    answer = api.post("generate", **sent)
    assert answer.status_code == 422
    refused(answer, 422, answer.json()["code"], field)
    assert Link.objects.count() == 2
    assert not LandingPage.objects.exists()


def test_a_partners_key_makes_the_partners_links_to_the_sites_own_hosts(client, settings):
    partner = make_partner()
    program = Program(client, make_key(partner))
    settings.ALLOWED_HOSTS = ["*", "testserver", ".ours.example"]
    for page in ("https://ours.example/a", "https://www.ours.example/a", "http://testserver/a"):
        assert program.post("generate", item_id=7, MarketingLandingPage=page).status_code == 201
    assert {link.partner for link in Link.objects.all()} == {partner}
    for page in (PAGE, "https://ours.example.evil.example/", "https://notours.example/"):
        answer = program.post("generate", item_id=7, MarketingLandingPage=page)
        refused(answer, 422, "invalid-link", "MarketingLandingPage")
    others = ["https://ours.example/b", PAGE]
    sent = {"item_id": 7, "landing_page": "https://ours.example/a", "landing_pages": others}
    refused(program.post("generate", **sent), 422, "invalid-link", "landing_pages.1.url")
    assert Link.objects.count() == 3
    settings.AFFILIATE_LINKS_LANDING_HOSTS = ["*.shop.example", "shop.example"]
    assert program.post("generate", item_id=7, MarketingLandingPage=PAGE).status_code == 201


def test_the_hosts_of_the_setting_bind_everybody(api, settings):
    kept = make_link(landing_page="https://old.example/", callback_url="")
    settings.AFFILIATE_LINKS_LANDING_HOSTS = ["shop.example"]
    assert api.post("generate", item_id=7, MarketingLandingPage=PAGE).status_code == 201
    answer = api.post("generate", item_id=7, MarketingLandingPage="https://old.example/x")
    refused(answer, 422, "invalid-link", "MarketingLandingPage")
    sent = {"item_id": 7, "MarketingLandingPage": PAGE, "landing_pages": ["https://old.example/x"]}
    refused(api.post("generate", **sent), 422, "invalid-link", "landing_pages.0.url")
    # One that was let in may still be changed, and deleted.
    kept = Link.objects.get(pk=kept.pk)
    kept.item_id = "c-8"
    kept.save()
    assert api.send("DELETE", f"delete/{kept.path}").status_code == 204


# list and look up


def test_list_has_all_active_paths(api):
    shown = make_link(callback_url=POSTBACK, floor_minor=1050, currency="EUR")
    make_link(deleted_on=timezone.now())
    make_link(active=False)
    assert api.get("list").json() == {
        "links": [
            {
                "UniquePath": shown.path,
                "mlp": PAGE,
                "CallbackURL": POSTBACK,
                "item_id": "course-7",
                "floor_price": "10.50",
                "currency": "EUR",
            }
        ],
        "next": None,
    }


def test_list_has_pages(api, django_assert_num_queries):
    links = [make_link() for _ in range(5)]
    seen, after = [], 0
    for _ in range(3):
        page = api.get(f"list?limit=2&after={after}").json()
        seen.append([each["UniquePath"] for each in page["links"]])
        after = page["next"]
    paths = [link.path for link in links]
    assert (seen, after) == ([paths[:2], paths[2:4], paths[4:]], None)
    assert api.get("list?limit=5").json()["next"] is None
    with django_assert_num_queries(2):  # the key, and the links
        api.get("list")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("after=-1", "after"),
        ("after=9223372036854775808", "after"),
        (f"after={'9' * 5000}", "after"),
        ("after=%00", "after"),
    ],
)
def test_list_refuses(api, query, field):
    refused(api.get(f"list?{query}"), 422, "invalid-fields", field)


def test_a_query_of_too_many_fields_is_refused(api):
    refused(api.get("list?" + "&".join(["a=1"] * 1001)), 400, "bad-request")


def test_a_link_is_described(api):
    link = make_link(floor_minor=5, currency="KWD")
    expected = {"mlp": PAGE, "item_id": "course-7", "floor_price": "0.005"}
    assert api.get(link.path).json() == expected
    for unknown in ("nothing-9", "a%00b", "%ff", "x" * 500, link.path.swapcase() + "x"):
        refused(api.get(unknown), 404, "unknown-link")


# delete


@pytest.mark.parametrize("name", ["UniquePath", "unique_path", "path"])
def test_delete_takes_the_path_from_the_body_the_query_or_the_address(both, name):
    one, two, three = make_link(), make_link(), make_link()
    assert both.send("DELETE", "delete", {name: one.path}).status_code == 204
    assert both.send("DELETE", f"delete?{name}={two.path}").status_code == 204
    answer = both.send("DELETE", f"delete/{three.path}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert not Link.objects.kept().exists()
    for link in (one, two, three):
        refused(both.send("DELETE", f"delete/{link.path}"), 404, "unknown-link")
        refused(both.get(link.path), 404, "unknown-link")
        assert both.client.get(f"/router/{link.path}").status_code == 404


def test_delete_refuses(api):
    link = make_link()
    refused(api.send("DELETE", "delete"), 422, "invalid-fields", "UniquePath")
    twice = api.send("DELETE", f"delete?path={link.path}", {"path": "other"})
    refused(twice, 422, "invalid-fields", "path")
    twice = api.send("DELETE", f"delete?path={link.path}&path={link.path}")
    refused(twice, 422, "invalid-fields", "path")
    twice = api.send("DELETE", f"delete?path={link.path}", {"UniquePath": "other"})
    refused(twice, 422, "invalid-fields", "path")
    refused(api.send("DELETE", "delete?path=%ff"), 422, "invalid-fields", "path")
    refused(api.send("DELETE", "delete?path=é"), 404, "unknown-link")
    assert Link.objects.kept().count() == 1


# acquire, validate-item-id and fulfill


def test_acquire(both, settings):
    settings.AFFILIATE_LINKS_PURCHASED = lambda user, item_id: item_id == "bought" and "/it/"
    user, mine = make_user(), "i" * 22
    make_transaction(ident=mine)
    make_transaction(make_link(item_id="bought"), ident=mine)
    make_transaction(ident="somebody-else")
    answer = both.post("acquire", anonymous_ident=mine, user_id=user.pk)
    assert answer.json() == {"acquired": 2, "fulfilled": 1}
    assert Transaction.objects.filter(user=user).count() == 2
    again = both.post("acquire", anonymous_ident=mine, user_id=user.pk)
    assert again.json() == {"acquired": 0, "fulfilled": 0}


def test_acquire_takes_the_cookie_as_it_is(both):
    user, mine = make_user(), "i" * 22
    make_transaction(ident=mine)
    forged = Signer(salt="another use").sign(mine)
    assert both.post("acquire", anonymous_ident=forged, user_id=user.pk).json()["acquired"] == 0
    signed = Signer(salt=ident.SALT).sign(mine)
    assert both.post("acquire", anonymous_ident=signed, user_id=user.pk).json()["acquired"] == 1


def test_validate_item_id(both):
    user = make_user()
    sent = {"item_id": "course-7", "user_id": user.pk}
    assert both.post("validate-item-id", **sent).json() == {"valid": False}
    make_transaction(user=user)
    assert both.post("validate-item-id", **sent).json() == {"valid": True}
    other = {**sent, "user_id": make_user().pk}
    assert both.post("validate-item-id", **other).json() == {"valid": False}


@pytest.mark.parametrize(
    ("accept", "kind", "body"),
    [
        ("text/plain", "text/plain", b"true"),
        ("text/plain, application/json;q=0.5", "text/plain", b"true"),
        ("application/json, text/plain", "application/json; charset=utf-8", b'{"valid": true}'),
        ("*/*", "application/json; charset=utf-8", b'{"valid": true}'),
        ("image/png", "application/json; charset=utf-8", b'{"valid": true}'),
        ("", "application/json; charset=utf-8", b'{"valid": true}'),
    ],
)
def test_validate_item_id_is_true_where_text_is_asked_for(api, accept, kind, body):
    user = make_user()
    make_transaction(user=user)
    sent = {"item_id": "course-7", "user_id": user.pk}
    answer = api.send("POST", "validate-item-id", sent, accept=accept)
    assert (answer["Content-Type"], answer.content) == (kind, body)


def test_fulfill(both):
    user = make_user()
    make_transaction(user=user)
    make_transaction(make_link(), user=user)
    make_transaction(user=make_user())
    make_transaction(make_link(item_id="another"), user=user)
    sent = {"item_id": "course-7", "user_id": user.pk}
    assert both.post("fulfill", **sent).json() == {"fulfilled": 2}
    assert both.post("fulfill", **sent).json() == {"fulfilled": 0}
    assert Transaction.objects.open().count() == 2


@pytest.mark.parametrize(
    "operation", ["acquire", "validate-item-id", "fulfill", "complete", "refund"]
)
@pytest.mark.parametrize(
    "user_id", [0, -1, 2**31, 2**63 - 1, "9" * 50, "x", "1.5", "é", 1.5, "None"], ids=str
)
def test_an_unknown_user_is_named(both, operation, user_id):
    sent = {"item_id": "course-7", "user_id": user_id}
    if operation == "acquire":
        sent = {"anonymous_ident": "x", "user_id": user_id}
    if operation == "complete":
        sent["AmountPaid"] = 5
    refused(both.post(operation, **sent), 422, "invalid-fields", "user_id")


# complete and refund


@pytest.mark.parametrize("amount", ["AmountPaid", "amount_paid", "amount"])
def test_complete_pays_out_once(both, amount):
    user, partner = make_user(), make_partner()
    link = make_link(partner=partner, callback_url=POSTBACK, currency="EUR")
    done = make_transaction(link, user=user)
    sent = {"item_id": "course-7", "user_id": user.pk, amount: "49.90", "currency": "EUR"}
    answer = both.post("complete", **sent, order_id="A-17", adv_sub2="autumn", payout="5.5")
    assert answer.json() == {"completed": True, "transaction": done.pk}
    done.refresh_from_db()
    assert (done.state, done.amount_minor, done.currency) == ("completed", 4990, "EUR")
    assert (done.order_id, done.given) == ("A-17", {"adv_sub2": "autumn", "payout": "5.5"})
    assert "amount=49.90" in Callback.objects.get().url
    again = both.post("complete", **sent, order_id="A-17")
    assert (again.status_code, again.json()) == (200, answer.json())
    assert Callback.objects.count() == 1


def test_complete_takes_exact_numbers(client):
    user = make_user()
    make_transaction(user=user)
    body = f'{{"item_id": "course-7", "user_id": {user.pk}, "AmountPaid": 0.29}}'
    headers = {"authorization": f"Bearer {make_key()}"}
    kind = "application/json"
    client.post("/api/links/complete", body, content_type=kind, headers=headers)
    assert Transaction.objects.get().money.amount == Decimal("0.29")


def test_an_idempotency_key_is_its_callers(client):
    user, key, another = make_user(), make_key(), make_key()
    first, second = make_transaction(user=user), make_transaction(make_link(item_id="b"), user=user)
    sent = {"item_id": "course-7", "user_id": user.pk, "AmountPaid": 5}
    program = Program(client, key)
    answers = [program.send("POST", "complete", sent, idempotency_key="k-1") for _ in range(2)]
    assert [each.json()["transaction"] for each in answers] == [first.pk, first.pk]
    answer = program.send("POST", "complete", {**sent, "AmountPaid": 6}, idempotency_key="k-1")
    refused(answer, 409, "idempotency-conflict")
    # The same word of another program's is another key.
    other = Program(client, another)
    answer = other.send("POST", "complete", {**sent, "item_id": "b"}, idempotency_key="k-1")
    assert answer.json()["transaction"] == second.pk
    long = program.send("POST", "complete", sent, idempotency_key="k" * 256)
    refused(long, 422, "invalid-fields", "Idempotency-Key")


@pytest.mark.parametrize(
    ("sent", "code", "field"),
    [
        ({"AmountPaid": 0}, "amount-not-positive", "AmountPaid"),
        ({"amount_paid": "-1"}, "amount-not-positive", "amount_paid"),
        ({"amount": "10.00"}, "below-floor-price", "amount"),
        ({"AmountPaid": 11}, "below-service-fee", "AmountPaid"),
        ({"AmountPaid": 50, "currency": "USD"}, "currency-mismatch", "currency"),
        ({"AmountPaid": 50, "currency": "XXX"}, "invalid_money", "currency"),
        ({"AmountPaid": "12.345"}, "invalid_money", "AmountPaid"),
        ({"AmountPaid": 2**63 - 1}, "invalid_money", "AmountPaid"),
        ({"AmountPaid": "1e3"}, "invalid_money", "AmountPaid"),
        ({"AmountPaid": "NaN"}, "invalid_money", "AmountPaid"),
        ({"AmountPaid": "１２"}, "invalid_money", "AmountPaid"),
        ({"AmountPaid": ""}, "invalid-fields", "AmountPaid"),
        ({"AmountPaid": None}, "invalid-fields", "AmountPaid"),
        ({"AmountPaid": [5]}, "invalid-fields", "AmountPaid"),
        ({}, "invalid-fields", "AmountPaid"),
        ({"AmountPaid": 50, "order_id": "x" * 201}, "invalid-fields", "order_id"),
        ({"AmountPaid": 50, "order_id": "a\tb"}, "invalid-fields", "order_id"),
        ({"AmountPaid": 50, "payout": "x" * 201}, "invalid-fields", "payout"),
        ({"AmountPaid": 50, "adv_sub": {}}, "invalid-fields", "adv_sub"),
        ({"AmountPaid": 50, "adv_sub6": "x"}, "invalid-fields", "adv_sub6"),
    ],
    ids=str,
)
def test_complete_refuses_and_changes_nothing(api, settings, sent, code, field):
    settings.AFFILIATE_LINKS_MINIMUM_SERVICE_FEE = "12"
    user = make_user()
    make_transaction(make_link(floor_minor=1000, currency="EUR"), user=user)
    answer = api.post("complete", item_id="course-7", user_id=user.pk, **sent)
    refused(answer, 422, code, field)
    assert Transaction.objects.get().state == "open"


def test_complete_needs_an_open_transaction(both):
    user = make_user()
    sent = {"item_id": "course-7", "user_id": user.pk, "AmountPaid": 5}
    refused(both.post("complete", **sent), 404, "no-open-transaction")
    make_transaction(user=user, state="fulfilled")
    refused(both.post("complete", **sent), 409, "already-fulfilled")


def test_as_much_as_there_may_be_given_does_no_harm(api):
    user = make_user()
    make_transaction(make_link(callback_url=POSTBACK + "&x={adv_sub}{promo_code}"), user=user)
    wide = "\U0001f600" * 200
    given = dict.fromkeys(("adv_sub", "promo_code", "adv_unique1"), wide)
    sent = {"item_id": "course-7", "user_id": user.pk, "AmountPaid": 5, "order_id": wide}
    assert api.post("complete", **sent, **given).status_code == 200


def test_refund_holds_the_payout_back(both):
    user = make_user()
    make_transaction(make_link(partner=make_partner()), user=user)
    sent = {"item_id": "course-7", "user_id": user.pk}
    refused(both.post("refund", **sent), 404, "nothing-to-refund")
    done = both.post("complete", **sent, AmountPaid=5, order_id="A-17").json()["transaction"]
    refused(both.post("refund", **sent, order_id="A-18"), 404, "nothing-to-refund")
    for _ in range(2):
        answer = both.post("refund", **sent, order_id="A-17")
        assert answer.json() == {"refunded": True, "transaction": done}
    assert Transaction.objects.get().state == "refunded"
    assert not Conversion.objects.standing().exists()


# Who may


def test_without_a_key_nothing_is_told(client):
    answer = client.get("/api/links/list")
    refused(answer, 401, "authentication-required")
    assert answer["WWW-Authenticate"] == 'Bearer realm="affiliations"'


@pytest.mark.parametrize(
    "header",
    ["Basic YTpi", "Bearer", "Bearer x", "Bearer aff_12345678.x", "aff_x", "\xff\xfe", "é"],
)
def test_what_is_no_key_is_refused(client, header):
    answer = client.get("/api/links/list", headers={"authorization": header})
    refused(answer, 401, "invalid-api-key")


def test_a_key_needs_its_scope_and_ends_when_it_is_revoked(client):
    token = make_key(scopes=["links:read"])
    program = Program(client, token)
    assert program.get("list").status_code == 200
    refused(program.send("DELETE", "delete/abc"), 401, "invalid-api-key")
    ApiKey.objects.get().revoke()
    refused(program.get("list"), 401, "invalid-api-key")


def staff(*permissions, **fields):
    """Return a browser of somebody's who may log in to the admin, and this."""
    user = make_user()
    user.is_staff = True
    for name, value in fields.items():
        setattr(user, name, value)
    user.save()
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    return client


def test_staff_need_the_permission_of_the_admin():
    link = make_link()
    refused(Program(staff("add_link")).get("list"), 403, "permission-denied")
    refused(
        Program(staff("view_link", is_active=False)).get("list"), 401, "authentication-required"
    )
    refused(Program(staff("view_link", is_staff=False)).get("list"), 401, "authentication-required")
    assert Program(staff("view_link")).get(link.path).status_code == 200
    assert Program(staff(is_superuser=True)).get("list").status_code == 200


@pytest.mark.parametrize("form", [None, "form", "multipart"])
def test_a_login_needs_the_token_of_its_page_for_what_changes_something(form):
    browser = staff("add_link", "delete_link")
    sent = {"item_id": "c-7", "MarketingLandingPage": PAGE}

    def post(**headers):
        if form == "multipart":
            return browser.post("/api/links/generate", sent, headers=headers)
        return Program(browser, form=bool(form)).send("POST", "generate", sent, **headers)

    refused(post(), 403, "csrf-failed")
    browser.get("/admin/login/?next=/")
    browser.cookies["csrftoken"] = token = "t" * 32
    refused(post(x_csrftoken="u" * 32), 403, "csrf-failed")
    assert post(x_csrftoken=token).status_code == 201
    if form:
        # As a page's own form has it.
        sent["csrfmiddlewaretoken"] = token
        assert post().status_code == 201
    link = Link.objects.first()
    address = f"/api/links/delete/{link.path}"
    refused(browser.delete(address), 403, "csrf-failed")
    assert browser.delete(address, headers={"x-csrftoken": token}).status_code == 204


# What cannot be read


def send(client, body, kind="application/json", token=None, **extra):
    return client.post(
        "/api/links/fulfill",
        body,
        content_type=kind,
        headers={"authorization": f"Bearer {token or make_key()}"},
        **extra,
    )


@pytest.mark.parametrize("body", ["", "{}"])
def test_nothing_sent_is_nothing_given(client, body):
    refused(send(client, body), 422, "invalid-fields", "item_id", "user_id")


def test_a_body_has_a_most(client):
    refused(send(client, " " * (requestbody.MAX_BODY + 1)), 413, "body-too-large")
    for declared in (str(requestbody.MAX_BODY + 1), "9" * 5000):
        answer = send(client, "{}", CONTENT_LENGTH=declared)
        refused(answer, 413, "body-too-large")
    refused(send(client, "{}", CONTENT_LENGTH="-1"), 400, "unreadable-body")
    refused(send(client, "{}", CONTENT_LENGTH="x"), 400, "unreadable-body")
    fits = '{"item_id": "a", "user_id": "x"}'.ljust(requestbody.MAX_BODY)
    refused(send(client, fits), 422, "invalid-fields", "user_id")


def test_a_site_may_allow_less(client, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    refused(send(client, '{"item_id": "a", "user_id": "x"}'), 413, "body-too-large")


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/xml",
        "application/json; charset=utf-16",
        "application/x-www-form-urlencoded; charset=latin-1",
        "nonsense",
        "",
    ],
)
def test_other_kinds_are_not_taken(client, kind):
    refused(send(client, "{}", kind), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "kind", ["application/json; charset=UTF-8", "APPLICATION/JSON", "application/json;charset=utf8"]
)
def test_json_may_say_that_it_is_utf_8(client, kind):
    refused(send(client, "{}", kind), 422, "invalid-fields", "item_id", "user_id")


def test_a_form_of_several_parts_is_a_form(client):
    user = make_user()
    make_transaction(user=user)
    headers = {"authorization": f"Bearer {make_key()}"}
    sent = {"item_id": "course-7", "user_id": user.pk}
    assert client.post("/api/links/fulfill", sent, headers=headers).json() == {"fulfilled": 1}


def test_a_body_whose_length_nobody_has_said_has_the_same_most():
    headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    said = ASGIRequest(scope, BytesIO(b'{"a": 1}'))
    assert requestbody.read(said) == {"a": 1}
    with pytest.raises(requestbody.BodyTooLarge):
        requestbody.read(ASGIRequest(scope, BytesIO(b" " * (requestbody.MAX_BODY + 1))))


def test_it_answers_under_asgi_too(both_clients):
    program = Program(both_clients, make_key())
    made = program.post("generate", item_id=7, MarketingLandingPage=PAGE).json()
    refused(program.send("DELETE", "delete?path=é"), 404, "unknown-link")
    assert program.send("DELETE", f"delete?path={made['UniquePath']}").status_code == 204
    refused(program.get(made["UniquePath"]), 404, "unknown-link")
    refused(program.send("PUT", "list", {}), 405, "method-not-allowed")


class TakesFormsApart:
    """A middleware of a site's, that looks at every form."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        request.POST.get("x")
        return self.get_response(request)


def test_a_form_may_have_been_taken_apart_before(client, settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.TakesFormsApart"]
    user = make_user()
    make_transaction(user=user)
    headers = {"authorization": f"Bearer {make_key()}"}
    sent = {"item_id": "course-7", "user_id": user.pk}
    assert client.post("/api/links/fulfill", sent, headers=headers).json() == {"fulfilled": 1}
    form = Program(client, make_key(), form=True)
    assert form.post("fulfill", **sent).json() == {"fulfilled": 0}
    broken = client.post(
        "/api/links/fulfill",
        b'--x\r\nContent-Disposition: form-data; name="item_id"\r\n\r\n\xff\r\n--x--\r\n',
        content_type="multipart/form-data; boundary=x",
        headers=headers,
    )
    refused(broken, 422, "invalid-fields", "item_id")


def test_a_body_reads_as_numbers_that_are_exact():
    def read(body):
        request = RequestFactory().post("/", body, content_type="application/json")
        return requestbody.read(request)

    found = read('{"a": 1.10, "b": 7, "c": [1e2, null, true], "d": "\\ud83d\\ude00"}')
    assert found == {
        "a": Decimal("1.10"),
        "b": 7,
        "c": [Decimal("1e2"), None, True],
        "d": "\U0001f600",
    }
    assert [type(each) for each in found.values()] == [Decimal, int, list, str]
    assert read('{"a": %s}' % ("[" * 7 + "]" * 7)) == {"a": [[[[[[[]]]]]]]}
    with pytest.raises(requestbody.InvalidFields):
        read('{"a": %s}' % ("[" * 8 + "]" * 8))


# What is not there


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("get", "/api/links/"),
        ("get", "/api/links/a/b"),
        ("post", "/api/links/a/b/"),
        ("delete", "/api/links/delete/a/b"),
        ("post", "/api/links/generate/"),
    ],
)
def test_an_address_that_is_not_in_use(method, address):
    client = Client(enforce_csrf_checks=True)
    refused(getattr(client, method)(address), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("post", "list", "GET"),
        ("get", "generate", "POST"),
        ("put", "complete", "POST"),
        ("post", "delete/x", "DELETE"),
        ("patch", "some-path", "GET"),
        ("options", "refund", "POST"),
    ],
)
def test_another_method(client, method, address, allowed):
    answer = getattr(client, method)(f"/api/links/{address}")
    refused(answer, 405, "method-not-allowed")
    assert answer["Allow"] == allowed


def test_what_nobody_foresaw_is_not_hidden(api, monkeypatch):
    monkeypatch.setattr(services, "find_link", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        api.get("anything")


# The document


def test_the_document_is_the_one_that_was_reviewed(client):
    answer = client.get("/api/links/openapi.json")
    found = json.dumps(answer.json(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if os.environ.get("AFFILIATIONS_WRITE_OPENAPI"):
        SNAPSHOT.write_text(found, encoding="utf-8")
    assert found == SNAPSHOT.read_text(encoding="utf-8"), (
        "The API has changed. If it should have: "
        "AFFILIATIONS_WRITE_OPENAPI=1 pytest tests/links/test_api.py -k document"
    )


def test_the_document_has_examples_forms_and_the_key(client):
    document = client.get("/api/links/openapi.json").json()
    scheme = document["components"]["securitySchemes"]["Bearer"]
    assert scheme == {"type": "http", "scheme": "bearer"}
    schemas = document["components"]["schemas"]
    for address, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["security"] == [{"Bearer": []}], address
            assert {"401", "403", "422"} <= operation["responses"].keys(), address
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]
                assert {*content} == {requestbody.JSON, requestbody.FORM, requestbody.MULTIPART}
                assert {"400", "413", "415"} <= operation["responses"].keys(), address
    named = {name for name in schemas if name not in ("OtherPage", "FieldError")}
    assert all(schemas[name]["examples"] for name in named)


elsewhere = [
    path("here/", include("affiliations.links.api_urls", namespace="another_name")),
    path("there/", include(("affiliations.links.api_urls", "x"), namespace="y")),
    path("also/<int:site>/", lambda request, site: HttpResponse()),
]
urlpatterns = elsewhere


@pytest.mark.urls(__name__)
def test_a_site_mounts_it_anywhere_and_without_the_router(client):
    for mounted in ("here", "there"):
        document = client.get(f"/{mounted}/openapi.json").json()
        assert f"/{mounted}/generate" in document["paths"]
        page = client.get(f"/{mounted}/docs")
        assert page.status_code == 200
        assert '"openapi.json"' in page.content.decode()
    headers = {"authorization": f"Bearer {make_key()}"}
    sent = {"item_id": "c-7", "MarketingLandingPage": PAGE, "deep_path": "/x"}
    answer = client.post(
        "/here/generate", sent, content_type="application/json", headers=headers
    ).json()
    assert (answer["url"], answer["deep_link"]) == (None, None)


WITHOUT_NINJA = """
import sys
from importlib import import_module
sys.modules["ninja"] = None
import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import override_settings
django.setup()
with override_settings(ROOT_URLCONF="affiliations.links.urls"):
    call_command("check")
for name in ("links", "referrals"):
    try:
        import_module(f"affiliations.{name}.api_urls")
    except ImproperlyConfigured as error:
        print(name, error)
"""


def test_nothing_but_the_api_needs_ninja():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_NINJA],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.projects.base"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = "The REST API needs django-ninja: pip install 'django-affiliations[api]'"
    assert done.stdout.splitlines()[-2:] == [f"links {said}", f"referrals {said}"]
