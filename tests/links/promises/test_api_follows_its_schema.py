"""The API follows its own document: schemathesis makes cases of it, and judges the answers by it.

As raw WSGI, on the database that runs; half of the cases are about what is there.
"""

import logging
import os
import random
import sys
import time
from collections import Counter
from itertools import count, product
from typing import Any

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.http import HttpResponse, JsonResponse
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup, ServerError
from schemathesis.openapi.checks import (
    IgnoredAuth,
    JsonSchemaError,
    UndefinedContentType,
    UndefinedStatusCode,
    UseAfterFree,
)
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
)

from affiliations.links import access, refusals, routing, services
from affiliations.links.exceptions import UnknownLink
from affiliations.links.models import Link
from affiliations.links.models.links import RESERVED
from affiliations.problems import MEDIA_TYPE
from tests.core.factories import make_user
from tests.links.factories import make_key, make_link, make_transaction

pytestmark = pytest.mark.django_db

#: How many cases the long form makes, and how many the short one, unless these take too long.
CASES = int(os.environ.get("AFFILIATIONS_CASES", "200000"))
SHORT, SECONDS = 20_000, 30
BATCH = 40
#: Paths that no link has: other operations' addresses, with answers of their own.
ELSEWHERE = {*RESERVED, "openapi.json"}


class Run:
    """Cases of every operation, by turns such as the document allows and such as it does not."""

    def __init__(self) -> None:
        self.schema = schemathesis.openapi.from_wsgi("/api/links/openapi.json", WSGIHandler())
        self.headers = {"Authorization": f"Bearer {make_key()}"}
        self.operations = {each.ok().label: each.ok() for each in self.schema.get_all_operations()}
        self.random = random.Random(11)
        #: Each batch has other cases, and each run the same.
        self.turns = count(1)
        self.users = [make_user().pk for _ in range(3)]
        self.paths = ["nothing-1"]
        self.deleted: set[str] = set()
        self.seen: Counter[tuple[str, int]] = Counter()
        self.checks = [
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
            ignored_auth,
            self.use_after_free,
        ]

    def use_after_free(self, ctx: Any, response: Any, case: Any) -> None:
        """Know deleted links again; schemathesis looks for them at the address of the DELETE."""
        path = (case.path_parameters or {}).get("path")
        label = case.operation.label
        if label.startswith("GET") and response.status_code == 200 and path in self.deleted:
            raise UseAfterFree(
                operation=label,
                message=f"{path} was deleted",
                free=path,
                usage=path,
                deleted_case_id=case.id,
            )
        if response.status_code == 204:
            self.deleted.add(path or self.named(case))
        if response.status_code == 201:
            self.paths.append(response.json()["UniquePath"])

    def named(self, case: Any) -> str:
        """Return the path that a DELETE names in its query or its body."""
        body = case.body if isinstance(case.body, dict) else {}
        return (case.query or {}).get("UniquePath") or body.get("UniquePath", "")

    def plant(self, case: Any) -> None:
        """Let a case be about what is there, half of the time."""
        some = self.random.choice
        if self.random.random() < 0.1:
            link = make_link(item_id=some(["course-7", "course-8"]), floor_minor=some([0, 1000]))
            self.paths.append(link.path)
            for user in self.users:
                make_transaction(link, user_id=user, open_key=None, state="fulfilled")
            make_transaction(link, user_id=some(self.users), open_key=f"{link.pk}:planted")
        planted = {
            "item_id": some(["course-7", "course-8"]),
            "user_id": some(self.users),
            "UniquePath": some(self.paths),
            "MarketingLandingPage": "https://shop.example/",
            "CallbackURL": "https://network.example/?a={amount}",
            "currency": "USD",
        }
        for holder in (case.body, case.query, case.path_parameters):
            for name in list(holder) if isinstance(holder, dict) else ():
                value = planted.get("UniquePath" if name == "path" else name)
                if value is not None and self.random.random() < 0.5:
                    holder[name] = value

    def batch(self, operation: Any, mode: GenerationMode) -> None:
        """Send some cases of an operation; raises FailureGroup where an answer is not as said."""

        @seed(next(self.turns))
        @settings(
            max_examples=BATCH,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            self.plant(case)
            if (case.path_parameters or {}).get("path") in ELSEWHERE and case.method == "GET":
                return
            # Of another host Django itself says, before the API is asked, that it is none of ours.
            headers = case.headers or {}
            case.headers = {name: headers[name] for name in headers if name.lower() != "host"}
            response = case.call_and_validate(headers=self.headers, checks=self.checks)
            self.seen[operation.label, response.status_code] += 1

        try:
            send()
        except Unsatisfiable:
            # The document leaves nothing that it does not allow, or nearly.
            assert mode is GenerationMode.NEGATIVE, operation.label

    def send(self, number: int, seconds: float = float("inf")) -> None:
        """Send so many cases, or as many as there is time for."""
        end = time.monotonic() + seconds
        turns = list(product(self.operations.values(), GenerationMode))
        while self.seen.total() < number:
            for operation, mode in turns:
                self.batch(operation, mode)
            if time.monotonic() > end:
                return


@pytest.fixture(autouse=True)
def served():
    """Serve as in production, but within the transaction of the test, and quietly."""
    routing.forget_all()
    logging.disable(logging.CRITICAL)
    between = (request_started, request_finished)
    for signal in between:
        signal.disconnect(close_old_connections)
    yield
    for signal in between:
        signal.connect(close_old_connections)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("number", "seconds"),
    [
        (SHORT, SECONDS),
        pytest.param(CASES, float("inf"), marks=[pytest.mark.long, pytest.mark.timeout(7200)]),
    ],
)
def test_every_answer_is_as_the_document_says(number, seconds, capsys):
    run = Run()
    run.send(number, seconds)
    if number == CASES:
        statuses = Counter()
        for (_, status), times in run.seen.items():
            statuses[status] += times
        with capsys.disabled():
            told = f"{run.seen.total():,} cases, answers {dict(sorted(statuses.items()))}"
            sys.stdout.write(f"\n{told}\n")
    # Each operation did what it is there for, and refused what it should.
    for label in run.operations:
        found = {status for each, status in run.seen if each == label}
        assert {200, 201, 204} & found, (label, found)
        assert any(400 <= status < 500 for status in found), (label, found)
    assert run.deleted


