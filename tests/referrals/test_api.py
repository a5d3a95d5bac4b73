"""The API over real HTTP: each endpoint, parameter and answer of the document, and each refusal."""

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from django.db import IntegrityError, OperationalError, connections
from django.urls import include, path
from django.utils import timezone

from affiliations.models import Callback
from affiliations.referrals import access, services
from affiliations.referrals.models import EmailIndication, Member, Operation, Program
from affiliations.rewards.testing import assert_ledger_balanced
from tests.referrals.factories import SCOPES, make_key, make_member, make_program

SNAPSHOT = Path(__file__).with_name("openapi.json")
MOUNT = "/api/referrals/"


class Caller:
    """A program that calls the server with a key: in JSON, as a form, or as one of several parts.

    It leaves the slash at the end of each address away, or not.
    """

    def __init__(self, url, token="", kind="json", slash=True):
        self.root, self.token, self.kind, self.slash = f"{url}{MOUNT}", token, kind, slash

    def send(self, method, address, sent=None, **headers):
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        place, question, query = address.partition("?")
        url = f"{self.root}{place}{'/' if self.slash and place else ''}{question}{query}"
        how = {"json": sent}
        if sent is not None and self.kind == "form":
            how = {"data": sent}
        if sent is not None and self.kind == "parts":
            how = {"files": {name: (None, str(value)) for name, value in sent.items()}}
        return requests.request(method, url, headers=headers, timeout=30, **how)

    def get(self, address):
        return self.send("GET", address)

    def post(self, address, **sent):
        return self.send("POST", address, sent)

    def put(self, address, **sent):
        return self.send("PUT", address, sent)

    def delete(self, address):
        return self.send("DELETE", address)


@pytest.fixture
def api(live_server, transactional_db):
    """Return a program that sends JSON, with a key that may do everything."""
    return Caller(live_server.url, make_key())


@pytest.fixture(
    params=[("json", True), ("form", False), ("parts", True)],
    ids=lambda param: f"{param[0]}{'/' if param[1] else ''}",
)
def each(request, live_server, transactional_db):
    """Return one of each kind of body, with the slash and without."""
    kind, slash = request.param
    return Caller(live_server.url, make_key(), kind, slash)


def refused(answer, status, code, *fields, error=None):
    """Assert that an answer is a problem that the predecessor's clients can read; return it."""
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert body["status"] == status
    assert body["error"] == body["detail"]
    if error is not None:
        assert body["error"] == error
    assert [one["field"] for one in body.get("errors", [])] == list(fields)
    return body


def described(api, program, **others):
    """Return what is answered of a program of `make_program`."""
    shown = {
        "id": program.pk,
        "name": program.name,
        "credit_value": 5,
        "target_value": 100,
        "reward_value": 20,
        "currency": "EUR",
        "active": True,
        "depth": 1,
        "max_per_indicator": None,
        "max_referrals": None,
        "valid_from": None,
        "valid_until": None,
        "link": f"{api.root}program/{program.pk}/",
    }
    return {**shown, **others}


# emailindication and emailverification


def test_addresses_are_indicated_and_told(each):
    anna, dora = make_member(), make_member()
    sent = {"user_indicator": anna.user_hash, "emails": " Bert@example.com,carla@example.com, x,"}
    answer = each.post("emailindication", **sent)
    assert (answer.status_code, answer.json()) == (
        201,
        {
            "saved_emails": ["bert@example.com", "carla@example.com"],
            "refused": [{"email": "x", "reason": "invalid"}],
        },
    )
    again = each.post("emailindication", user_indicator=dora.user_hash, emails="bert@example.com")
    assert again.json() == {
        "saved_emails": [],
        "refused": [{"email": "bert@example.com", "reason": "indicated"}],
    }
    answer = each.post("emailverification", emails="bert@example.com,nobody@example.com,x")
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "emails": {
                "bert@example.com": anna.user_hash,
                "nobody@example.com": False,
                "x": False,
            }
        },
    )


def test_addresses_may_be_a_list(api):
    anna = make_member()
    emails = ["bert@example.com", "carla@example.com"]
    sent = {"user_indicator": anna.user_hash, "emails": emails}
    assert api.post("emailindication", **sent).json()["saved_emails"] == emails
    answer = api.post("emailverification", emails=emails)
    assert answer.json() == {"emails": dict.fromkeys(emails, anna.user_hash)}


