"""Triggers: how signals of a site become conversions, and what they cost where they do not."""

import logging
import subprocess
import sys
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser
from django.core import serializers
from django.db import IntegrityError, connection, transaction
from django.test import RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext

from affiliations import triggers
from affiliations.exceptions import InvalidMoney
from affiliations.firing import resolve_sender
from affiliations.models import Callback, Conversion, Visitor
from affiliations.testing import assert_converted, assert_not_converted, freeze, refer
from affiliations.triggers import (
    Trigger,
    acomplete_trigger,
    complete_trigger,
    object_saved,
)
from tests.core.factories import make_partner, make_user, make_visitor
from tests.shop.models import Order
from tests.shop.signals import order_paid

pytestmark = pytest.mark.django_db

POST_SAVE = "django.db.models.signals.post_save"
CREATED = "affiliations.triggers.object_created"
URL = "https://partner.example/?v={visitor_id}"


def declare(*declared):
    return override_settings(AFFILIATE_TRIGGERS=declared)


def place(number="A-1", user=None, total="12.50", **fields):
    return Order.objects.create(number=number, user=user, total=Decimal(total), **fields)


def request_of(visitor, user=None):
    request = RequestFactory().get("/")
    request.affiliate_visitor = visitor
    request.user = user or AnonymousUser()
    return request


# Whom a conversion belongs to


def test_outside_of_a_request_the_users_visitor_is_found():
    user = make_user()
    visitor = make_visitor(make_partner({"Order placed": ""}), user=user)
    place(user=user)
    [conversion] = assert_converted("Order placed", user=user)
    assert conversion.visitor == visitor
    assert conversion.decision["candidates"][0]["known_from"] == "user"


def test_outside_of_a_request_nobody_else_is_credited():
    make_visitor(make_partner({"Order placed": ""}), user=make_user())
    make_visitor(make_partner({"Order placed": ""}))
    place(user=make_user())
    place(number="A-2", user=None)
    assert_not_converted("Order placed")


def test_an_order_that_staff_enter_is_the_customers_own(new_client):
    staff_partner = make_partner({"Order placed": ""})
    customer = make_user()
    theirs = make_visitor(make_partner({"Order placed": ""}), user=customer)
    staff = make_user()
    visitor = make_visitor(staff_partner)
    trigger = "Order placed"
    order = Order(number="A-1", user=customer, total=1)
    order.pk = 1
    conversion = complete_trigger(request_of(visitor, staff), trigger, instance=order)
    assert conversion.visitor == theirs


def test_the_trigger_may_name_user_visitor_reference_and_worth():
    visitor = make_visitor(make_partner({"Paid": URL + "&a={amount}&c={currency}&r={reference}"}))
    trigger = Trigger(
        "Paid",
        "tests.shop.signals.order_paid",
        "affiliations.triggers.signal_sent",
        "shop.Order",
        visitor=lambda order: visitor,
        amount="total",
        currency="currency",
        reference=lambda order: f"no {order.number}",
    )
    with declare(trigger):
        place().pay()
    [conversion] = assert_converted("Paid", reference="no A-1")
    assert str(conversion.money) == "12.50 EUR"
    callback = Callback.objects.get()
    assert callback.url == f"https://partner.example/?v={visitor.pk}&a=12.50&c=EUR&r=no%20A-1"


@pytest.mark.parametrize(("currency", "stored"), [("JPY", "JPY"), ("currency", "EUR")])
def test_a_currency_is_a_code_or_a_path(currency, stored):
    make_visitor(make_partner({"Order placed": ""}), user=(user := make_user()))
    trigger = Trigger(
        "Order placed", POST_SAVE, CREATED, "shop.Order", amount="total", currency=currency
    )
    with declare(trigger):
        place(user=user, total="12")
    assert assert_converted("Order placed")[0].currency == stored


