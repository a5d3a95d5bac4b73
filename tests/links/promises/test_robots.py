"""Robots and prefetches are led to the landing page and leave nothing, and so do strangers.

Row I4 of the promises, for the router.
"""

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext

from affiliations import middleware
from affiliations.links import routing
from affiliations.links.models import Transaction
from affiliations.models import Visitor
from tests.core.factories import make_partner
from tests.core.promises.test_robots import CARELESS, DISGUISED, PROFILES, ways
from tests.links.factories import NETWORK_ID, make_link

pytestmark = pytest.mark.django_db


@pytest.fixture
def address():
    link = make_link(partner=make_partner())
    return f"/router/{link}?transaction_id={NETWORK_ID}"


def left_behind():
    return Transaction.objects.count() + Visitor.objects.count() + Session.objects.count()


def robots_that_leave_something(new_client, address):
    found = []
    for agent in PROFILES:
        for way, response in ways(new_client(), address, agent):
            assert response.status_code == (405 if way == "OPTIONS" else 302), (agent, way)
            if left_behind() or response.cookies:
                found.append((agent, way))
                for table in (Transaction, Visitor, Session):
                    table.objects.all().delete()
    return found


def test_robots_and_prefetches_leave_nothing(new_client, address):
    assert robots_that_leave_something(new_client, address) == []


def test_a_person_who_clicks_is_recorded(new_client, address):
    for number, agent in enumerate(DISGUISED.values(), start=1):
        answer = new_client().get(address, headers={"user-agent": agent})
        assert answer.status_code == 302
        assert Transaction.objects.count() == Visitor.objects.count() == number


@pytest.mark.parametrize(
    ("name", "careless", "caught"), [each for each in CARELESS if each[0] != "refer"]
)
def test_teeth_a_router_that_does_not_look(
    new_client, monkeypatch, address, name, careless, caught
):
    monkeypatch.setattr(middleware, name, careless)
    assert {way for _, way in robots_that_leave_something(new_client, address)} == caught


def test_teeth_a_router_that_takes_head_for_a_click(new_client, monkeypatch, address):
    lead = routing.lead

    def careless(request, route, token):
        request.method = "GET"
        return lead(request, route, token)

    monkeypatch.setattr(routing, "lead", careless)
    assert {way for _, way in robots_that_leave_something(new_client, address)} == {"HEAD"}


def strangers(client_class, number, address):
    """Let so many browsers come that no network has sent; return what it has cost."""
    routing.forget_all()
    client_class().get(address)
    cookies = 0
    with CaptureQueriesContext(connection) as queries:
        for count in range(number):
            response = client_class().get(f"{address}?page={count}")
            cookies += bool(response.cookies) + response.has_header("Vary")
    return {"queries": len(queries), "cookies": cookies, "left behind": left_behind()}


@pytest.mark.parametrize("number", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_whom_no_network_has_sent_costs_no_query_and_gets_no_cookie(
    new_client, number, address, monkeypatch
):
    monkeypatch.setattr("affiliations.remembered.LIFETIME", 3600)
    bare = address.partition("?")[0]
    assert strangers(new_client, number, bare) == {"queries": 0, "cookies": 0, "left behind": 0}


def test_teeth_a_gate_that_is_open(new_client, address, settings):
    settings.AFFILIATE_LINKS_GATE = "open"
    assert min(strangers(new_client, 10, address.partition("?")[0]).values()) >= 10