@pytest.mark.parametrize("indicator", [None, "", "nobody", "a b", "x" * 201])
def test_whoever_is_nobody_indicates_nobody(each, indicator):
    sent = {"emails": "bert@example.com"}
    if indicator is not None:
        sent["user_indicator"] = indicator
    answer = each.post("emailindication", **sent)
    if indicator == "x" * 201:
        refused(answer, 400, "invalid-fields", "user_indicator")
    else:
        refused(answer, 412, "missing-parameter")
    assert not EmailIndication.objects.exists()


@pytest.mark.parametrize(
    "emails",
    [None, "", " , ", [], 7, {"a": "b"}, [7], ["x" * 1001], ["a@b.de"] * 1001, [["a@b.de"]], True],
)
def test_what_are_no_addresses(api, emails):
    anna = make_member()
    for address in ("emailindication", "emailverification"):
        sent = {} if address == "emailverification" else {"user_indicator": anna.user_hash}
        answer = api.post(address, **sent, emails=emails)
        body = answer.json()
        assert (answer.status_code, body["code"]) == (400, "invalid-fields")
        assert all(each["field"].startswith("emails") for each in body["errors"])
    assert not EmailIndication.objects.exists()


def test_a_report_of_what_is_yet_to_come_is_refused(each):
    bert = make_member(make_member())
    sent = {"total_amount_paid": 100, "reported_on": "4119-09-22T08:16:55.957Z"}
    answer = each.put(f"invoice/user/{bert.user_hash}", **sent)
    refused(answer, 400, "invalid-report", "reported_on")


def test_in_a_program_that_is_over_nobody_is_indicated(api):
    anna = make_member()
    Program.objects.update(active=False)
    sent = {"user_indicator": anna.user_hash, "emails": "bert@example.com"}
    refused(api.post("emailindication", **sent), 409, "program-ended")


# index and health


@pytest.mark.parametrize("token", ["", "aff_nothing"])
def test_the_endpoints_are_listed_for_anybody(api, token):
    api.token = token
    answer = api.get("")
    assert answer.status_code == 200
    assert answer.json() == {
        "version": "1",
        "endpoints": [
            {"name": name, "methods": methods, "url": f"{api.root}{route}"}
            for name, methods, route in (
                ("index", ["GET"], ""),
                ("health", ["GET"], "health/"),
                ("programs", ["GET", "POST"], "program/"),
                ("program", ["DELETE", "GET", "PUT"], "program/<id>/"),
                ("register", ["POST"], "register/"),
                ("invoice-user", ["PUT"], "invoice/user/<user_hash>/"),
                ("statement", ["GET"], "statement/<user_hash>/"),
                ("emailindication", ["POST"], "emailindication/"),
                ("emailverification", ["POST"], "emailverification/"),
            )
        ],
    }


