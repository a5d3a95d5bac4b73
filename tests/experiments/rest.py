"""What the promises of every REST API need to know of the experiments' server."""

from typing import Any

from affiliations.experiments import live
from affiliations.tracking import properties
from affiliations.tracking.models import Property
from tests.experiments.factories import BLUE, ORIGINAL, make_campaign
from tests.rest.cases import Run
from tests.tracking.factories import make_property

GOLD = [[{"key": "plan", "operator": "EQUALS", "value": "gold"}]]
TEXT = {"name": "Text", "allocation": 100, "kind": "HTML", "modifications": {"x": "<b>hi</b>"}}


class ExperimentsRun(Run):
    """Cases of what clients ask and tell, half of them of campaigns that are there."""

    mount = "/flagship"
    wrapped = ("context", "batch", "h")
    deletes = False

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

    def refuses(self, label: str) -> bool:
        """Return True: there is something about each of them that may be wrong."""
        return True

    def whose(self, case: Any) -> str:
        """Return "": nothing can be deleted."""
        return ""

    def made(self, case: Any, answer: Any) -> None:
        raise AssertionError("nothing is answered by 201")

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
