"""Go several ways to one order, and ask by which of them it was earned."""

from __future__ import annotations

import html
import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django.utils import timezone

from affiliations import attribution
from affiliations.attribution import exports
from affiliations.models import Partner

from . import seed
from .shop.models import Order
from .tracking_walk import ITEM, LANDING, TrackingWalk
from .walk import require, said

REPORT = "/admin/affiliations_attribution/attributionreport/"
#: As a newsletter leads there.
LETTER = "/?utm_source=letter&utm_medium=email&utm_campaign=kiln-letter"
#: What each model has to make of an order that a search, a letter and a partner led to.
EARNED = {
    "first": {"paid_search": 1.0, "email": 0.0, "affiliate": 0.0},
    "last": {"paid_search": 0.0, "email": 0.0, "affiliate": 1.0},
    "linear": {"paid_search": 1 / 3, "email": 1 / 3, "affiliate": 1 / 3},
    "position_based": {"paid_search": 0.4, "email": 0.2, "affiliate": 0.4},
}


class AttributionWalk(TrackingWalk):
    """A customer who comes by a search, by a letter and by a partner's link, and orders then."""

    title = "The models' way: three ways to one order, and who has earned it"
    since: datetime
    until: datetime

    def steps(self) -> tuple[Callable[[], Iterator[str]], ...]:
        """Return the steps in their order."""
        return (self.come, self.buy, self.identify, self.compare, self.export, self.look)

    def come(self) -> Iterator[str]:
        """Somebody comes by an advertisement, by a letter, and by the partner's link"""
        self.since = timezone.now()
        for landing in (LANDING, LETTER):
            answer = self.post(type="pageview", url=self.url + landing, status=201)
            yield f"{said(answer)}, of {landing}"
        link = Partner.objects.get(name=seed.PARTNER).link(self.url + ITEM)
        yield said(self.ask("GET", link, 302))

    def compare(self) -> Iterator[str]:
        """By each model the order was earned by another, and each divides it to the cent"""
        order = Order.objects.get(user__username=self.name)
        self.until = timezone.now()
        rows = attribution.compare([*EARNED], **self.asked()).to_pylist()
        for model, wanted in EARNED.items():
            mine = [row for row in rows if row["model"] == model]
            found = {row["label"]: round(row["conversions"], 9) for row in mine}
            require(
                found == {label: round(value, 9) for label, value in wanted.items()},
                f"by {model} it is {found}",
            )
            minor = sum(row["amount_minor"] for row in mine)
            require(minor == order.total * 100, f"by {model} it is {minor} cents in all")
            parts = ", ".join(
                f"{row['label'].replace('_', ' ')} {row['amount_minor'] / 100:.2f} EUR"
                for row in mine
            )
            yield f"{model.replace('_', ' ')}: {parts}"

    def export(self) -> Iterator[str]:
        """Written to Parquet and read from there, the figures are the same"""
        live = attribution.compare([*EARNED], **self.asked())
        with tempfile.TemporaryDirectory() as directory:
            done = exports.export(directory)
            again = attribution.compare([*EARNED], source=Path(directory), **self.asked())
        require(again == live, "the export says something else")
        require(done and done.touchpoints, f"it holds {done}")
        yield f"{done and done.touchpoints} touchpoints of {done and done.people} people"

    def look(self) -> Iterator[str]:
        """Staff see it in the admin, drawn, by the models that they choose"""
        self.browser.cookies.clear()
        self.send(f"/admin/login/?next={REPORT}", username=seed.STAFF, password=seed.STAFF)
        today = timezone.localdate().isoformat()
        asked = {"since": today, "until": today, "by": "channel", "model": [*EARNED]}
        page = self.ask("GET", f"{REPORT}?{urlencode(asked, doseq=True)}")
        drawn = [html.unescape(each) for each in re.findall(r"<title>([^<]+)</title>", page.text)]
        shown = next((each for each in drawn if each.startswith("paid search")), "")
        require(shown, f"{page.url} draws no paid search")
        yield f"{said(page)}, draws “{shown}”"

    def asked(self) -> dict[str, Any]:
        """Return what is asked: of the orders of this walk alone."""
        return {
            "since": self.since,
            "until": self.until,
            "by": "channel",
            "trigger": "Order placed",
        }
