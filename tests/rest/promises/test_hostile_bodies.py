"""Hostile bodies, sent to every operation of each API that takes one: refused, and no harm done.

Each operation gets what is hostile as a whole, and its own valid body with one field made hostile.
"""

import json
import logging
from collections import Counter

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.urls import include, path

from affiliations.links.models import Transaction
from tests.links.factories import make_link
from tests.links.rest import LinksSender
from tests.referrals.rest import ReferralsSender
from tests.rest.hostile import BODIES, JSON, VALUES

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

SENDERS = (LinksSender, ReferralsSender)
#: Every operation that takes a body, with who sends to it.
each_operation = pytest.mark.parametrize(
    ("kind", "operation"),
    [
        pytest.param(kind, operation, id=f"{kind.mount} {operation}")
        for kind in SENDERS
        for operation in kind.operations()
    ],
)


def naive(request):
    """Collect as one does who trusts whoever calls: the fields go into rows as they come."""
    told = json.loads(request.body)
    link = make_link(item_id=told["item_id"])
    Transaction.objects.create(
        link=link,
        path=link.path,
        item_id=told["item_id"],
        open_key=f"naive {told['user_id']}",
        order_id=told.get("order_id", ""),
        query=told,
        clicks=told.get("clicks", 1),
    )
    return HttpResponse()


urlpatterns = [path("naive", naive), path("", include("tests.projects.urls"))]


@pytest.fixture(autouse=True)
def _quietly():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@each_operation
def test_hostile_values_are_refused_field_by_field(kind, operation):
    sender = kind()
    before = sender.rows()
    for field in sender.valid[operation]:
        for value in VALUES:
            if value not in sender.fitting.get(field, ()):
                status = sender.send(operation, sender.with_one(operation, value, field), JSON)
                assert 400 <= status < 500, (field, value[:50], status)
    assert sender.rows() == before


@each_operation
def test_hostile_bodies_are_refused(kind, operation):
    sender = kind()
    before = sender.rows()
    for body, media in BODIES:
        status = sender.send(operation, body, media)
        # What has no fields in it may be taken, and changes nothing.
        nothing = status == 200 and operation in sender.take_nothing
        assert nothing or 400 <= status < 500, (body[:50], media[:50], status)
    assert sender.rows() == before


@each_operation
def test_what_is_not_hostile_is_taken(kind, operation):
    sender = kind()
    for earlier in sender.before.get(operation, ()):
        assert sender.send(earlier, json.dumps(sender.valid[earlier]).encode(), JSON) == 200
    body = json.dumps(sender.valid[operation]).encode()
    assert sender.send(operation, body, JSON) in (200, 201, 204)


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b"{" * 5000, b"a=%00"])
def test_a_path_to_delete_may_be_hostile_too(body):
    sender = LinksSender()
    before = sender.rows()
    for address in ("a%00b", "%ff", "%ed%a0%80", "x" * 5000, "a%2Fb", "..", "%0d%0a", "{{}}"):
        status = sender.send(f"DELETE /delete/{address}", body, JSON)
        assert status == 404
        status = sender.send(f"DELETE /delete?path={address}", b"", JSON)
        assert status in (404, 422)
    assert sender.rows() == before


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b"{" * 5000, b"a=%00"])
def test_a_program_or_hash_may_be_hostile_too(body):
    sender = ReferralsSender()
    before = sender.rows()
    for address in ("a%00b", "%ff", "%ed%a0%80", "9" * 5000, "a%2Fb", "..", "%0d%0a", "{{}}", "²"):
        for operation in ("DELETE /program/", "PUT /program/", "GET /program/", "GET /statement/"):
            for slash in ("", "/"):
                status = sender.send(f"{operation}{address}{slash}", body, JSON)
                assert status in (404, 400 if operation.startswith("PUT") else 404)
        status = sender.send(f"PUT /invoice/user/{address}/", b'{"total_amount_paid": 1}', JSON)
        assert status == 404
    assert sender.rows() == before


def test_there_are_enough_of_them():
    assert len(VALUES) + len(BODIES) >= 100
    for kind in SENDERS:
        assert set(kind().valid) == set(kind.operations())


def test_teeth_a_collector_that_reads_whatever_comes():
    sender = LinksSender()
    bodies = [each for each in BODIES if each[1] == JSON]
    for field in ("item_id", "order_id", "clicks"):
        bodies += [(sender.with_one("POST /complete", value, field), JSON) for value in VALUES]
    seen: Counter[int] = Counter()
    for body, kind in bodies:
        with transaction.atomic():
            answer = sender.client().post("/naive", body, content_type=kind)
            seen[answer.status_code] += 1
            transaction.set_rollback(True)
    assert seen[500] >= 10, seen