@pytest.mark.parametrize("slash", [True, False])
def test_it_is_well(api, slash):
    api.token, api.slash = "", slash
    answer = api.get("health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_it_is_not_well_without_its_database(client, db, monkeypatch):
    def fail(self):
        raise OperationalError("no server")

    with monkeypatch.context() as patch:
        patch.setattr(type(connections["default"]), "cursor", fail)
        answer = client.get(f"{MOUNT}health")
    refused(answer, 503, "database-unavailable")
    assert "no server" not in answer.content.decode()


# program


def test_a_program_is_made_and_read(each):
    sent = {"name": "Friends", "credit_value": "12.50", "target_value": "100"}
    answer = each.post("program", **sent)
    program = Program.objects.get()
    shown = {
        "id": program.pk,
        "name": "Friends",
        "credit_value": 12.5,
        "target_value": 100,
        "reward_value": 100,
        "currency": "USD",
        "active": True,
        "depth": 1,
        "max_per_indicator": None,
        "max_referrals": None,
        "valid_from": None,
        "valid_until": None,
        "link": f"{each.root}program/{program.pk}/",
    }
    assert (answer.status_code, answer.json()) == (201, shown)
    assert (program.credit_minor, program.target_minor, program.reward_minor) == (
        1250,
        10_000,
        None,
    )
    read = each.get(f"program/{program.pk}")
    assert (read.status_code, read.json()) == (200, shown)
    assert (
        requests.get(
            shown["link"], headers={"Authorization": f"Bearer {each.token}"}, timeout=30
        ).json()
        == shown
    )
    every = each.get("program")
    assert (every.status_code, every.json()) == (200, [shown])


def test_a_program_has_everything_that_there_is(each):
    begin = datetime(2030, 1, 1, tzinfo=UTC)
    sent = {
        "name": " Großzügig ",
        "credit_value": 0,
        "target_value": "1.234",
        "reward_value": "0.001",
        "currency": "kwd",
        "active": "false",
        "depth": 3,
        "max_per_indicator": 5,
        "max_referrals": 0,
        "valid_from": begin.isoformat(),
        "valid_until": (begin + timedelta(days=9)).isoformat(),
    }
    answer = each.post("program", **sent)
    assert answer.status_code == 201, answer.json()
    program = Program.objects.get()
    assert answer.json() == {
        **sent,
        "id": program.pk,
        "name": "Großzügig",
        "target_value": 1.234,
        "reward_value": 0.001,
        "currency": "KWD",
        "active": False,
        "valid_from": "2030-01-01T00:00:00Z",
        "valid_until": "2030-01-10T00:00:00Z",
        "link": f"{each.root}program/{program.pk}/",
    }
    assert (program.target_minor, program.reward_minor, program.active) == (1234, 1, False)


def test_a_name_is_all_that_is_needed(each):
    answer = each.post("program", name="Friends")
    found = answer.json()
    values = [found[f"{name}_value"] for name in ("credit", "target", "reward")]
    assert (answer.status_code, values) == (201, [0, 0, 0])


def test_an_empty_amount_of_a_form_is_none(live_server, transactional_db):
    form = Caller(live_server.url, make_key(), "form")
    answer = form.post("program", name="Friends", credit_value="", reward_value="")
    assert (answer.status_code, answer.json()["credit_value"]) == (201, 0)
    assert Program.objects.get().reward_minor is None


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ("12.5", "12.5"),
        ('"12.50"', "12.5"),
        ("0.29", "0.29"),
        ("29e-2", "0.29"),
        ("1e2", "100"),
        ("10.00", "10"),
        # More digits than a float has.
        ("92233720368547758.07", "92233720368547758.07"),
        ('"90071992547409.93"', "90071992547409.93"),
    ],
)
def test_amounts_are_numbers_and_exact(api, sent, written):
    answer = requests.post(
        f"{api.root}program/",
        data=f'{{"name": "Friends", "credit_value": {sent}}}',
        headers={"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"},
        timeout=30,
    )
    assert re.search(r'"credit_value": ([^,]+),', answer.text)[1] == written


def test_a_text_that_looks_like_an_amount_stays_a_text(api):
    assert api.post("program", name="12.50").json()["name"] == "12.50"


WRONG = [
    ({}, "invalid-fields", "name"),
    ({"name": ""}, "invalid-fields", "name"),
    ({"name": "  "}, "invalid-fields", "name"),
    ({"name": "x" * 201}, "invalid-fields", "name"),
    ({"name": "a\nb"}, "invalid-fields", "name"),
    ({"name": "F", "credit_value": "-0.01"}, "invalid-program", "credit_value"),
    ({"name": "F", "credit_value": "12,50"}, "invalid-program", "credit_value"),
    ({"name": "F", "credit_value": "1.234"}, "invalid-program", "credit_value"),
    ({"name": "F", "target_value": "-1"}, "invalid-program", "target_value"),
    ({"name": "F", "target_value": "9" * 30}, "invalid-program", "target_value"),
    ({"name": "F", "reward_value": "NaN"}, "invalid-program", "reward_value"),
    ({"name": "F", "credit_value": "1.5", "currency": "JPY"}, "invalid-program", "credit_value"),
    ({"name": "F", "currency": "XXZ"}, "invalid-program", "currency"),
    ({"name": "F", "currency": "euros"}, "invalid-fields", "currency"),
    ({"name": "F", "active": "perhaps"}, "invalid-fields", "active"),
    ({"name": "F", "depth": 0}, "invalid-fields", "depth"),
    ({"name": "F", "depth": 11}, "invalid-fields", "depth"),
    ({"name": "F", "max_referrals": -1}, "invalid-fields", "max_referrals"),
    ({"name": "F", "max_per_indicator": 2**31}, "invalid-fields", "max_per_indicator"),
    ({"name": "F", "valid_from": "2030-01-01T00:00:00"}, "invalid-fields", "valid_from"),
    (
        {"name": "F", "valid_from": "2030-01-02T00:00Z", "valid_until": "2030-01-01T00:00Z"},
        "invalid-program",
        "valid_until",
    ),
    ({"name": "F", "credit": "5"}, "invalid-fields", "credit"),
]


