"""Each API follows its own document: schemathesis makes cases of it, and judges the answers by it.

As raw WSGI, on the database that runs; half of the cases are about what is there.
"""

import logging
import os
import sys
from collections import Counter
from datetime import timedelta

import pytest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.http import HttpResponse, JsonResponse
from schemathesis.core.failures import FailureGroup, ServerError
from schemathesis.openapi.checks import (
    IgnoredAuth,
    JsonSchemaError,
    UndefinedContentType,
    UndefinedStatusCode,
    UseAfterFree,
)

from affiliations import access
from affiliations.experiments import access as experiments_access
from affiliations.experiments import answering, api, collect
from affiliations.experiments import refusals as experiments_refusals
from affiliations.experiments.exceptions import UnknownCampaign
from affiliations.experiments.models import Campaign
from affiliations.links import access as links_access
from affiliations.links import refusals as links_refusals
from affiliations.links import services
from affiliations.links.exceptions import UnknownLink
from affiliations.links.models import Link
from affiliations.problems import MEDIA_TYPE
from affiliations.referrals import access as referrals_access
from affiliations.referrals import programs
from affiliations.referrals import refusals as referrals_refusals
from affiliations.referrals.exceptions import UnknownProgram
from affiliations.referrals.models import Program
from affiliations.restrefusals import Refusals
from affiliations.tracking import hits, views, wire
from affiliations.tracking.models import Property
from tests.experiments.rest import ExperimentsRun, ResultsRun
from tests.links.rest import LinksRun
from tests.referrals.rest import ReferralsRun
from tests.tracking.rest import TrackingRun

pytestmark = pytest.mark.django_db

#: How many cases the long form makes, and how many the short one, unless these take too long.
CASES = int(os.environ.get("AFFILIATIONS_CASES", "200000"))
SHORT, SECONDS = 20_000, 10

RUNS = (ExperimentsRun, ResultsRun, LinksRun, ReferralsRun, TrackingRun)
each_api = pytest.mark.parametrize("kind", RUNS, ids=lambda kind: kind.mount)


@pytest.fixture(autouse=True)
def served():
    """Serve as in production, but within the transaction of the test, and quietly."""
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
@each_api
def test_every_answer_is_as_the_document_says(kind, number, seconds, capsys):
    run = kind()
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
        assert run.has_done(label), (label, found)
        assert not run.refuses(label) or any(400 <= each < 500 for each in found), (label, found)
    assert bool(run.deleted) == run.deletes


def open_to_everybody(monkeypatch):
    caller = access.caller
    reading = (
        links_access.READ,
        referrals_access.READ,
        experiments_access.LIST,
        experiments_access.READ,
    )

    def let_in(request, right):
        return access.Caller(None, "x") if right in reading else caller(request, right)

    monkeypatch.setattr(access, "caller", let_in)
    monkeypatch.setattr(Property, "is_secret", lambda self, secret: True)


def with_statuses_of_their_own(monkeypatch):
    monkeypatch.setitem(links_refusals.STATUSES, UnknownLink, 410)
    monkeypatch.setitem(experiments_refusals.STATUSES, UnknownCampaign, 410)
    monkeypatch.setattr(referrals_refusals, "UNKNOWN", {})
    monkeypatch.setitem(referrals_refusals.STATUSES, UnknownProgram, 410)
    monkeypatch.setattr(views, "_status", lambda refusal: 410)
    message = answering.message
    monkeypatch.setattr(answering, "message", lambda status, said: message(410, said))


def with_half_a_problem(monkeypatch):
    def problem(self, status, code, *rest):
        return JsonResponse({"code": code}, status=status, content_type=MEDIA_TYPE)

    for kind in (Refusals, referrals_refusals.ReferralsRefusals):
        monkeypatch.setattr(kind, "problem", problem)
    monkeypatch.setattr(
        views, "error", lambda status, field, *_: JsonResponse({"field": field}, status=status)
    )
    monkeypatch.setattr(answering, "message", lambda status, _: JsonResponse({}, status=status))


def with_html_for_an_error(monkeypatch):
    for kind in (Refusals, referrals_refusals.ReferralsRefusals):
        monkeypatch.setattr(kind, "problem", lambda self, status, *_: HttpResponse(status=status))
    monkeypatch.setattr(views, "error", lambda status, *_: HttpResponse(status=status))
    monkeypatch.setattr(answering, "message", lambda status, _: HttpResponse(status=status))


def that_fails(monkeypatch):
    monkeypatch.setattr(services, "find_link", lambda path, **_: Link.objects.get(path=path))
    monkeypatch.setattr(programs, "find", lambda pk: Program.objects.get(name=pk))
    monkeypatch.setattr(api, "_campaign", lambda text: Campaign.objects.get(slug=text))
    monkeypatch.setattr(wire, "created_at", lambda told: hits.happened(told["created_at"]))
    monkeypatch.setattr(
        collect, "moment", lambda told, now: now - timedelta(milliseconds=told["qt"])
    )


def that_keeps_what_is_deleted(monkeypatch):
    monkeypatch.setattr(services, "delete_link", services.find_link)
    monkeypatch.setattr(programs, "delete", programs.find)


TEETH = {
    open_to_everybody: IgnoredAuth,
    with_statuses_of_their_own: UndefinedStatusCode,
    with_half_a_problem: JsonSchemaError,
    with_html_for_an_error: UndefinedContentType,
    that_fails: ServerError,
    that_keeps_what_is_deleted: UseAfterFree,
}


@pytest.mark.parametrize(
    ("kind", "variant", "expected"),
    [
        pytest.param(kind, variant, expected, id=f"{kind.mount}-{variant.__name__}")
        for kind in RUNS
        for variant, expected in TEETH.items()
        if kind.deletes or expected is not UseAfterFree
    ],
)
def test_teeth(kind, variant, expected, monkeypatch):
    variant(monkeypatch)
    with pytest.raises(FailureGroup) as caught:
        kind().send(SHORT)
    assert caught.group_contains(expected)
