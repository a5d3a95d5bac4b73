"""Decide in this process by the file that a server gives, and tell the server everything else.

The file is looked for whenever somebody is decided for and it is older than the interval, by one
thread, while others go on with what there was. So no thread has to live on in a process that forks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from threading import Lock
from typing import Any
from urllib.parse import quote

import requests

from .. import rules
from ..hashing import BUCKETS
from ..recently import Recently
from ..targeting import OPERATORS
from .config import Config
from .decisions import Failed, Flag, Found, Who, without_reserved
from .remote import Remote, read

__all__ = ["Polling"]

logger = logging.getLogger(__name__)


class Polling(Remote):
    """A server that gives the file by which visitors are decided on."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._interval = config.bucketing_refresh_interval
        self._looking = Lock()
        self._looked_on: float | None = None
        self._changed_on = ""
        self._campaigns: list[rules.Campaign] | None = None
        self._panic = False
        #: Whose context was told, for an hour, and of how many.
        self._told = Recently(3600, 50_000)
        self._handler = config.event_handler
        self._look()

    def decide(self, who: Who, context: Mapping[str, Any], cached: Sequence[str]) -> Found:
        """Decide by the file, and tell what is known of the visitor."""
        if self._is_due():
            self._look()
        if self._panic:
            return Found({}, panic=True)
        campaigns = self._campaigns
        if campaigns is None:
            raise Failed("there is no file yet to decide by")
        known = without_reserved(context)
        kept = rules.given(campaigns, set(cached))
        flags = {}
        for each in rules.decide(campaigns, known, who.visitor_id, kept=kept):
            where = each.campaign_id, each.group_id, each.variation_id, each.is_reference
            for name, value in each.value.items():
                flags[name] = Flag(*where, value)
        self._tell_context(who, known)
        return Found(flags)

    def _is_due(self) -> bool:
        if self._interval <= 0 or self._looked_on is None:
            return False
        return time.monotonic() >= self._looked_on + self._interval

    def _look(self) -> None:
        """Look for the file, unless another thread does so."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            self._looked_on = time.monotonic()
            self._read()
        except Failed as failure:
            self._handler.on_log(logging.ERROR, f"[bucketing] {failure}")
        finally:
            self._looking.release()

    def _read(self) -> None:
        path = f"/{quote(self.server.env_id, safe='')}/bucketing.json"
        headers = {"If-Modified-Since": self._changed_on} if self._changed_on else {}
        answer = self.server.ask("GET", path, headers=headers)
        if answer.status_code == requests.codes.not_modified:
            return
        told = read(answer)
        self._panic = bool(told.get("panic"))
        if self._panic:
            # Whatever comes next is read, whenever it was changed.
            self._changed_on = ""
            return
        campaigns = told.get("campaigns")
        if not isinstance(campaigns, list):
            raise Failed("the file has no campaigns")
        self._campaigns = [found for each in campaigns if (found := _campaign(each))]
        self._changed_on = answer.headers.get("Last-Modified", "")

    def _tell_context(self, who: Who, known: Mapping[str, Any]) -> None:
        said = {name: value for name, value in known.items() if value != ""}
        key = who.visitor_id, sha256(repr(sorted(said.items())).encode(errors="replace")).digest()
        if not said or key in self._told:
            return
        path = f"/v2/{quote(self.server.env_id, safe='')}/events"
        try:
            self.server.post(path, {"type": "CONTEXT", "data": said, "visitorId": who.visitor_id})
        except Failed as failure:
            self._handler.on_log(logging.ERROR, f"[bucketing] the context: {failure}")
        else:
            self._told.add(key)


def _campaign(told: Any) -> rules.Campaign | None:
    """Compile a campaign of the file, None where it has another form."""
    try:
        version = {
            "pk": 0,
            "id": told["id"],
            "slug": told.get("slug"),
            "name": told.get("name", ""),
            "type": told.get("type", ""),
            "exclusion": None,
            "groups": [found for each in told["variationGroups"] if (found := _group(each))],
        }
        return rules.of_version(version, 0)
    except (LookupError, TypeError, ValueError, AttributeError):
        logger.warning("A campaign was passed over, which has another form: %.200r", told)
        return None


def _group(told: Any) -> dict[str, Any] | None:
    """Return a group as a version of a campaign has it, None where nobody is meant by it."""
    targeting = [
        [
            {"key": one["key"], "operator": one["operator"], "value": one["value"]}
            for one in each["targetings"]
        ]
        for each in told["targeting"]["targetingGroups"]
        if "targetings" in each
    ]
    # What is asked for in a way that is not known here holds of nobody.
    targeting = [each for each in targeting if all(one["operator"] in OPERATORS for one in each)]
    if not targeting:
        return None
    runs, left = [], BUCKETS
    for each in told["variations"]:
        width = min(max(int(each.get("allocation") or 0), 0), left)
        runs.append([each["id"], width])
        left -= width
    return {
        "pk": 0,
        "id": told["id"],
        "name": told.get("name", ""),
        "targeting": targeting,
        "runs": runs,
        "has_moved": False,
        "variations": [
            {
                "pk": 0,
                "id": each["id"],
                "name": each.get("name", ""),
                "reference": bool(each.get("reference", False)),
                "type": each["modifications"].get("type", ""),
                "value": each["modifications"]["value"],
            }
            for each in told["variations"]
        ],
    }
