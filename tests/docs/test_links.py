"""The pages about links: what they name is there, and what they show works."""

import json
import re
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import get_commands

from affiliations import exceptions as core
from affiliations.links import deeplinks, exceptions, relay, routing, services, signals
from affiliations.links.api import api
from affiliations.links.conf import LinksSettings
from affiliations.links.exceptions import NotCompleted
from affiliations.links.models import Link, Transaction
from affiliations.models import ApiKey, Callback
from tests.core.factories import make_user
from tests.docs.test_docs import DOCS, REFERENCE, code, quoted, rows, run, text
from tests.links.factories import click, make_transaction

pytestmark = pytest.mark.django_db

PAGE = REFERENCE / "links.md"


def sections(level="##"):
    parts = re.split(rf"^{level} (\w+)$", text(PAGE), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def table(section):
    lines = [line for line in sections()[section].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines][1:]


def test_the_settings_and_their_defaults_are_those_of_the_code():
    shown = [(quoted(a)[0], eval(quoted(b)[0]), quoted(c)[0]) for a, b, c in table("Settings")]
    declared = LinksSettings.declared()
    assert shown == [(each.setting, each.default, each.check_id) for each in declared]
    for each in declared:
        assert f"\n`{each.setting}`\n: " in text(PAGE)


def test_the_checks_are_those_of_the_code():
    package = DOCS.parent / "affiliations" / "links"
    source = text(package / "conf.py") + text(package / "checks.py")
    in_code = set(re.findall(r'"(affiliations_links\.[EWI]\d{3})"', source))
    assert sorted(quoted(cells[0])[0] for cells in table("Checks")) == sorted(in_code)


def test_every_public_name_is_in_the_reference():
    words = set(re.findall(r"\w+", text(PAGE)))
    for module in (services, signals, exceptions, deeplinks):
        assert not set(module.__all__) - words, module.__name__


def test_every_error_is_listed_with_what_it_also_is():
    shown = {quoted(c[0])[0]: [quoted(c[1])[0], quoted(c[2])[0]] for c in table("Errors")}
    assert shown == {
        name: [builtin_of(error), error.code]
        for name in exceptions.__all__
        if (error := getattr(exceptions, name)) is not NotCompleted
    }


def builtin_of(error):
    """Return the name of the builtin that an error also is."""
    return next(each.__name__ for each in error.__mro__ if each.__module__ == "builtins")


def test_every_model_is_in_the_reference_with_its_fields():
    private = {"open_key", "order_key", "request_key", "alert_due", "id"}
    shown = sections("###")
    for model in apps.get_app_config("affiliations_links").get_models():
        lines = [line for line in shown[model.__name__].splitlines() if line.startswith("| `")]
        documented = {field for line in lines for field in quoted(line.split("|")[1])}
        fields = {each.name for each in model._meta.fields}
        assert documented == fields - private, model.__name__


def test_every_command_is_in_the_reference():
    ours = {name for name, app in get_commands().items() if app == "affiliations.links"}
    assert set(re.findall(r"^`manage\.py (\w+)", text(PAGE), re.MULTILINE)) == ours


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
    names = ("problems.py", "requestbody.py", "exceptions.py")
    links = ("exceptions.py", "access.py", "refusals.py", "api_urls.py")
    source = "".join(text(package / each) for each in names)
    source += "".join(text(package / "links" / each) for each in links)
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
