"""The references of the apps beside the core: they name what is there, and nothing else."""

import re
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.apps import apps

from affiliations.attribution import conf as attribution_conf
from affiliations.experiments import conf as experiments_conf
from affiliations.links import conf as links_conf
from affiliations.links.exceptions import NotCompleted
from affiliations.referrals import conf as referrals_conf
from affiliations.referrals.exceptions import NotRegistered
from affiliations.rewards import conf as rewards_conf
from affiliations.tracking import conf as tracking_conf
from tests.docs.test_docs import (
    DOCS,
    PAGES,
    REFERENCE,
    commands,
    documented_options,
    quoted,
    text,
)


class App(NamedTuple):
    """An app: what it has, and what of that it keeps for itself."""

    name: str
    settings: Any
    public: tuple[str, ...]
    abstract_errors: tuple[type, ...] = ()
    private: frozenset[str] = frozenset()

    @property
    def page(self) -> Path:
        return REFERENCE / f"{self.name}.md"

    def module(self, name: str) -> Any:
        return import_module(f"affiliations.{self.name}.{name}")

    def sections(self, level: str = "##") -> dict[str, str]:
        parts = re.split(rf"^{level} (.+)$", text(self.page), flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2], strict=True))

    def table(self, section: str) -> list[list[str]]:
        lines = [line for line in self.sections()[section].splitlines() if line.startswith("| ")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines][1:]


LINKS = App(
    "links",
    links_conf.LinksSettings,
    ("services", "signals", "exceptions", "deeplinks"),
    (NotCompleted,),
    frozenset({"open_key", "order_key", "request_key", "alert_due"}),
)
REWARDS = App(
    "rewards",
    rewards_conf.RewardsSettings,
    (
        "audit",
        "exceptions",
        "explaining",
        "flags",
        "ledger",
        "models",
        "payoutfiles",
        "payouts",
        "replay",
        "reviews",
        "rules",
        "signals",
        "testing",
    ),
    private=frozenset({"lineage", "claimed"}),
)


REFERRALS = App(
    "referrals",
    referrals_conf.ReferralsSettings,
    (
        "exceptions",
        "indications",
        "invoices",
        "mails",
        "models",
        "pages",
        "programs",
        "services",
        "sharing",
        "signals",
        "statements",
        "views",
    ),
    (NotRegistered,),
)


TRACKING = App(
    "tracking",
    tracking_conf.TrackingSettings,
    (
        "channels",
        "client",
        "exceptions",
        "hits",
        "identities",
        "models",
        "properties",
        "recording",
        "retention",
    ),
)


ATTRIBUTION = App(
    "attribution", attribution_conf.AttributionSettings, ("__init__", "exceptions", "reports")
)

EXPERIMENTS = App(
    "experiments",
    experiments_conf.ExperimentsSettings,
    (
        "exceptions",
        "explaining",
        "goals",
        "landing",
        "models",
        "publishing",
        "qa",
        "results",
        "showing",
        "testing",
    ),
)


@pytest.fixture(
    params=[LINKS, REWARDS, REFERRALS, TRACKING, ATTRIBUTION, EXPERIMENTS], ids=lambda app: app.name
)
def app(request: pytest.FixtureRequest) -> App:
    found: App = request.param
    return found


def test_the_settings_and_their_defaults_are_those_of_the_code(app):
    names = {"timedelta": timedelta}
    shown = [
        (quoted(a)[0], eval(quoted(b)[0], names), quoted(c)[0]) for a, b, c in app.table("Settings")
    ]
    declared = app.settings.declared()
    assert shown == [(each.setting, each.default, each.check_id) for each in declared]
    for each in declared:
        assert f"\n`{each.setting}`\n: " in text(app.page)


def test_no_page_names_a_setting_that_does_not_exist():
    sources = "".join(map(text, sorted((DOCS.parent / "affiliations").rglob("conf.py"))))
    there = {
        f"AFFILIATE_{name}" for name in re.findall(r"^    ([A-Z_]+)(?::.*)? = ", sources, re.M)
    }
    for page in PAGES:
        named = set(re.findall(r"\bAFFILIATE_[A-Z_]*[A-Z]\b", text(page)))
        assert not named - there, page


def test_the_checks_are_those_of_the_code(app):
    package = DOCS.parent / "affiliations" / app.name
    source = text(package / "conf.py") + text(package / "checks.py")
    in_code = set(re.findall(rf'"(affiliations_{app.name}\.[EWI]\d{{3}})"', source))
    assert sorted(quoted(cells[0])[0] for cells in app.table("Checks")) == sorted(in_code)


def test_every_public_name_is_in_the_reference(app):
    words = set(re.findall(r"\w+", text(app.page)))
    for name in app.public:
        assert not set(app.module(name).__all__) - words, name


def test_every_error_is_listed_with_what_it_also_is(app):
    shown = {quoted(c[0])[0]: [quoted(c[1])[0], quoted(c[2])[0]] for c in app.table("Errors")}
    exceptions = app.module("exceptions")
    assert shown == {
        name: [builtin_of(error), error.code]
        for name in exceptions.__all__
        if (error := getattr(exceptions, name)) not in app.abstract_errors
    }


def builtin_of(error):
    """Return the name of the builtin that an error also is."""
    return next(each.__name__ for each in error.__mro__ if each.__module__ == "builtins")


def test_the_signals_are_those_of_the_code(app):
    there = find_spec(f"affiliations.{app.name}.signals") is not None
    shown = {quoted(cells[0])[0] for cells in app.table("Signals")} if there else set()
    assert shown == (set(app.module("signals").__all__) if there else set())
    assert there == ("Signals" in app.sections())


def test_every_model_is_in_the_reference_with_its_fields(app):
    shown = app.sections("###")
    for model in apps.get_app_config(f"affiliations_{app.name}").get_models():
        lines = [line for line in shown[model.__name__].splitlines() if line.startswith("| `")]
        documented = {field for line in lines for field in quoted(line.split("|")[1])}
        fields = {each.name for each in [*model._meta.fields, *model._meta.many_to_many]}
        if model._meta.proxy:
            # They are another's, whose page has them.
            fields = {"id"}
        assert documented == fields - app.private - {"id"}, model.__name__


def test_every_command_is_in_the_reference_with_its_options(app):
    assert documented_options(app.page) == commands(f"affiliations.{app.name}")


PATH = re.compile(
    r"\baffiliations\.(?:links|rewards|referrals|tracking|attribution|experiments)(?:\.\w+)*"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_leads_somewhere(page):
    for path in set(PATH.findall(text(page))):
        assert leads_somewhere(path), path


def leads_somewhere(path: str) -> bool:
    found, *rest = path.split(".")
    here: Any = import_module(found)
    for name in rest:
        found = f"{found}.{name}"
        if not hasattr(here, name):
            try:
                import_module(found)
            except ImportError:
                return False
        here = getattr(here, name)
    return True


def test_a_path_that_leads_nowhere_is_seen():
    assert leads_somewhere("affiliations.rewards.rules.publish")
    assert not leads_somewhere("affiliations.rewards.rules.withdraw")
    assert not leads_somewhere("affiliations.rewards.balances")
