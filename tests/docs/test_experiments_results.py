"""The page on the results of campaigns: its examples run, and it names all that there is."""

from inspect import signature

import pytest

from affiliations.experiments.admin.results_figures import VERDICTS
from affiliations.experiments.figures import Verdict
from affiliations.experiments.results import results
from tests.core.factories import make_partner
from tests.docs.test_docs import DOCS, rows, run
from tests.experiments.factories import make_campaign
from tests.experiments.worlds import THREE, crowd
from tests.tracking.factories import make_property

PAGE = DOCS / "how-to" / "experiments-results.md"


@pytest.mark.django_db
def test_the_examples_run(capsys):
    shop = make_property()
    campaign = make_campaign(shop, groups=[{"variations": THREE}])
    sums = {"Original": (800, 160, 5000), "Blue": (600, 210, 30_000), "Green": (600, 110, 4000)}
    crowd(shop, campaign, sums)
    names = run("docs/how-to/experiments-results.md", "ask", campaign=campaign)
    assert capsys.readouterr().out.splitlines() == [
        "Everybody decided",
        "Original 800 160 800000",
        "Blue 600 210 6300000",
        "Green 600 110 440000",
    ]
    del names["__name__"]
    capped = run("docs/how-to/experiments-results.md", "cap", **names)["found"]
    assert capped.groups[0].variations[1].revenue.total == 210 * 20_000
    run("docs/how-to/experiments-results.md", "partner", **names, partner=make_partner())


def test_every_argument_and_verdict_is_named():
    cells = [each for each in rows(PAGE) if len(each) == 2]
    arguments = set(signature(results).parameters) - {"campaign", "goal"}
    assert {f"`{each}`" for each in arguments} <= dict(cells).keys()
    told = {each: text for each, text in cells if each.strip("`") in set(Verdict)}
    assert told.keys() == {f"`{each}`" for each in Verdict}
    for each, text in VERDICTS.items():
        assert told[f"`{each}`"] == text
