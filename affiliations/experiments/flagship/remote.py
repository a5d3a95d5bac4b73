"""Have a server decide, and tell it everything: this suite's at another site, or any other."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from urllib.parse import quote

import requests

from .config import Config
from .decisions import Failed, Flag, Found, Who, without_reserved

__all__ = ["Remote", "Server"]

logger = logging.getLogger(__name__)

#: Of the API that this is: by it a server knows what may be answered.
SENT_BY = {"x-sdk-client": "python", "x-sdk-version": "2.1.5"}
OK = 200


class Server:
    """A server at the base of `decision_api_url`, of which each request has the timeout."""

    def __init__(self, config: Config) -> None:
        self._url, self._timeout = config.decision_api_url, config.timeout
        self.env_id, self._api_key = config.env_id or "", config.api_key or ""

    def post(self, path: str, body: Mapping[str, Any], **headers: str) -> requests.Response:
        """Post JSON to a path; raises Failed where it is not answered, or not well."""
        return self.ask("POST", path, json=body, headers={**SENT_BY, **headers})

    def campaigns(self, body: Mapping[str, Any]) -> Any:
        """Return what a server says that somebody sees; raises Failed."""
        # The context is written down there, so that it need not be told by itself.
        path = f"/v2/{quote(self.env_id, safe='')}/campaigns/?exposeAllKeys=true"
        answer = self.post(path, body, **{"x-api-key": self._api_key})
        return read(answer)

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Return the answer to a request; raises Failed."""
        try:
            # No redirect is followed: it would take the key along, and make a GET of a POST.
            answer = requests.request(
                method,
                f"{self._url}{path}",
                timeout=self._timeout,
                allow_redirects=False,
                **options,
            )
        except requests.Timeout:
            raise Failed(f"no answer within {self._timeout:g} seconds") from None
        except (requests.RequestException, ValueError) as error:
            raise Failed(f"no answer: {type(error).__name__}") from None
        if answer.status_code >= requests.codes.multiple_choices and (
            answer.status_code != requests.codes.not_modified
        ):
            raise Failed(f"the answer is {answer.status_code} {answer.reason or ''}".rstrip())
        return answer


def read(answer: requests.Response) -> dict[str, Any]:
    """Return the object that an answer is in JSON; raises Failed."""
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Failed("the answer is no object of JSON; is this where the API is?")
    return found


class Remote:
    """A server that is asked for each visitor."""

    def __init__(self, config: Config) -> None:
        self.server = Server(config)

    def decide(self, who: Who, context: Mapping[str, Any], cached: Sequence[str]) -> Found:
        """Ask what a visitor sees; what they were given before the server knows itself."""
        body = {
            "visitorId": who.visitor_id,
            "trigger_hit": False,
            "context": without_reserved(context),
        }
        if who.anonymous_id is not None:
            body["anonymousId"] = who.anonymous_id
        told = self.server.campaigns(body)
        if told.get("panic"):
            return Found({}, panic=True)
        campaigns = told.get("campaigns")
        if not isinstance(campaigns, list):
            raise Failed("the answer has no campaigns")
        flags: dict[str, Flag] = {}
        for each in campaigns:
            try:
                flags |= _flags(each)
            except (LookupError, TypeError, AttributeError):
                logger.warning("A campaign was passed over, which has another form: %.200r", each)
        return Found(flags)

    def activate(self, who: Who, flag: Flag) -> str:
        """Tell that a visitor has seen a flag."""
        ids = {"vid": who.visitor_id}
        if who.anonymous_id is not None:
            ids["aid"] = who.anonymous_id
        seen = {"cid": self.server.env_id, "caid": flag.group_id, "vaid": flag.variation_id}
        return str(self.server.post("/v2/activate", {**seen, **ids}).status_code)

    def tell(self, who: Who, hit: Mapping[str, Any]) -> str:
        """Tell what a visitor has done."""
        told = {"cid": self.server.env_id, **who.as_told_with_hits(), **hit}
        return str(self.server.post("/collect/", told).status_code)

    def guarded(self) -> AbstractContextManager[None]:
        """There is no transaction here that could be harmed."""
        return nullcontext()


def _flags(campaign: Any) -> dict[str, Flag]:
    variation = campaign["variation"]
    where: tuple[str, str, str] = (campaign["id"], campaign["variationGroupId"], variation["id"])
    if not all(isinstance(each, str) for each in where):
        raise TypeError("ids are text")
    is_reference = bool(variation.get("reference", False))
    values = variation["modifications"]["value"].items()
    return {name: Flag(*where, is_reference, value) for name, value in values}
