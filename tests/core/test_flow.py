"""The two flows of the core, from the click to the callback, through a site's own views."""

import pytest

from affiliations.models import Callback, Conversion, Visitor
from affiliations.testing import (
    assert_converted,
    assert_not_converted,
    callback_server,
    deliver,
    refer,
)
from tests.core.factories import make_partner

pytestmark = pytest.mark.django_db


def test_a_click_and_a_sign_up_reach_the_partner(both_clients):
    with callback_server() as server:
        partner = make_partner({"User registered": server.callback_url})
        visitor = refer(both_clients, partner, "/?page=9")
        path = "/asignup/" if both_clients.is_async else "/signup/"
        response = both_clients.post(path, {"username": "ada"})
        assert response.status_code == 201

        [conversion] = assert_converted("User registered", partner=partner)
        visitor.refresh_from_db()
        assert conversion.visitor == visitor
        assert visitor.successful_on is not None
        assert visitor.user.username == "ada"
        assert visitor.entry_point == "http://testserver/?page=9"

        assert deliver() == (1, 1)
        [call] = server.received
        assert call.method == "GET"
        assert call.query["visitor_id"] == str(visitor.pk)
        assert call.query["partner_uid"] == partner.uid
        call.verify(*partner.signing_secrets())
        assert Callback.objects.get().state == Callback.State.DELIVERED


def test_a_second_trigger_still_counts_and_the_first_never_twice(both_clients):
    partner = make_partner({"User registered": "", "Order placed": ""})
    refer(both_clients, partner)
    both_clients.post("/signup/", {"username": "ada"})
    both_clients.post("/order/", {"number": "A-1", "total": "12.50"})
    both_clients.post("/order/", {"number": "A-2", "total": "1.50"})
    assert_converted("User registered", partner=partner)
    assert_converted("Order placed", partner=partner, times=2)
    assert Visitor.objects.successful().count() == 1


def test_nobody_is_credited_without_a_visitor_a_deal_or_a_subscription(both_clients):
    partner = make_partner({"Order placed": ""})
    both_clients.post("/signup/", {"username": "nobody sent"})
    assert_not_converted("User registered")
    refer(both_clients, partner)
    both_clients.post("/signup/", {"username": "ada"})
    assert_not_converted("User registered")
    partner.active = False
    partner.save()
    both_clients.post("/order/", {"number": "A-1", "total": "12.50"})
    assert Conversion.objects.count() == 0