def test_a_bad_amount_names_the_field_and_records_nothing(settings, caplog):
    make_visitor(make_partner({"Order placed": ""}), user=(user := make_user()))
    trigger = Trigger(
        "Order placed",
        POST_SAVE,
        CREATED,
        "shop.Order",
        amount=lambda order: float("nan"),
        currency="EUR",
    )
    with declare(trigger), pytest.raises(InvalidMoney, match="amount"):
        place(user=user)
    settings.AFFILIATE_RAISE_TRIGGER_ERRORS = False
    with declare(trigger), transaction.atomic():
        place(number="A-2", user=user)
    assert Order.objects.filter(number="A-2").exists()
    assert "Order placed" in caplog.text
    assert "InvalidMoney" in caplog.text
    assert_not_converted("Order placed")


@pytest.mark.parametrize(
    ("options", "field"),
    [({"user": "ada"}, "user"), ({"visitor": "1"}, "visitor"), ({"visitor": True}, "visitor")],
)
def test_what_is_found_must_be_of_the_kind_that_is_asked_for(options, field):
    with pytest.raises(TypeError, match=f"^{field}: a (str|bool) is n"):
        complete_trigger(None, "Any", **options)


def test_an_instance_need_not_be_a_model():
    visitor = make_visitor(make_partner({"Any": ""}))
    complete_trigger(request_of(visitor), "Any", instance=object())
    assert_converted("Any", reference="once")


# How often it converts


def test_a_signal_that_fires_ten_times_is_one_conversion_and_one_callback():
    make_visitor(make_partner({"Saved": URL}), user=(user := make_user()))
    with declare(("Saved", POST_SAVE, "affiliations.triggers.object_saved", "shop.Order")):
        order = place(user=user)
        for _ in range(9):
            order.save()
    assert_converted("Saved", reference=f"shop.order:{order.pk}")
    assert Callback.objects.count() == 1


def test_a_later_click_elsewhere_does_not_make_the_same_order_convert_again():
    user = make_user()
    first = make_visitor(make_partner({"Saved": ""}), user=user)
    with declare(("Saved", POST_SAVE, "affiliations.triggers.object_saved", "shop.Order")):
        order = place(user=user)
        make_visitor(make_partner({"Saved": ""}), user=user)
        order.save()
    assert assert_converted("Saved")[0].visitor == first


def test_another_persons_save_of_the_same_object_is_another_conversion():
    for _ in range(2):
        visitor = make_visitor(make_partner({"Seen": ""}))
        complete_trigger(request_of(visitor), "Seen", reference="the same page")
    assert_converted("Seen", times=2)


@pytest.mark.parametrize(("repeat", "times"), [(True, 3), (False, 1)])
def test_every_reference_converts_or_only_the_first(repeat, times):
    make_visitor(make_partner({"Order placed": ""}), user=(user := make_user()))
    with declare(Trigger("Order placed", POST_SAVE, CREATED, "shop.Order", repeat=repeat)):
        for number in range(3):
            place(number=f"A-{number}", user=user)
    assert_converted("Order placed", times=times)


def test_without_instance_and_reference_it_converts_once():
    visitor = make_visitor(make_partner({"Any": ""}))
    for _ in range(3):
        complete_trigger(request_of(visitor), "Any")
    assert assert_converted("Any")[0].reference == "once"


def test_references_that_a_collation_would_confuse_are_different_ones():
    visitor = make_visitor(make_partner({"Any": ""}))
    for reference in ("a1", "A1", "á1", "a1 ", "x" * 300, "x" * 301):
        complete_trigger(request_of(visitor), "Any", reference=reference)
    assert_converted("Any", times=6)


def test_hostile_references_are_stored():
    visitor = make_visitor(make_partner({"Any": URL + "&r={reference}"}))
    for reference in ("nul\0", "lone \ud800", "\U0001f600" * 400, "", "a&payout=9999"):
        assert complete_trigger(request_of(visitor), "Any", reference=reference)
    assert "payout%3D9999" in Callback.objects.order_by("pk").last().url


# Which signals


