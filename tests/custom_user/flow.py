"""The core under `tests.projects.custom_user`; run by tests/core/test_upgrade.py as a process.

Not named as a test: under the settings of the other tests there is no such user.
"""

import json
from io import StringIO
from uuid import UUID

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection

from affiliations.links.models import Link, Transaction
from affiliations.links.services import complete, refund
from affiliations.models import Conversion, Visitor
from affiliations.privacy import export_user, forget_user
from affiliations.testing import assert_converted, refer
from tests.core.factories import make_partner, make_visitor
from tests.links.factories import Program, click, make_key, make_link, make_transaction
from tests.shop.models import Order

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


def test_nobody_is_staff_where_the_users_know_none(client):
    client.force_login(get_user_model().objects.create_user("ada@example.com"))
    assert Program(client).get("list").status_code == 401
