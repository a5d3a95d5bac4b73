"""See one of two buttons, on a page and by Flagship's protocol, and look at what came of it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

from affiliations.experiments.explaining import explain
from affiliations.experiments.models import Assignment, Campaign
from affiliations.tracking.models import Hit, Property

from . import seed
from .tracking_walk import ITEM
from .walk import Walk, broken, require, said

FLAGSHIP = "/flagship/"


class ExperimentsWalk(Walk):
    """A customer who is shown one of two buttons, and a program that decides for them likewise."""

    title = "Flagship's way: two buttons, one of them for each customer, and what came of it"

    def __init__(self, url: str, deadline: float) -> None:
        super().__init__(url, deadline)
        self.prop = Property.objects.get(public_key=seed.PROPERTY)
        self.key = self.prop.renew_secret()
        self.prop.save()
        self.campaign = Campaign.objects.get(slug=seed.EXPERIMENT)

    def steps(self) -> tuple[Callable[[], Iterator[str]], ...]:
        """Return the steps in their order."""
        return (self.see, self.decide, self.tell, self.buy, self.explain, self.look)

    def see(self) -> Iterator[str]:
        """A customer is shown one of the buttons, and the same one again"""
        _, user = self.register()
        shown = [self.button() for _ in range(2)]
        require(shown[0] == shown[1], f"first “{shown[0]}”, then “{shown[1]}”")
        require(shown[0] in seed.BUTTONS, f"the button says “{shown[0]}”")
        self.shown = shown[0]
        yield f"the button says “{self.shown}”, and does so again"
        rows = Assignment.objects.filter(campaign=self.campaign, identity__value=str(user.pk))
        row = rows.exclude(exposed_on=None).select_related("variation").first()
        if row is None:
            broken("nobody has seen it")
        yield f"seen: {row.variation}, by version {row.version}"

    def decide(self) -> Iterator[str]:
        """A client of Flagship's is told the same of the same customer"""
        told = {"visitorId": self.name, "trigger_hit": False, "context": {}}
        path = f"{FLAGSHIP}v2/{seed.PROPERTY}/campaigns/?sendContextEvent=false"
        answer = self.ask("POST", path, json=told, headers={"x-api-key": self.key})
        flags: dict[str, Any] = {}
        for each in answer.json()["campaigns"]:
            flags |= each["variation"]["modifications"]["value"]
        require(flags.get(seed.FLAG) == self.shown, f"the client is told {flags}")
        yield f"{said(answer)}, {seed.FLAG}: “{flags[seed.FLAG]}”"

    def tell(self) -> Iterator[str]:
        """It tells of hits in a batch, of which a bad one takes no other along"""
        screen = {"t": "SCREENVIEW", "ds": "APP", "dl": "cup in the app", "vid": self.name}
        batch = {"cid": seed.PROPERTY, "t": "BATCH", "ds": "APP", "h": [{"t": "?"}, screen]}
        yield said(self.ask("POST", f"{FLAGSHIP}collect/", 204, json=batch))
        hits = Hit.objects.filter(identity__value=self.name, type="screen")
        self.wait(hits.exists)
        require(hits.exists(), "the screen is not written")
        yield f"{hits.count()} screen of {self.name}"

    def buy(self) -> Iterator[str]:
        """They press the button"""
        yield said(self.send(ITEM))

    def explain(self) -> Iterator[str]:
        """Anybody can be told why they saw what they saw"""
        found = explain(self.name, self.campaign)
        group = found.groups[-1]
        require(found.sees is not None, f"it is explained by {found.because}")
        require(found.sees and found.sees.value[seed.FLAG] == self.shown, "it explains another")
        yield f"bucket {group.bucket} of {group.group.name}, version {found.version}"

    def look(self) -> Iterator[str]:
        """Staff see in the admin what came of it"""
        page = f"/admin/affiliations_experiments/campaign/{self.campaign.pk}/results/"
        self.browser.cookies.clear()
        self.send(f"/admin/login/?next={page}", username=seed.STAFF, password=seed.STAFF)
        answer = self.ask("GET", f"{page}?{urlencode({'goal': f'event:{seed.PURCHASE}'})}")
        text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())
        wanted = "Too early to say"
        require(wanted in text, f"{answer.url} does not say “{wanted}”")
        yield f"{said(answer)}: “{wanted}”"

    def button(self) -> str:
        """Return what the button of a product says."""
        found = re.search(r'<button class="button">([^<]+)</button>', self.ask("GET", ITEM).text)
        return html.unescape(found[1]) if found else ""