def test_loaddata_fires_nothing():
    user = make_user()
    make_visitor(make_partner({"Order placed": ""}), user=user)
    order = Order(number="A-1", total=1, user=user)
    for loaded in serializers.deserialize("json", serializers.serialize("json", [order])):
        loaded.save()
    assert Order.objects.exists()
    assert_not_converted("Order placed")


def test_a_login_can_be_a_trigger(both_clients):
    partner = make_partner({"Logged in": ""})
    trigger = (
        "Logged in",
        "django.contrib.auth.signals.user_logged_in",
        "affiliations.triggers.user_logged_in",
        None,
    )
    make_user("ada")
    with declare(trigger):
        refer(both_clients, partner)
        for _ in range(2):
            both_clients.post("/login/", {"username": "ada"})
            both_clients.post("/logout/")
    assert assert_converted("Logged in")[0].user.username == "ada"


def test_a_login_on_another_device_finds_the_earlier_visit(new_client):
    partner = make_partner({"Order placed": ""})
    phone, laptop = new_client(), new_client()
    make_user("ada")
    visitor = refer(phone, partner)
    phone.post("/login/", {"username": "ada"})
    laptop.post("/login/", {"username": "ada"})
    assert laptop.get("/whoami/").json() == {"visitor": visitor.pk, "user": "ada"}
    laptop.post("/order/", {"number": "A-1", "total": "1"})
    assert_converted("Order placed", partner=partner)


@pytest.mark.parametrize(
    "sender",
    ["AUTH_USER_MODEL", "auth.User", "django.contrib.auth.models.User", None],
)
def test_senders_are_named_in_many_ways(sender):
    resolved = resolve_sender(sender)
    assert resolved is None or resolved._meta.label == "auth.User"


def test_a_receiver_gets_what_the_predecessors_got():
    seen = []

    def receiver(sender, instance, affiliate_trigger_name, created=None, **kwargs):
        seen.append((sender, instance, affiliate_trigger_name, created))

    with declare(("Custom", POST_SAVE, receiver, Order)):
        order = place()
    assert seen == [(Order, order, "Custom", True)]


# What a failure does


def test_a_failing_receiver_breaks_neither_the_save_nor_the_transaction(settings, caplog):
    settings.AFFILIATE_RAISE_TRIGGER_ERRORS = False

    def receiver(sender, instance, affiliate_trigger_name, **kwargs):
        make_user("half done")
        Order.objects.create(number=instance.number, total=0)  # the number is taken

    with declare(("Custom", POST_SAVE, receiver, "auth.User")), transaction.atomic():
        pass
    with declare(("Custom", POST_SAVE, receiver, "shop.Order")), transaction.atomic():
        order = place()
        assert Order.objects.get() == order  # the transaction is still good for queries
        place(number="A-2")
    assert Order.objects.count() == 2
    assert "Traceback" in caplog.text
    assert "IntegrityError" in caplog.text


def test_a_failing_receiver_undoes_only_itself(settings):
    settings.AFFILIATE_RAISE_TRIGGER_ERRORS = False

    def receiver(sender, instance, affiliate_trigger_name, **kwargs):
        make_user("half done")
        raise RuntimeError

    with declare(("Custom", POST_SAVE, receiver, "shop.Order")), transaction.atomic():
        place()
    assert Order.objects.count() == 1
    assert not Order._meta.get_field("user").related_model.objects.exists()


def test_tests_may_ask_for_the_error_itself():
    def receiver(sender, instance, affiliate_trigger_name, **kwargs):
        raise IntegrityError("mine")

    with (
        declare(("Custom", POST_SAVE, receiver, "shop.Order")),
        pytest.raises(IntegrityError, match="mine"),
        transaction.atomic(),
    ):
        place()


def test_an_option_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="amuont"):
        complete_trigger(None, "Any", amuont=3)


# What it costs


