"""What the promises of every REST API need to know of the tracking's."""

from typing import Any

from affiliations.tracking import properties
from affiliations.tracking.models import Hit, Property
from tests.rest.cases import Run
from tests.tracking.factories import hit, make_event_type, make_property


class TrackingRun(Run):
    """Cases about people and what they did, half of whom are there."""

    mount = "/attribution"
    wrapped = ("identity", "event")
    deletes = False

    def __init__(self) -> None:
        shop, secret = Property.objects.issue(name="Shop", public_key="SHOP")
        super().__init__(secret)
        make_event_type(shop, public_key="BUY")
        make_property(public_key="GONE", active=False)
        properties.forget()
        for kind in Hit.Type.values:
            told = {"event_type_id": shop.event_types.get().pk} if kind == "event" else {}
            hit(
                shop,
                "cookie:c client:42",
                type=kind,
                url="https://shop.example/?utm_source=x",
                **told,
            )

    def skips(self, case: Any) -> bool:
        """Tell whether Django finds nothing at an address: it is asked for in another place."""
        return "/" in str((case.path_parameters or {}).get("public_key", ""))

    def refuses(self, label: str) -> bool:
        """Return True: there is something about each of them that may be wrong."""
        return True

    def whose(self, case: Any) -> str:
        """Return "": nothing can be deleted."""
        return ""

    def made(self, case: Any, answer: Any) -> None:
        assert answer == {}

    def planted(self) -> dict[str, Any]:
        some = self.random.choice
        return {
            "public_key": some(["SHOP", "SHOP", "SHOP", "GONE"]),
            "client_id": some(["42", "43", f"new-{self.random.random()}"]),
            "aliases": some([["c"], [f"new-{self.random.random()}"], ["c", "d"]]),
            "event_public_key": "BUY",
            "created_at": 1_790_000_000,
            "url": some(["https://shop.example/", "URL unknown"]),
            "type": some(Hit.Type.values),
            "amount": some(["19.90", 5]),
            "currency": "EUR",
            "meta": {"agent": "Firefox"},
            **{f"show_{each}": "true" for each in ("pageviews", "touchpoints", "events", "all")},
        }
