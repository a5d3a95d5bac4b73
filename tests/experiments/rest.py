"""What the promises of every REST API need to know of the experiments' server."""

from typing import Any

from affiliations.experiments import live
from affiliations.models import ApiKey
from affiliations.tracking import properties
from affiliations.tracking.models import Property
from tests.core.factories import make_partner
from tests.experiments.factories import BLUE, ORIGINAL, make_assignment, make_campaign
from tests.rest.cases import Run
from tests.tracking.factories import make_property

GOLD = [[{"key": "plan", "operator": "EQUALS", "value": "gold"}]]
TEXT = {"name": "Text", "allocation": 100, "kind": "HTML", "modifications": {"x": "<b>hi</b>"}}


class Reads(Run):
    """Cases of an API by which nothing is made, and nothing can be deleted."""

    deletes = False

    def refuses(self, label: str) -> bool:
        """Return True: there is something about each of them that may be wrong."""
        return True

    def whose(self, case: Any) -> str:
        """Return "": nothing can be deleted."""
        return ""

    def made(self, case: Any, answer: Any) -> None:
        raise AssertionError("nothing is answered by 201")


class ResultsRun(Reads):
    """Cases of questions about campaigns, half of them about some that are there."""

    mount = "/api/experiments"
    elsewhere = frozenset({"openapi.json", "docs"})

    def __init__(self) -> None:
        super().__init__(ApiKey.objects.issue(name="x", scopes=["experiments:read"])[1])
        shop = make_property()
        color = make_campaign(shop, slug="color", groups=[{"variations": [ORIGINAL, BLUE]}])
        partner = make_partner()
        for number, variation in enumerate(color.groups.get().variations.all()):
            make_assignment(variation, f"visitor-{number}", partner=partner)
        self.uid = partner.uid

    def planted(self) -> dict[str, Any]:
        some = self.random.choice
        return {
            "campaign": "color",
            "goal": some(["transaction", "trigger:Order placed", "event:signup"]),
            "partner": self.uid,
            "since": "2026-01-01T00:00:00Z",
            "until": "2030-01-01T00:00:00+01:00",
            "days": 30,
            "currency": "EUR",
            "cap": some(["100.00", 5]),
            "level": some([0.9, 0.99]),
            "before": 99,
        }


class ExperimentsRun(Reads):
    """Cases of what clients ask and tell, half of them of campaigns that are there."""

    mount = "/flagship"
    wrapped = ("context", "batch", "h")

    def __init__(self) -> None:
        shop, secret = Property.objects.issue(name="Shop", public_key="SHOP")
        super().__init__(secret)
        self.headers = {"X-Api-Key": secret}
        color = make_campaign(shop, slug="color", groups=[{"variations": [ORIGINAL, BLUE]}])
        make_campaign(shop, slug="gold", groups=[{"variations": [TEXT], "targeting": GOLD}])
        make_property(public_key="GONE", active=False)
        properties.forget()
        live.forget()
        self.group = color.groups.get()
        self.variations = [each.uid for each in self.group.variations.all()]

    def skips(self, case: Any) -> bool:
        """Tell whether Django finds nothing at an address: it is asked for in another place."""
        return any("/" in str(each) or not each for each in (case.path_parameters or {}).values())

    def planted(self) -> dict[str, Any]:
        some = self.random.choice
        return {
            "env": some(["SHOP", "SHOP", "SHOP", "GONE"]),
            "cid": some(["SHOP", "SHOP", "SHOP", "GONE"]),
            "campaign": some(["color", "gold"]),
            "visitorId": some(["anna", "ben", "héléne 😀"]),
            "anonymousId": some(["before", None]),
            "context": some([{"plan": "gold"}, {"plan": "silver", "age": 30}]),
            "formatResponse": True,
            "caid": self.group.uid,
            "vaid": some(self.variations),
            "vid": some(["anna", "ben"]),
            "qt": some([5, "7"]),
            "tr": 19.9,
            "tc": "EUR",
            "t": some(["SCREENVIEW", "PAGEVIEW", "CAMPAIGN"]),
            "exposeAllKeys": "true",
            "mode": some(["simple", "full"]),
        }