@pytest.mark.parametrize(("sent", "code", "field"), WRONG)
@pytest.mark.parametrize("kind", ["json", "form"])
def test_what_is_wrong_with_a_program_is_said_by_field(api, kind, sent, code, field):
    api.kind = kind
    refused(api.post("program", **sent), 400, code, field)
    assert not Program.objects.exists()
    if sent:
        program = make_program()
        before = Program.objects.values().get()
        refused(api.put(f"program/{program.pk}", **sent), 400, code, field)
        assert Program.objects.values().get() == before


def test_everything_that_is_wrong_is_said_at_once(api):
    sent = {"name": "F", "credit_value": -1, "target_value": "x", "reward_value": True}
    refused(api.post("program", **sent), 400, "invalid-fields", "reward_value")
    del sent["reward_value"]
    refused(api.post("program", **sent), 400, "invalid-program", "credit_value", "target_value")


@pytest.mark.parametrize(
    ("sent", "answered", "columns"),
    [
        ({"name": "Others"}, {"name": "Others"}, {"name": "Others"}),
        ({"credit_value": 0}, {"credit_value": 0}, {"credit_minor": 0}),
        ({"target_value": "0"}, {"target_value": 0}, {"target_minor": 0}),
        ({"reward_value": 0}, {"reward_value": 0}, {"reward_minor": 0}),
        ({"reward_value": ""}, {"reward_value": 100}, {"reward_minor": None}),
        ({"active": "false"}, {"active": False}, {"active": False}),
        ({"depth": 2}, {"depth": 2}, {"depth": 2}),
        ({"max_referrals": 0}, {"max_referrals": 0}, {"max_referrals": 0}),
        # The amounts stay what they are, whatever the minor units.
        ({"currency": "JPY"}, {"currency": "JPY"}, {"credit_minor": 5, "reward_minor": 20}),
        ({"currency": "KWD", "credit_value": 1}, {"credit_value": 1}, {"target_minor": 100_000}),
        ({}, {}, {}),
    ],
)
def test_a_program_is_changed_in_what_is_sent(each, sent, answered, columns):
    program = make_program()
    make_member(program=program)
    answer = each.put(f"program/{program.pk}", **sent)
    if "currency" in sent:
        answered = {**answered, "currency": sent["currency"]}
    assert (answer.status_code, answer.json()) == (200, described(each, program, **answered))
    before = {field.attname: getattr(program, field.attname) for field in Program._meta.fields}
    before.pop("currency")
    after = Program.objects.values().get()
    after.pop("currency")
    if "currency" in sent:
        assert {name: after[name] for name in columns} == columns
    else:
        assert after == {**before, **columns}


def test_what_was_promised_is_kept_when_a_program_changes(api):
    program = make_program()
    bert = make_member(make_member(program=program))
    assert api.put(f"program/{program.pk}", target_value=0, reward_value=1).status_code == 200
    assert api.put(f"invoice/user/{bert.user_hash}", total_amount_paid=99).json() == {
        "acquired_credit": 0
    }
    assert api.put(f"invoice/user/{bert.user_hash}", total_amount_paid=100).json() == {
        "acquired_credit": 20
    }


def test_a_program_is_deleted_while_it_has_no_members(each):
    program = make_program()
    answer = each.delete(f"program/{program.pk}")
    assert (answer.status_code, answer.text) == (204, "")
    refused(each.delete(f"program/{program.pk}"), 404, "unknown-program", error="ID not found")
    used = make_program()
    make_member(program=used)
    said = refused(each.delete(f"program/{used.pk}"), 409, "program-in-use")
    assert "active" in said["error"]
    assert Program.objects.get() == used


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_program_that_is_not_there(api, method):
    for number in ("0", "99999", "x", "-1", "1.0", "%C2%B2", "9" * 40, str(2**63), "%00", "1 "):
        answer = api.send(method, f"program/{number}", {} if method == "PUT" else None)
        refused(answer, 404, "unknown-program", error="ID not found")


