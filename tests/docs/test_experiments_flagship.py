"""The page on the Flagship API: what is typed in it works, and it has every name."""

import inspect
import re

import pytest
from django.core.cache import cache

from affiliations.experiments import exposures, live, segments
from affiliations.experiments.flagship import Config, Flagship
from affiliations.tracking.models import Hit
from tests.docs.test_docs import DOCS, rows, run
from tests.experiments.environment import Environment
from tests.experiments.factories import make_campaign
from tests.experiments.test_flagship_api import DOCUMENTED, NO

PAGE = DOCS / "how-to/experiments-with-the-flagship-api.md"
WHOLE = [{"name": "Blue", "allocation": 100, "modifications": {"button-color": "blue"}}]


@pytest.fixture
def env(db, monkeypatch):
    for module in (live, exposures, segments):
        module.forget()
    monkeypatch.setattr(Flagship, "_instance", None)
    env = Environment()
    env.campaign = make_campaign(env.prop, groups=[{"variations": WHOLE}])
    yield env
    cache.clear()


def test_it_is_started_and_decides(env):
    names = run("docs/how-to/experiments-with-the-flagship-api.md", "imports")
    given = {**names, "env_id": env.id, "api_key": env.key, "visitor_id": "visitor-1"}
    run("docs/how-to/experiments-with-the-flagship-api.md", "start", **given)
    done = run("docs/how-to/experiments-with-the-flagship-api.md", "decide", **given)
    assert done["checkout"](None) == "blue"
    visitor = Flagship.instance().create_visitor("visitor-1")
    run("docs/how-to/experiments-with-the-flagship-api.md", "hits", **given, visitor=visitor)
    kinds = Hit.objects.filter(identity__value="customer-42").values_list("type", flat=True)
    assert sorted(kinds) == ["event", "item", "transaction"]


def test_what_visitors_were_given_is_kept(env):
    names = run("docs/how-to/experiments-with-the-flagship-api.md", "imports")
    given = {**names, "env_id": env.id}
    ready = run("docs/how-to/experiments-with-the-flagship-api.md", "caches", **given)
    own = run("docs/how-to/experiments-with-the-flagship-api.md", "manager", **given)
    managers = [
        ready["in_a_cache"].visitor_cache_manager,
        ready["in_the_database"].visitor_cache_manager,
        own["InASession"]({}),
    ]
    for manager in managers:
        Flagship.instance().start(Config(env.id, visitor_cache_manager=manager))
        visitor = Flagship.instance().create_visitor("w")
        assert visitor.synchronize_modifications() == (True, "")
        assert manager.lookup("w")["data"]["vaIds"] == visitor.get_selected_variations() != []


def test_another_site_decides(env):
    names = run("docs/how-to/experiments-with-the-flagship-api.md", "imports")
    given = {**names, "env_id": env.id, "api_key": env.key}
    run("docs/how-to/experiments-with-the-flagship-api.md", "remote", **given)
    assert Flagship.instance().is_flagship_started()


@pytest.mark.django_db(transaction=True)
async def test_asynchronous_code(env):
    Flagship.instance().start(Config(env.id))
    given = {"Flagship": Flagship, "visitor_id": "visitor-1"}
    names = run("docs/how-to/experiments-with-the-flagship-api.md", "async", **given)
    assert await names["basket"](None) == "blue"


def test_each_name_with_its_parameters():
    table = {cells[0].strip("`"): cells[1] for cells in rows(PAGE)}
    for function, parameters in DOCUMENTED:
        name = function.__qualname__.replace("FlagshipVisitor", "Visitor")
        told = [each if value is NO else f"{each}={value}" for each, value in parameters.items()]
        assert re.findall(r"`([^`]+)`", table[name.removesuffix(".__init__")]) == told
    config = inspect.signature(Config).parameters.values()
    shown = {each.name: eval(table[each.name].strip("`"), {"Config": Config}) for each in config}
    assert shown == {each.name: each.default for each in config}
