"""The core under `tests.projects.custom_user`; run by tests/core/test_upgrade.py as a process.

Not named as a test: under the settings of the other tests there is no such user.
"""

import json
from datetime import timedelta
from io import StringIO
from uuid import UUID

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from affiliations.experiments.explaining import explain
from affiliations.experiments.models import Assignment, Variation
from affiliations.experiments.results import results
from affiliations.links.models import Link, Transaction
from affiliations.links.services import complete, refund
from affiliations.models import ApiKey, Conversion, Visitor
from affiliations.privacy import export_user, forget_user
from affiliations.testing import assert_converted, refer
from affiliations.tracking.models import Hit
from tests.core.factories import make_partner, make_visitor
from tests.experiments.environment import Environment
from tests.experiments.factories import make_campaign
from tests.experiments.worlds import DAY, saw
from tests.links.factories import Program, click, make_key, make_link, make_transaction
from tests.shop.models import Order
from tests.tracking.factories import make_property, say

pytestmark = pytest.mark.django_db


def test_the_project_is_the_one_that_is_meant():
    assert get_user_model()._meta.label == "custom_user.Account"
    assert "auth_user" not in connection.introspection.table_names()
    call_command("check", "--database", "default")
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_a_click_a_sign_up_and_an_order(both_clients):
    partner = make_partner({"User registered": "", "Order placed": ""})
    visitor = refer(both_clients, partner, "/?page=9")
    path = "/asignup/" if both_clients.is_async else "/signup/"
    # Its signal finds the login backend; the site's own view would do it with a password.
    both_clients.post(path, {"username": "ada@example.com"})
    [conversion] = assert_converted("User registered", partner=partner)
    user = get_user_model().objects.get()
    assert isinstance(user.pk, UUID)
    visitor.refresh_from_db()
    assert visitor.user == conversion.user == user
    both_clients.post("/order/", {"number": "A-1", "total": "12.50"})
    assert_converted("Order placed", partner=partner, user=user)


def test_outside_of_a_request():
    user = get_user_model().objects.create_user("ada@example.com")
    visitor = make_visitor(make_partner({"Order placed": ""}), user=user)
    Order.objects.create(number="A-1", user=user, total=1)
    [conversion] = assert_converted("Order placed", user=user)
    assert conversion.visitor == visitor


def test_a_partner_has_people_of_that_model():
    user = get_user_model().objects.create_user("ada@example.com")
    partner = make_partner()
    partner.users.add(user)
    assert list(user.affiliate_partners.all()) == [partner]
    field = apps.get_model("affiliations", "Partner_users")._meta.get_field("account")
    assert field.related_model is get_user_model()


def test_a_click_through_a_link_and_what_comes_of_it(both_clients, settings):
    settings.AFFILIATE_CALLBACK_ALLOW = ["127.0.0.0/8"]
    partner = make_partner()
    link = make_link(partner=partner, callback_url="http://127.0.0.1:9/{transaction_id}")
    click(both_clients, link)
    path = "/asignup/" if both_clients.is_async else "/signup/"
    both_clients.post(path, {"username": "ada@example.com"})
    click(both_clients, link)
    user = get_user_model().objects.get()
    [found] = Transaction.objects.all()
    assert (found.user, found.clicks, found.visitor.partner) == (user, 2, partner)
    done = complete(item_id=link.item_id, user=user, amount="20", order_id="A-1")
    assert complete(item_id=link.item_id, user=user, amount="20", order_id="A-1") == done == found
    assert done.conversion.user == user
    assert refund(item_id=link.item_id, user=user).relay.state == "canceled"
    assert export_user(user)["links"][0]["order"] == "A-1"
    assert forget_user(user)["transactions"] == 1