def test_a_program_that_somebody_joins_while_it_is_deleted(db, client, monkeypatch):
    program = make_program()

    def fail(self, using=None):
        raise IntegrityError("a member")

    monkeypatch.setattr(Program, "delete", fail)
    answer = client.delete(
        f"{MOUNT}program/{program.pk}/", headers={"authorization": f"Bearer {make_key()}"}
    )
    refused(answer, 409, "program-in-use")


# register


def test_somebody_is_registered(each):
    anna = make_member(program=make_program())
    program = anna.program
    answer = each.post("register", user_indicator=anna.user_hash, user_indicated="bert-8")
    bert = Member.objects.get(user_hash="bert-8")
    assert (answer.status_code, answer.json()) == (
        201,
        {
            "id": bert.pk,
            "hash": "bert-8",
            "is_generates_even": True,
            "referral_program": described(each, program),
            "user_indicator": {
                "id": anna.pk,
                "hash": anna.user_hash,
                "is_generates_even": False,
            },
        },
    )
    assert (bert.indicator, bert.program) == (anna, program)
    kinds = Operation.objects.order_by("pk").values_list("member__user_hash", "kind")
    assert list(kinds) == [
        (anna.user_hash, "signup"),
        ("bert-8", "signup"),
        (anna.user_hash, "indication"),
        ("bert-8", "signup_credit"),
        (anna.user_hash, "potencial_credit"),
    ]
    # And they may bring others at once.
    carla = each.post("register", user_indicator="bert-8", user_indicated="carla")
    assert carla.json()["user_indicator"] == {
        "id": bert.pk,
        "hash": "bert-8",
        "is_generates_even": True,
    }


def test_somebody_is_registered_in_another_program(each):
    anna, other = make_member(), make_program(currency="USD")
    sent = {"user_indicator": anna.user_hash, "user_indicated": "bert-8"}
    for wrong in (other.pk + 1, "x", "-1"):
        answer = each.post("register", **sent, referral_program_id=wrong)
        refused(answer, 404, "unknown-program", error="ID not found")
    answer = each.post("register", **sent, referral_program_id=other.pk)
    assert answer.status_code == 201
    assert answer.json()["referral_program"]["id"] == other.pk
    assert Member.objects.get(user_hash="bert-8").program == other


def test_hashes_may_be_numbers(api):
    services.register("41", program=make_program())
    answer = api.post("register", user_indicator=41, user_indicated=42)
    assert (answer.status_code, answer.json()["hash"]) == (201, "42")


@pytest.mark.parametrize(
    ("sent", "missing"),
    [
        ({}, "user_indicator"),
        ({"user_indicated": "bert"}, "user_indicator"),
        ({"user_indicator": "anna"}, "user_indicated"),
        ({"user_indicator": "", "user_indicated": "bert"}, "user_indicator"),
        ({"user_indicator": "anna", "user_indicated": " "}, "user_indicated"),
    ],
)
def test_both_have_to_be_named(each, sent, missing):
    services.register("anna", program=make_program())
    said = refused(each.post("register", **sent), 412, "missing-parameter")
    assert said["error"].startswith(missing)
    assert Member.objects.count() == 1


def test_null_is_nobody(api):
    answer = api.post("register", user_indicator=None, user_indicated="bert")
    refused(answer, 412, "missing-parameter")


def test_somebody_unknown_brings_nobody(each):
    make_member()
    for unknown in ("nobody", "é", "x y"):
        answer = each.post("register", user_indicator=unknown, user_indicated="bert")
        refused(answer, 404, "unknown-member", error="User hash not found")
    assert Member.objects.count() == 1


def test_without_any_program_nobody_is_registered(each):
    answer = each.post("register", user_indicator="anna", user_indicated="bert")
    refused(answer, 409, "no-program")


@pytest.mark.parametrize("name", ["é", "a b", "x\ty"])
def test_a_hash_that_is_none(api, name):
    anna = make_member()
    answer = api.post("register", user_indicator=anna.user_hash, user_indicated=name)
    assert answer.status_code == 400
    assert [one["field"] for one in answer.json()["errors"]] == ["user_indicated"]