def test_a_trigger_that_does_not_apply_costs_no_query(both_clients, django_assert_num_queries):
    both_clients.get("/")
    with CaptureQueriesContext(connection) as with_triggers:
        both_clients.post("/order/", {"number": "A-1", "total": "1"})
    with declare(), CaptureQueriesContext(connection) as without:
        both_clients.post("/order/", {"number": "A-2", "total": "1"})
    assert len(with_triggers) == len(without)


def test_a_logged_in_user_without_visitor_costs_no_query(client, django_assert_num_queries):
    make_user("ada")
    client.post("/login/", {"username": "ada"})
    with CaptureQueriesContext(connection) as with_triggers:
        client.post("/order/", {"number": "A-1", "total": "1"})
    with declare(), CaptureQueriesContext(connection) as without:
        client.post("/order/", {"number": "A-2", "total": "1"})
    assert len(with_triggers) == len(without)


def test_recording_takes_five_queries_and_one_savepoint(django_assert_num_queries):
    user = make_user()
    make_visitor(make_partner({"Order placed": URL}), user=user)
    success = ["UPDATE"]  # only the visitor's first
    for number in range(2):
        with declare():
            order = place(f"A-{number}", user=user)
        with CaptureQueriesContext(connection) as captured:
            complete_trigger(None, "Order placed", instance=order)
        kinds = [query["sql"].split()[0] for query in captured]
        assert kinds == ["SAVEPOINT", "SELECT", *success, *["INSERT"] * 3, "RELEASE"]
        success = []


# Settings and async


def test_end_on_success_takes_the_visitor_out_of_the_session(both_clients, settings):
    settings.AFFILIATE_END_ON_SUCCESS = True
    partner = make_partner({"User registered": "", "Order placed": ""})
    refer(both_clients, partner)
    both_clients.post("/signup/", {"username": "ada", "login": "0"})
    assert both_clients.get("/whoami/").json()["visitor"] is None
    both_clients.post("/order/", {"number": "A-1", "total": "1"})
    assert_not_converted("Order placed")


def test_it_works_in_async_code():
    visitor = make_visitor(make_partner({"Any": ""}))
    assert async_to_sync(acomplete_trigger)(request_of(visitor), "Any").visitor == visitor


def test_outside_the_window_nobody_is_credited():
    with freeze() as clock:
        user = make_user()
        make_visitor(make_partner({"Order placed": ""}), user=user)
        clock.tick(days=29, hours=23)
        place(user=user)
        assert_converted("Order placed")
        clock.tick(hours=2)
        place(number="A-2", user=user)
        assert_converted("Order placed")


def test_a_custom_signal_without_instance_finds_the_request(rf):
    visitor = make_visitor(make_partner({"Paid": ""}))
    trigger = (
        "Paid",
        "tests.shop.signals.order_paid",
        "affiliations.triggers.signal_sent",
        None,
    )
    with declare(trigger):
        order_paid.send(sender=None, request=request_of(visitor))
    assert_converted("Paid", reference="once")


def test_object_saved_called_by_hand_needs_no_signal():
    make_visitor(make_partner({"Saved": ""}), user=(user := make_user()))
    with declare():
        order = place(user=user)
    object_saved(Order, order, "Saved")
    assert Conversion.objects.get().user == user
    assert Visitor.objects.successful().count() == 1


def test_logging_is_quiet_when_all_is_well(caplog):
    with caplog.at_level(logging.WARNING, "affiliations"):
        make_visitor(make_partner({"Order placed": ""}), user=(user := make_user()))
        place(user=user)
    assert not caplog.records


def test_settings_may_import_trigger_before_there_are_models():
    code = (
        "from affiliations.triggers import Trigger; import sys; "
        "assert 'affiliations.models' not in sys.modules; "
        "print(Trigger('T', 's', 'r', None, amount='total'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "amount='total'" in done.stdout


def test_triggers_has_what_it_says_and_nothing_else():
    for name in triggers.__all__:
        assert callable(getattr(triggers, name))
    with pytest.raises(AttributeError, match="complete"):
        triggers.complete  # noqa: B018