def test_what_is_held_is_shown_erased_and_purged():
    user = get_user_model().objects.create_user("ada@example.com")
    visitor = make_visitor(make_partner({"Order placed": ""}), user=user)
    Order.objects.create(number="A-1", user=user, total=1)
    out = StringIO()
    call_command("export_user", "ada@example.com", stdout=out)
    assert json.loads(out.getvalue()) == json.loads(json.dumps(export_user(user)))
    assert json.loads(out.getvalue())["user"] == str(user.pk)
    forget_user(user)
    visitor.refresh_from_db()
    assert visitor.user is None
    assert Conversion.objects.get().user is None
    out = StringIO()
    call_command("purge_visitors", "--older-than", "400d", stdout=out)
    assert out.getvalue() == "0 visitors deleted.\n"
    assert Visitor.objects.count() == 1


def test_the_api_knows_these_users_and_local_time(client):
    program = Program(client, make_key())
    page = {"item_id": "course-7", "MarketingLandingPage": "https://shop.example/"}
    until = program.post("generate", **page, valid_until="2030-01-01T00:00:00+00:00")
    assert until.status_code == 201
    assert Link.objects.get().valid_until.tzinfo is None
    user = get_user_model().objects.create_user("ada@example.com")
    make_transaction(Link.objects.get(), user=user)
    paid = {"item_id": "course-7", "AmountPaid": 5}
    for unknown in (7, "x", "0" * 32, "f" * 36):
        assert program.post("complete", **paid, user_id=unknown).status_code == 422
    assert program.post("complete", **paid, user_id=str(user.pk)).status_code == 200
    assert Transaction.objects.get().user == user


def test_what_an_experiment_has_led_to(client):
    shop = make_property()
    campaign = make_campaign(shop, slug="checkout")
    user = get_user_model().objects.create_user("ada@example.com")
    make_visitor(make_partner({"Order placed": ""}), user=user)
    say(shop, f"user:{user.pk}")
    blue = Variation.objects.select_related("group__campaign").get(name="Blue")
    saw(blue, f"user:{user.pk}", 0, exposed_on=timezone.now() - timedelta(hours=1))
    Order.objects.create(number="A-1", user=user, total=1)
    # Of somebody else.
    Order.objects.create(number="A-2", user=get_user_model().objects.create_user("b"), total=1)
    since = timezone.now() - timedelta(days=1)
    [group] = results(campaign, "trigger:Order placed", since=since, days=1).groups
    assert [(each.visitors, each.rates.conversions) for each in group.variations] == [
        (0, 0),
        (1, 1),
    ]
    _, key = ApiKey.objects.issue(name="x", scopes=["experiments:read"])
    query = {"goal": "trigger:Order placed", "since": "2026-01-01T00:00:00+01:00"}
    address = "/api/experiments/campaigns/checkout/results"
    answer = client.get(address, query, headers={"authorization": f"Bearer {key}"}).json()
    assert answer["groups"][0]["variations"][1]["conversion"]["conversions"] == 1
    assert answer["since"] == "2025-12-31T23:00:00Z"


def test_what_flagships_clients_are_told_and_tell(client):
    env = Environment()
    now = timezone.now()
    campaign = make_campaign(env.prop, starts_on=now - timedelta(hours=1), ends_on=now + DAY)
    color = env.flags(client, "ada")["color"]
    shown = Variation.objects.select_related("group").get(
        name={"red": "Original"}.get(color, "Blue")
    )
    env.activate(client, "ada", shown, qt=5000)
    env.collect(client, {"t": "SCREENVIEW", "dl": "home", "vid": "ada", "qt": 5000})
    seen, hit = Assignment.objects.get(), Hit.objects.get(type="screen")
    assert now - DAY < seen.exposed_on < timezone.now() - timedelta(seconds=4)
    assert now - DAY < hit.happened_on < timezone.now() - timedelta(seconds=4)
    assert explain("ada", campaign).sees.variation_id == shown.uid
    stamp = client.get(f"/flagship/{env.id}/bucketing.json")["Last-Modified"]
    headers = {"if-modified-since": stamp}
    assert client.get(f"/flagship/{env.id}/bucketing.json", headers=headers).status_code == 304


def test_nobody_is_staff_where_the_users_know_none(client):
    client.force_login(get_user_model().objects.create_user("ada@example.com"))
    assert Program(client).get("list").status_code == 401