def again(anna, bert):
    return anna, bert


def themselves(anna, bert):
    return anna, anna


def around(anna, bert):
    return bert, anna


@pytest.mark.parametrize(
    ("who", "code"),
    [(again, "already-registered"), (themselves, "self-referral"), (around, "circular-referral")],
)
def test_who_cannot_be_registered(each, who, code):
    anna = make_member(program=make_program())
    bert = make_member(anna)
    indicator, indicated = who(anna, bert)
    before = Operation.objects.count()
    answer = each.post(
        "register", user_indicator=indicator.user_hash, user_indicated=indicated.user_hash
    )
    refused(answer, 409, code)
    assert (Member.objects.count(), Operation.objects.count()) == (2, before)


@pytest.mark.parametrize("ended", ["inactive", "over", "not begun"])
def test_a_program_that_is_over_takes_nobody(each, ended):
    anna = make_member(program=make_program())
    day = timedelta(days=1)
    if ended == "inactive":
        assert each.put(f"program/{anna.program_id}", active="false").status_code == 200
    elif ended == "over":
        Program.objects.update(valid_until=timezone.now() - day)
    else:
        Program.objects.update(valid_from=timezone.now() + day)
    answer = each.post("register", user_indicator=anna.user_hash, user_indicated="bert")
    refused(answer, 409, "program-ended")
    assert Member.objects.count() == 1


@pytest.mark.parametrize("error", [IntegrityError, Program.DoesNotExist])
def test_a_program_that_is_deleted_while_somebody_joins(db, client, monkeypatch, error):
    anna, other = make_member(), make_program()

    def deleted(*args, **kwargs):
        Program.objects.filter(pk=other.pk).delete()
        raise error

    monkeypatch.setattr(services, "register", deleted)
    answer = client.post(
        f"{MOUNT}register/",
        {
            "user_indicator": anna.user_hash,
            "user_indicated": "bert",
            "referral_program_id": other.pk,
        },
        headers={"authorization": f"Bearer {make_key()}"},
    )
    refused(answer, 404, "unknown-program")


# invoice


def test_what_is_paid_is_credited_once(each):
    anna = make_member(program=make_program())
    bert = make_member(anna)
    address = f"invoice/user/{bert.user_hash}"
    for total, gained in (("99.99", 0), ("100", 20), (100, 0), ("250.5", 0), (50, -20), (100, 20)):
        answer = each.put(address, total_amount_paid=total)
        assert (answer.status_code, answer.json()) == (200, {"acquired_credit": gained})
    bert.refresh_from_db()
    assert bert.paid_minor == 10_000
    assert_ledger_balanced()


def test_what_nobody_gains_by_is_nothing(each):
    anna = make_member(program=make_program())
    answer = each.put(f"invoice/user/{anna.user_hash}", total_amount_paid=1000)
    assert (answer.status_code, answer.json()) == (200, {"acquired_credit": 0})


def test_an_earlier_total_changes_nothing(each):
    bert = make_member(make_member(program=make_program()))
    address = f"invoice/user/{bert.user_hash}"
    for total, when, gained in (
        (100, "2026-03-01T12:00:00+01:00", 20),
        (90, "2026-03-01T10:59:59Z", 0),
        (90, "2026-03-01T11:00:01Z", -20),
    ):
        answer = each.put(address, total_amount_paid=total, reported_on=when)
        assert answer.json() == {"acquired_credit": gained}


@pytest.mark.parametrize(
    ("sent", "code", "field"),
    [
        ({}, "invalid-fields", "total_amount_paid"),
        ({"total_amount_paid": ""}, "invalid-fields", "total_amount_paid"),
        ({"total_amount_paid": "x"}, "invalid_money", "total_amount_paid"),
        ({"total_amount_paid": "-1"}, "invalid_money", "total_amount_paid"),
        ({"total_amount_paid": "1.001"}, "invalid_money", "total_amount_paid"),
        ({"total_amount_paid": "9" * 30}, "invalid_money", "total_amount_paid"),
        ({"total_amount_paid": 1, "reported_on": "yesterday"}, "invalid-fields", "reported_on"),
        (
            {"total_amount_paid": 1, "reported_on": "2026-03-01T10:00"},
            "invalid-fields",
            "reported_on",
        ),
        ({"total_amount_paid": 1, "user_hash": "other"}, "invalid-fields", "user_hash"),
        ({"total_amount_paid": 1, "amount": 1}, "invalid-fields", "amount"),
    ],
)
def test_what_is_wrong_with_a_report_is_said_by_field(each, sent, code, field):
    bert = make_member(make_member(program=make_program()))
    refused(each.put(f"invoice/user/{bert.user_hash}", **sent), 400, code, field)
    bert.refresh_from_db()
    assert (bert.paid_minor, bert.reported_on) == (0, None)


