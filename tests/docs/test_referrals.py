"""The page about referrals: its endpoints and codes are those of the code, and its calls work."""

import json
import re

import pytest
from django.apps import apps

from affiliations.referrals.api import api
from affiliations.referrals.refusals import STATUSES
from affiliations.referrals.services import register
from tests.docs.test_docs import DOCS, REFERENCE, code, quoted, rows, run, text
from tests.referrals.factories import make_key, make_program

pytestmark = pytest.mark.django_db

PAGE = REFERENCE / "referrals-api.md"
#: What any operation with a key may answer; of a body that is not sent there is nothing wrong.
ANY = {"400", "401", "403"}


def test_the_endpoints_are_those_of_the_code():
    shown = {
        quoted(cells[0])[0]: (
            {*quoted(cells[1])},
            {*re.findall(r"\b[245]\d\d\b", f"{cells[3]} {cells[4]}")},
        )
        for cells in rows(PAGE)
        if len(cells) == 5 and quoted(cells[0])
    }
    served = {}
    for path, operations in api.get_openapi_schema(path_prefix="")["paths"].items():
        for method, operation in operations.items():
            place = path.lstrip("/").replace("{", "<").replace("}", ">")
            scopes = {*re.findall(r"referrals:\w+", operation["description"])}
            statuses = {str(status) for status in operation["responses"]} - ANY
            served[f"{method.upper()} {place}".strip()] = scopes, statuses
    assert shown == served


def test_the_parameters_and_answers_are_those_of_the_code():
    words = {*re.findall(r"\w+", text(PAGE))}
    schema = api.get_openapi_schema(path_prefix="")
    models = schema["components"]["schemas"]
    fields = {
        field
        for name, model in models.items()
        if name not in ("FieldError", "Problem")
        for field in model["properties"]
    }
    parameters = {
        each["name"]
        for operations in schema["paths"].values()
        for operation in operations.values()
        for each in operation.get("parameters", [])
    }
    assert fields | parameters <= words


def test_the_scopes_are_those_of_the_code():
    shown = {cells[0].strip("`"): cells[1] for cells in rows(PAGE) if "`referrals:" in cells[0]}
    scopes = apps.get_app_config("affiliations_referrals").api_scopes
    assert shown == {name: str(what) for name, what in scopes.items()}


def test_the_codes_are_those_of_the_code():
    shown = {
        each: cells[0] for cells in rows(PAGE) if cells[0][0].isdigit() for each in quoted(cells[1])
    }
    package = DOCS.parent / "affiliations"
    names = ("access", "requestbody", "restrefusals", "referrals/exceptions", "referrals/api")
    source = "".join(text(package / f"{each}.py") for each in names)
    said = set(re.findall(r'code = "([a-z]+(?:[-_][a-z]+)+)"', source))
    said |= set(re.findall(r'(?:Refused|problem)\(\s*\d{3}, "([a-z-]+)"', source))
    # Nobody raises the base, and the import is none of the API's.
    assert {*shown} == said - {"not-registered", "unreadable-members"} | {"invalid_money"}
    for error, status in STATUSES.items():
        assert error.code == "not-registered" or shown[error.code] == str(status)


def test_where_it_is_mounted():
    assert len(run("docs/reference/referrals-api.md", "urls")["urlpatterns"]) == 1


def test_the_call_that_is_shown_registers_and_again_reads_as_it_is_shown(client):
    register("anna-7", program=make_program())
    shown = code("docs/reference/referrals-api.md", "register")
    [body] = re.findall(r"-d '(.*)'", shown)
    assert "https://your.example/api/referrals/register/" in shown
    headers = {"authorization": f"Bearer {make_key()}"}
    how = {"content_type": "application/json", "headers": headers}
    answer = client.post("/api/referrals/register/", body, **how)
    assert (answer.status_code, answer.json()["hash"]) == (201, "bert-8")
    again = client.post("/api/referrals/register/", body, **how)
    assert again.json() == json.loads(code("docs/reference/referrals-api.md", "problem"))
