"""The pages about links: what they name is there, and what they show works."""

import json
import re
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model

from affiliations import exceptions as core
from affiliations.links import relay, routing
from affiliations.links.api import api
from affiliations.links.conf import LinksSettings
from affiliations.links.models import Link, Transaction
from affiliations.models import ApiKey, Callback
from tests.core.factories import make_user
from tests.docs.test_docs import DOCS, REFERENCE, code, quoted, rows, run, text
from tests.links.factories import click, make_transaction

pytestmark = pytest.mark.django_db


def test_the_placeholders_are_those_of_the_code():
    shown = [name for cells in rows(DOCS / "how-to" / "links.md") for name in quoted(cells[0])]
    named = {each.strip("{}") for each in shown if each.startswith("{")}
    assert named == {*relay.OF_CLICK, *relay.GIVEN, *relay.OURS}


def test_the_gates_are_those_of_the_code(settings):
    [rule] = [each.rule for each in LinksSettings.declared() if each.name == "LINKS_GATE"]
    shown = [quoted(cells[0])[0] for cells in rows(DOCS / "explanation" / "links.md")[1:]]
    assert [rule(eval(each)) for each in shown] == [""] * 4


def test_what_is_installed():
    names = run("docs/how-to/links.md", "install", INSTALLED_APPS=[])
    assert [apps.is_installed(each) for each in names["INSTALLED_APPS"]] == [True]
    rules = {each.setting: each.rule for each in LinksSettings.declared()}
    assert rules["AFFILIATE_LINKS_REFERERS"](names["AFFILIATE_LINKS_REFERERS"]) == ""


def test_where_it_is_mounted():
    assert len(run("docs/how-to/links.md", "urls")["urlpatterns"]) == 2


def test_from_the_link_to_the_payout(client, settings):
    settings.AFFILIATE_CALLBACK_ALLOW = []
    made = run("docs/how-to/links.md", "generate")
    link = Link.objects.get()
    routing.forget_all()
    assert click(client, link).status_code == 302
    user = make_user("anna")
    client.post("/login/", {"username": "anna"})
    place_order = run("docs/how-to/links.md", "complete")["place_order"]
    order = SimpleNamespace(save=list, total="49", currency="EUR", number="A-1")
    place_order(user, order)
    done = Transaction.objects.get()
    assert str(done.money) == "49.00 EUR"
    assert done.relay.url.startswith("https://example.go2cloud.org/aff_lsr?transaction_id=")
    place_order(make_user(), order)
    assert Callback.objects.count() == 1
    address = run("docs/how-to/links.md", "deep", link=made["link"])["address"]
    deep = client.get(address.removeprefix("https://your.example"))
    assert deep["Location"] == "https://your.example/course/preview?lang=en"


def test_what_is_purchased():
    purchased = run("docs/how-to/links.md", "purchased")["purchased"]
    bought = SimpleNamespace(filter=lambda slug: SimpleNamespace(exists=lambda: slug == "course-7"))
    user = SimpleNamespace(course_set=bought)
    assert purchased(user, "course-7") == "/courses/course-7/"
    assert purchased(user, "course-8") is None


# The API


API = REFERENCE / "links-api.md"


@pytest.fixture
def key():
    return ApiKey.objects.issue(name="docs", scopes=["links:transact"])[1]


def test_the_endpoints_and_scopes_are_those_of_the_code():
    shown = {quoted(cells[0])[0] for cells in rows(API) if quoted(cells[0])}
    schema = api.get_openapi_schema(path_prefix="")
    served = {
        f"{method.upper()} {path.lstrip('/').replace('{path}', '<path>')}"
        for path, operations in schema["paths"].items()
        for method in operations
    }
    calls = {each for each in shown if " " in each}
    assert calls == {each for each in served if each != "DELETE delete/<path>"}
    scopes = apps.get_app_config("affiliations_links").api_scopes
    assert {each for each in shown if ":" in each} == set(scopes)


def test_the_codes_are_those_of_the_code():
    shown = {code for cells in rows(API) if cells[0][0].isdigit() for code in quoted(cells[1])}
    package = DOCS.parent / "affiliations"
    names = ("access", "requestbody", "restrefusals", "exceptions", "links/exceptions")
    source = "".join(text(package / f"{each}.py") for each in names)
    said = set(re.findall(r'code = "([a-z]+(?:[-_][a-z]+)+)"', source))
    said |= set(re.findall(r'(?:Refused|problem)\(\d{3}, "([a-z-]+)"', source))
    assert shown <= said
    others = {"not-completed"} | {getattr(core, each).code for each in core.__all__}
    assert said - shown <= others | {"unreadable-file"}


def test_the_call_that_is_shown_pays_and_a_wrong_one_reads_as_it_is_shown(client, key):
    user = get_user_model().objects.create(pk=42, username="ada")
    make_transaction(user=user)
    shown = code("docs/reference/links-api.md", "complete")
    [body] = re.findall(r"-d '(.*)'", shown)
    assert "https://your.example/api/links/complete" in shown
    headers = {"authorization": f"Bearer {key}"}
    how = {"content_type": "application/json", "headers": headers}
    answer = client.post("/api/links/complete", body, **how)
    assert answer.json() == {"completed": True, "transaction": Transaction.objects.get().pk}
    answer = client.post("/api/links/complete", body.replace("49.00", "0"), **how)
    assert answer.json() == json.loads(code("docs/reference/links-api.md", "problem"))