def test_a_report_may_name_the_member_in_its_body_too(each):
    bert = make_member(make_member(program=make_program()))
    sent = {"total_amount_paid": 100, "user_hash": bert.user_hash}
    answer = each.put(f"invoice/user/{bert.user_hash}", **sent)
    assert answer.json() == {"acquired_credit": 20}


def test_a_member_that_is_not_there(api):
    services.register("user-1", program=make_program())
    for name in ("nobody", "%C3%A9", "a%20b", "x" * 300, "%00", "USER-1"):
        answer = api.put(f"invoice/user/{name}", total_amount_paid=1)
        refused(answer, 404, "unknown-member", error="User hash not found")
        answer = api.get(f"statement/{name}")
        refused(answer, 404, "unknown-member", error="User hash not found")


def test_the_largest_amounts_add_up(api):
    most = "92233720368547758.07"
    made = api.post("program", name="F", credit_value=most, target_value=most).json()
    services.register("anna", program=Program.objects.get(pk=made["id"]))
    for name in ("bert", "carla", "dora"):
        assert api.post("register", user_indicator="anna", user_indicated=name).status_code == 201
        answer = api.put(f"invoice/user/{name}", total_amount_paid=most)
        assert answer.text == f'{{"acquired_credit": {most}}}'
    assert '"acquired_credit": 276701161105643274.21,' in api.get("statement/anna").text


# statement


@pytest.mark.parametrize("slash", [True, False])
def test_a_statement_tells_everything(api, slash):
    api.slash = slash
    anna = make_member(program=make_program())
    bert, carla = make_member(anna), make_member(anna)
    assert api.put(f"invoice/user/{bert.user_hash}", total_amount_paid=100).status_code == 200
    answer = api.get(f"statement/{anna.user_hash}")
    assert answer.status_code == 200
    found = answer.json()
    entries = [(one["operation"], one["amount"], one["about"]) for one in found["entries"]]
    assert entries == [
        ("acquired_credit", 20, bert.user_hash),
        ("potencial_credit", -20, bert.user_hash),
        ("potencial_credit", 20, carla.user_hash),
        ("indication", 0, carla.user_hash),
        ("potencial_credit", 20, bert.user_hash),
        ("indication", 0, bert.user_hash),
        ("signup", 0, anna.user_hash),
    ]
    assert {one["currency"] for one in found["entries"]} == {"EUR"}
    assert all(datetime.fromisoformat(one["date"]).tzinfo for one in found["entries"])
    del found["entries"]
    assert found == {
        "potencial_credit": 20,
        "acquired_credit": 20,
        "signup_credit": 0,
        "referral_program": described(api, anna.program),
        "next": None,
    }
    assert api.get(f"statement/{bert.user_hash}").json()["signup_credit"] == 5


def test_a_statement_has_pages(api):
    anna = make_member(program=make_program())
    make_member(anna)
    make_member(anna)
    address = f"statement/{anna.user_hash}"
    whole = api.get(address).json()["entries"]
    found, query = [], "limit=2"
    while query:
        page = api.get(f"{address}?{query}").json()
        assert len(page["entries"]) <= 2
        assert page["potencial_credit"] == 40
        found += page["entries"]
        query = page["next"] and f"limit=2&before={page['next']}"
    assert len(whole) == 5
    assert found == whole


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("before=0", "before"),
        (f"before={2**63}", "before"),
        ("before=%00", "before"),
    ],
)
def test_a_page_that_there_cannot_be(api, query, field):
    anna = make_member()
    refused(api.get(f"statement/{anna.user_hash}?{query}"), 400, "invalid-fields", field)


# Who may


