"""Hostile bodies, made by hand, sent to every operation that takes one: refused, and no harm done.

Each operation gets what is hostile as a whole, and its own valid body with one field made hostile.
"""

import json
import logging
from collections import Counter
from typing import Any

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path

from affiliations.links import routing
from affiliations.links.api import api
from affiliations.links.models import Transaction
from tests.core.factories import make_user
from tests.links.factories import make_key, make_link, make_transaction
from tests.links.promises.test_whose_data import rows

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"
#: In the place of any value, as it stands in JSON: nothing that a field could be.
VALUES = [
    rb'"\u0000"',
    rb'"a\u0000b"',
    b'"a\x00b"',
    rb'"\ud800"',
    rb'"\udfff\ud800"',
    rb'"\ud83d"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\xc0\x80"',
    b'"\xf4\x90\x80\x80"',
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"1e99999999999999999999",
    b"0e99999999999999999999",
    b"1E+1000000000",
    b"9" * 5000,
    b"-" + b"9" * 5000,
    b"0." + b"1" * 5000,
    str(2**63).encode(),
    str(-(2**63) - 1).encode(),
    str(2**70).encode(),
    b"true",
    b"false",
    b"[]",
    b"{}",
    b"[1]",
    b'["a"]',
    b'{"a": 1}',
    b'[[[[[[[[[[["a"]]]]]]]]]]]',
    b'{"$ne": null}',
    b'{"__class__": "x"}',
    b"[" * 900 + b"]" * 900,
    b'"' + b"x" * 10_000 + b'"',
    '"{}"'.format("\U0001f600" * 5_000).encode(),
]
#: As a whole, with its kind.
BODIES = [
    (b"", JSON),
    (b" ", JSON),
    (b"{", JSON),
    (b"}", JSON),
    (b"null", JSON),
    (b"true", JSON),
    (b"0", JSON),
    (b'""', JSON),
    (b"[]", JSON),
    (b"[{}]", JSON),
    (b"{}{}", JSON),
    (b"{'item_id': 1}", JSON),
    (b'{"item_id": 1,}', JSON),
    (b"\xef\xbb\xbf{}", JSON),
    (b"\xff\xfe{\x00}\x00", JSON),
    (b"\x00\x00\x00{", JSON),
    (b"\x1f\x8b\x08\x00", JSON),
    (b'{"\\ud800": 1}', JSON),
    (b'{"\\u0000": 1}', JSON),
    (b'{"\xff": 1}', JSON),
    (b'{"": 1}', JSON),
    (b'{"' + b"x" * 60_000 + b'": 1}', JSON),
    (b'{"item_id": 1, "item_id": 2}', JSON),
    (b'{"a": {"b": 1, "b": 2}}', JSON),
    (b'{"__proto__": {"user_id": 1}}', JSON),
    (b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", JSON),
    (b'{"a": ' + b'{"a": ' * 9_000 + b"1" + b"}" * 9_000 + b"}", JSON),
    (b"[" * 60_000, JSON),
    (b"{" + b",".join(b'"f%d": 1' % number for number in range(5_000)) + b"}", JSON),
    (b'"' + b"\\u0000" * 10_000 + b'"', JSON),
    (b" " * 70_000 + b"{}", JSON),
    (b'{"item_id": "' + b"x" * 1_000_000 + b'"}', JSON),
    (b"{}", "application/json; charset=utf-16"),
    (b"{}", "application/json; charset=nonsense"),
    (b"{}", "text/plain"),
    (b"<a/>", "application/xml"),
    (b"{}", "application/jsonp"),
    (b"{}", ";;;"),
    (b"{}", "x" * 500),
    (b"%", FORM),
    (b"&&&===", FORM),
    (b"item_id", FORM),
    (b"item_id=%ff&user_id=%00", FORM),
    (b"item_id=%ed%a0%80&user_id=1", FORM),
    (b"item_id=\xff&user_id=\xfe", FORM),
    (b"item_id=1&item_id=2&user_id=1&user_id=2&path=a&path=b", FORM),
    (b"&".join([b"a=1"] * 5_000), FORM),
    (b"a=" + b"%00" * 20_000, FORM),
    (b"item_id[]=1&user_id[$ne]=1&MarketingLandingPage[0]=x", FORM),
    (b"a=1;b=2", "application/x-www-form-urlencoded; charset=utf-16"),
    (b"", MULTIPART),
    (b"--x", MULTIPART),
    (b"--x--", MULTIPART),
    (b"--x\r\n\r\n--x--", MULTIPART),
    (b"{}", "multipart/form-data"),
    (b"--x--", "multipart/form-data; boundary=" + "x" * 300),
    (b"--\xc3\xa9--", "multipart/form-data; boundary=\xe9"),
    (b'--x\r\nContent-Disposition: form-data; name="item_id"\r\n\r\n\xff\xfe\r\n--x--', MULTIPART),
    (b'--x\r\nContent-Disposition: form-data; name="a\x00"\r\n\r\n\x00\r\n--x--', MULTIPART),
    (
        b'--x\r\nContent-Disposition: form-data; name="item_id"; filename="a"\r\n\r\nx\r\n--x--',
        MULTIPART,
    ),
    (
        (
            b"--x\r\nContent-Transfer-Encoding: base64\r\n"
            b'Content-Disposition: form-data; name="item_id"\r\n\r\n!!!\r\n--x--'
        ),
        MULTIPART,
    ),
    (b"--x\r\nContent-Disposition: form-data; name*=utf-8''%ff\r\n\r\nx\r\n--x--", MULTIPART),
    (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 900 + b"--x--", MULTIPART),
    (b"--x\r\n" + b"A: b\r\n" * 9_000 + b"\r\nx\r\n--x--", MULTIPART),
]


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


class Sender:
    """Everything that valid bodies are about, and a program that sends others."""

    def __init__(self) -> None:
        routing.forget_all()
        self.headers = {"authorization": f"Bearer {make_key()}"}
        user = make_user()
        link = make_link(path="Abc-12345")
        make_transaction(link, user=user)
        make_transaction(link, ident="i" * 22)
        of_user = {"item_id": "course-7", "user_id": user.pk}
        sold = {"order_id": "A-17", "currency": "USD", "adv_sub": "x"}
        self.valid: dict[str, dict[str, Any]] = {
            "POST /generate": {
                "item_id": "c-8",
                "MarketingLandingPage": "https://shop.example/",
                "CallbackURL": "https://network.example/",
                "FloorPrice": 1,
                "currency": "EUR",
                "path": "Abc-6789",
                "expects": "ok",
                "valid_from": "2030-01-01T00:00:00Z",
                "passes": "*",
                "adds": "a=b",
                "deep_path": "/x",
                "weight": 1,
                "landing_pages": ["https://shop.example/b"],
            },
            "DELETE /delete": {"UniquePath": "Abc-12345"},
            "POST /acquire": {"anonymous_ident": "i" * 22, "user_id": user.pk},
            "POST /validate-item-id": of_user,
            "POST /fulfill": of_user,
            "POST /complete": {**of_user, **sold, "AmountPaid": 5},
            "POST /refund": {**of_user, "order_id": "A-17"},
        }

    def send(self, operation: str, body: bytes, kind: str) -> int:
        """Return the status."""
        method, address = operation.split()
        # Not by the method's name: that would bring a body into the encoding that its kind names.
        answer = self.client().generic(
            method, f"/api/links{address}", body, content_type=kind, headers=self.headers
        )
        if answer.status_code >= 400:
            assert answer["Content-Type"] == "application/problem+json"
            assert answer.json()["code"]
        return int(answer.status_code)

    def client(self) -> Client:
        return Client(raise_request_exception=False)

    def with_one(self, operation: str, value: bytes, field: str) -> bytes:
        """Return a body that is valid but for one field."""
        sent = {**self.valid[operation], field: "PLACE"}
        return json.dumps(sent).encode().replace(b'"PLACE"', value)


@pytest.fixture(autouse=True)
def _quietly():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def operations_with_bodies() -> list[str]:
    paths = api.get_openapi_schema(path_prefix="")["paths"]
    return [
        f"{method.upper()} {address}"
        for address, operations in paths.items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]


def fits(operation: str, field: str, value: bytes) -> bool:
    """Tell whether a value is none of the hostile ones there."""
    if field == "landing_pages":
        return value == b"[]"
    # A switch is no number, but Python has it as one.
    return field == "weight" and value == b"true"


@pytest.mark.parametrize("operation", operations_with_bodies())
def test_hostile_values_are_refused_field_by_field(operation):
    sender = Sender()
    before = rows()
    for field in sender.valid[operation]:
        for value in VALUES:
            if not fits(operation, field, value):
                status = sender.send(operation, sender.with_one(operation, value, field), JSON)
                assert 400 <= status < 500, (field, value[:50], status)
    assert rows() == before


@pytest.mark.parametrize("operation", operations_with_bodies())
def test_hostile_bodies_are_refused(operation):
    sender = Sender()
    before = rows()
    for body, kind in BODIES:
        status = sender.send(operation, body, kind)
        assert 400 <= status < 500, (body[:50], kind[:50], status)
    assert rows() == before


@pytest.mark.parametrize("operation", operations_with_bodies())
def test_what_is_not_hostile_is_taken(operation):
    sender = Sender()
    if operation == "POST /refund":
        paid = json.dumps(sender.valid["POST /complete"]).encode()
        assert sender.send("POST /complete", paid, JSON) == 200
    body = json.dumps(sender.valid[operation]).encode()
    assert sender.send(operation, body, JSON) in (200, 201, 204)


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b"{" * 5000, b"a=%00"])
def test_a_path_to_delete_may_be_hostile_too(body):
    sender = Sender()
    before = rows()
    for address in ("a%00b", "%ff", "%ed%a0%80", "x" * 5000, "a%2Fb", "..", "%0d%0a", "{}"):
        status = sender.send(f"DELETE /delete/{address}", body, JSON)
        assert status == 404
        status = sender.send(f"DELETE /delete?path={address}", b"", JSON)
        assert status in (404, 422)
    assert rows() == before


def test_there_are_enough_of_them():
    assert len(VALUES) + len(BODIES) >= 100
    assert set(Sender().valid) == set(operations_with_bodies())


def test_teeth_a_collector_that_reads_whatever_comes():
    sender = Sender()
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