def open_to_everybody(monkeypatch):
    caller = access.caller

    def let_in(request, right):
        return access.Caller(None, "x") if right is access.READ else caller(request, right)

    monkeypatch.setattr(access, "caller", let_in)


def with_a_status_of_its_own(monkeypatch):
    monkeypatch.setitem(refusals.STATUSES, UnknownLink, 410)


def with_half_a_problem(monkeypatch):
    def problem(status, code, *rest):
        return JsonResponse({"code": code}, status=status, content_type=MEDIA_TYPE)

    monkeypatch.setattr(refusals, "problem", problem)


def with_html_for_an_error(monkeypatch):
    monkeypatch.setattr(refusals, "problem", lambda status, *rest: HttpResponse(status=status))


def that_fails(monkeypatch):
    monkeypatch.setattr(services, "find_link", lambda path, **_: Link.objects.get(path=path))


def that_keeps_what_is_deleted(monkeypatch):
    monkeypatch.setattr(services, "delete_link", services.find_link)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (open_to_everybody, IgnoredAuth),
        (with_a_status_of_its_own, UndefinedStatusCode),
        (with_half_a_problem, JsonSchemaError),
        (with_html_for_an_error, UndefinedContentType),
        (that_fails, ServerError),
        (that_keeps_what_is_deleted, UseAfterFree),
    ],
)
def test_teeth(variant, expected, monkeypatch):
    variant(monkeypatch)
    with pytest.raises(FailureGroup) as caught:
        Run().send(SHORT)
    assert caught.group_contains(expected)