def test_every_right_is_of_a_scope_that_keys_can_have():
    scopes = {getattr(access, name).scope for name in access.__all__}
    assert scopes == {*SCOPES}


# What is not there, or cannot be read


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("DELETE", "program", {"GET", "POST"}),
        ("POST", "program/1", {"GET", "PUT", "DELETE"}),
        ("GET", "register", {"POST"}),
        ("POST", "invoice/user/x", {"PUT"}),
        ("PUT", "statement/x", {"GET"}),
        ("POST", "health", {"GET"}),
    ],
)
@pytest.mark.parametrize("slash", [True, False])
def test_another_method(api, method, address, allowed, slash):
    api.slash = slash
    answer = api.send(method, address)
    refused(answer, 405, "method-not-allowed")
    assert {*answer.headers["Allow"].split(", ")} == allowed


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_an_address_that_is_not_in_use(api, method):
    for address in ("programs", "invoice", "invoice/user", "program/1/x", "x/y"):
        refused(api.send(method, address), 404, "not-found")


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        ("{", "application/json", 400, "unreadable-body"),
        ("[]", "application/json", 400, "unreadable-body"),
        ("{}", "text/plain", 415, "unsupported-media-type"),
        (" " * 70_000, "application/json", 413, "body-too-large"),
    ],
)
def test_a_body_that_cannot_be_read(api, body, kind, status, code):
    headers = {"Authorization": f"Bearer {api.token}", "Content-Type": kind}
    for method, where in (("POST", "program"), ("POST", "register"), ("PUT", "invoice/user/x")):
        url = f"{api.root}{where}"
        answer = requests.request(method, url, data=body, headers=headers, timeout=30)
        refused(answer, status, code)


def test_a_credit_is_told_to_billing(api, settings):
    settings.AFFILIATE_REFERRALS_BILLING_URL = "https://billing.example/users/%s/credit"
    anna = make_member(program=make_program())
    api.post("register", user_indicator=anna.user_hash, user_indicated="bert")
    for _ in range(2):
        api.put("invoice/user/bert", total_amount_paid=100)
    told = Callback.objects.order_by("pk").values_list("url", flat=True)
    assert list(told) == [
        "https://billing.example/users/bert/credit",
        f"https://billing.example/users/{anna.user_hash}/credit",
    ]


# The document


def test_the_document_is_the_one_that_was_reviewed(client):
    answer = client.get(f"{MOUNT}openapi.json")
    found = json.dumps(answer.json(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if os.environ.get("AFFILIATIONS_WRITE_OPENAPI"):
        SNAPSHOT.write_text(found, encoding="utf-8")
    assert found == SNAPSHOT.read_text(encoding="utf-8"), (
        "The API has changed. If it should have: "
        "AFFILIATIONS_WRITE_OPENAPI=1 pytest tests/referrals/test_api.py -k document"
    )


def test_the_document_has_examples_scopes_and_no_422(client):
    document = client.get(f"{MOUNT}openapi.json").json()
    for operations in document["paths"].values():
        for operation in operations.values():
            assert "422" not in operation["responses"]
            if "security" in operation:
                assert any(f"Scope: {scope}." in operation["description"] for scope in SCOPES)
    schemas = document["components"]["schemas"]
    assert all(schemas[name]["examples"] for name in schemas if name != "FieldError")


urlpatterns = [
    path("here/", include("affiliations.referrals.api_urls", namespace="another_name")),
    path("there/", include(("affiliations.referrals.api_urls", "x"), namespace="y")),
    path("deeper/", include(([path("api/", include("affiliations.referrals.api_urls"))], "z"))),
]


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("mounted", ["here", "there", "deeper/api"])
def test_a_site_mounts_it_anywhere(client, db, mounted):
    program = make_program()
    headers = {"authorization": f"Bearer {make_key()}"}
    found = client.get(f"/{mounted}/program/{program.pk}", headers=headers).json()
    assert found["link"] == f"http://testserver/{mounted}/program/{program.pk}/"
    endpoints = client.get(f"/{mounted}/").json()["endpoints"]
    assert endpoints[1]["url"] == f"http://testserver/{mounted}/health/"
    assert f"/{mounted}/register/" in client.get(f"/{mounted}/openapi.json").json()["paths"]
    assert '"openapi.json"' in client.get(f"/{mounted}/docs").content.decode()
