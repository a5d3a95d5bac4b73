"""The pages of the attribution: examples that run and print what is shown, and tables of names."""

import re
from inspect import signature

import pytest
from django.db import connection
from django.test import override_settings

from affiliations import attribution
from affiliations.attribution import chains, questions, reports
from affiliations.attribution.checks import check_settings
from affiliations.attribution.rules import RULES
from affiliations.attribution.sources import DIMENSIONS
from tests.attribution.factories import travelled
from tests.docs.test_apps import ATTRIBUTION
from tests.docs.test_docs import BLOCKS, DOCS, code, quoted, rows, run, text
from tests.tracking.factories import make_property

HOW_TO = "docs/how-to/attribution-reports.md"
#: What each test runs of it; for those that print there is a block of what they print.
SETTINGS = ["settings", "memory"]
PRINTED = ["first", "compare", "classic", "paths", "durations"]
SILENT = ["lead", "narrowed", "database"]
MODELS = DOCS / "explanation" / "attribution-models.md"


@pytest.fixture
def march():
    """Five people, of whom three ordered for 20.00 EUR each; returns what was defined first."""
    shop = make_property()
    for channels, won in (
        (("email", "paid_search"), True),
        (("paid_search",), True),
        (("email",), True),
        (("email",), False),
        (("paid_search",), False),
    ):
        travelled(shop, channels, won=won, minor=2000, currency="EUR")
    names = run(HOW_TO, "first")
    return {name: names[name] for name in ("attribution", "march")}


def test_every_block_is_run_here():
    outputs = [f"{name}-output" for name in PRINTED]
    names = {each.name for each in BLOCKS if each.page == HOW_TO and each.name}
    assert names == {"install", *SETTINGS, *PRINTED, *outputs, *SILENT}


def test_it_is_installed():
    names = run(HOW_TO, "install", INSTALLED_APPS=[])
    assert names["INSTALLED_APPS"] == ["affiliations.attribution"]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_that_are_shown_are_right(name):
    names = run(HOW_TO, name)
    with override_settings(**{key: names[key] for key in names if key.startswith("AFFIL")}):
        assert check_settings(None) == []


@pytest.mark.django_db
@pytest.mark.parametrize("name", PRINTED)
def test_a_report_prints_what_is_shown(march, name, capsys):
    capsys.readouterr()
    run(HOW_TO, name, **march)
    assert capsys.readouterr().out == code(HOW_TO, f"{name}-output") + "\n"


@pytest.mark.django_db
@pytest.mark.parametrize("name", SILENT)
def test_a_report_that_is_not_printed_runs(march, name, monkeypatch):
    if name == "database" and connection.vendor == "mysql":
        pytest.skip("computes no reports")
    made = []
    real = attribution.attribute
    monkeypatch.setattr(
        attribution, "attribute", lambda *a, **k: made.append(real(*a, **k)), raising=False
    )
    run(HOW_TO, name, **march)
    assert [sum(table["conversions"].to_pylist()) for table in made] == [pytest.approx(3)]


def section(name):
    return ATTRIBUTION.sections("###")[name].partition("\n## ")[0]


def listed(name):
    """Return the cells of a section's tables, a list for each."""
    blocks = re.findall(r"(?:^\|.*\n)+", section(name), re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]
        for block in blocks
    ]


def first_column(name):
    [table] = listed(name)
    return [each for cells in table for each in quoted(cells[0])]


def test_every_model_dimension_and_engine_is_listed():
    assert tuple(first_column("Models")) == questions.MODELS == (*RULES, *questions.CHAINS)
    assert tuple(first_column("Dimensions")) == DIMENSIONS
    assert tuple(first_column("Engines")) == questions.ENGINES


def test_every_model_is_explained_and_can_be_chosen():
    defined = re.findall(r"^`(\w+)`$\n: ", text(MODELS), re.MULTILINE)
    assert tuple(defined) == questions.MODELS
    chosen = [quoted(cells[1])[0] for cells in rows(DOCS.parent / HOW_TO)[1:]]
    assert tuple(chosen) == questions.MODELS


@pytest.mark.parametrize(
    ("number", "schema"), list(enumerate([reports.SCHEMA, reports.PATHS, reports.DURATIONS]))
)
def test_the_columns_are_those_of_the_code(number, schema):
    shown = [
        (quoted(cells[0])[0], cells[1].replace("&lt;", "<").replace("&gt;", ">"))
        for cells in listed("Columns")[number]
    ]
    assert shown == [(field.name, str(field.type)) for field in schema]


def test_every_argument_is_listed_with_the_functions_that_take_it():
    functions = {name: getattr(attribution, name) for name in attribution.__all__}
    taken = {}
    for name, function in functions.items():
        for each in signature(function).parameters:
            taken.setdefault(each, set()).add(name)
    # It hands on what it is given.
    del taken["asked"]
    for each in set(signature(attribution.attribute).parameters) - {"model"}:
        taken[each].add("compare")
    [table] = listed("Arguments")
    shown = {
        argument: set(quoted(cells[1])) or set(functions)
        for cells in table
        for argument in quoted(cells[0])
    }
    assert shown == taken


def test_the_limits_are_those_of_the_code():
    limits = " ".join(text(MODELS).split()).partition("## Limits")[2]
    assert f"at most {chains.MOST:,} places" in limits
    assert f"exact up to {chains.EXACT} labels" in limits
    assert f"all {2**chains.EXACT:,} coalitions" in limits
    assert f"less than {chains.ERROR} of all conversions" in limits
    assert f"a probability of {1 - chains.DOUBT:.0%}".replace("%", " %") in limits
    page = ATTRIBUTION.sections()["Functions"]
    assert f"the last {reports.LONGEST} |" in page
    assert f"1 to {reports.MOST_PATHS:,}, and" in page
    assert f"1 to {questions.MOST_ORDER}, and" in page
