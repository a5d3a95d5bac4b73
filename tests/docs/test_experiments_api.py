"""The page on the API of results: its call works, and it names all that there is."""

import re

import pytest
from django.apps import apps

from affiliations.experiments import schemas
from affiliations.experiments.api import api
from affiliations.models import ApiKey
from tests.docs.test_docs import DOCS, code, quoted, rows, run, text
from tests.experiments.factories import make_campaign
from tests.experiments.worlds import THREE, crowd
from tests.tracking.factories import make_property

PAGE = DOCS / "reference" / "experiments-api.md"
CELLS = rows(PAGE)


@pytest.mark.django_db
def test_the_call_that_is_shown(client):
    shop = make_property()
    campaign = make_campaign(shop, slug="checkout", groups=[{"variations": THREE}])
    crowd(shop, campaign, {"Original": (40, 6, 2000), "Blue": (30, 7, 2500), "Green": (30, 4, 0)})
    shown = code("docs/reference/experiments-api.md", "results")
    [address] = re.findall("https://your.example([^']+)", shown)
    key = ApiKey.objects.issue(name="docs", scopes=["experiments:read"])[1]
    answer = client.get(address, headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    [group] = answer.json()["groups"]
    assert group["visitors"] == 100
    [mounted] = run("docs/how-to/experiments-results.md", "mounted")["urlpatterns"]
    assert address.startswith(f"/{mounted.pattern}")


def test_the_endpoints_and_scopes_are_those_of_the_code():
    schema = api.get_openapi_schema(path_prefix="")
    calls = {each[0].strip("`"): each[1] for each in CELLS if each[0].startswith("`GET")}
    served = {
        f"{method.upper()} {path.lstrip('/').replace('{', '<').replace('}', '>')}": operation
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    }
    assert calls.keys() == served.keys()
    for call, operation in served.items():
        asked = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
        assert asked == {*quoted(calls[call])}, call
    scopes = {*apps.get_app_config("affiliations_experiments").api_scopes}
    assert {each for cells in CELLS for each in quoted(cells[0]) if ":" in each} == scopes


def test_the_members_are_those_of_the_answer():
    told = text(PAGE)
    for model in (schemas.Rate, schemas.Revenue, schemas.Group):
        for name in {*model.model_fields} - {"id", "name", "variations", "other_currencies"}:
            assert f"`{name}`" in told, name


def test_the_codes_are_those_of_the_code():
    shown = {each for cells in CELLS if cells[0][0].isdigit() for each in quoted(cells[1])}
    package = DOCS.parent / "affiliations"
    names = ("access", "restrefusals", "exceptions", "experiments/exceptions")
    source = "".join(text(package / f"{each}.py") for each in names)
    said = set(re.findall(r'code = "([a-z]+(?:[-_][a-z]+)+)"', source))
    said |= set(re.findall(r'(?:Refused|problem)\(\d{3}, "([a-z-]+)"', source))
    assert shown <= said | {"invalid-fields"}
    assert {"unknown-campaign", "invalid-results"} <= shown
