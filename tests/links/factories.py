"""Links and transactions for tests, as plain functions."""

import json
from collections.abc import Sequence
from itertools import count
from typing import Any
from urllib.parse import urlencode

from django.utils import timezone

from affiliations.links.models import Link, Transaction
from affiliations.links.services import open_key
from affiliations.models import ApiKey, Partner

numbers = count(1)

NETWORK_ID = "102a1b2c3d4e5f60718293a4b5c6d7"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def make_link(**fields: Any) -> Link:
    """Return a link to a page of somebody's, without a partner and without a callback."""
    fields = {"item_id": "course-7", "landing_page": "https://shop.example/course", **fields}
    return Link.objects.create(**fields)


def make_transaction(link: Link | None = None, **fields: Any) -> Transaction:
    """Return an open transaction of a link: of `user`, or else of the browser `ident`."""
    link = link or make_link()
    user = fields.get("user")
    ident = fields.setdefault("ident", "" if user else f"ident-{next(numbers)}")
    state = fields.setdefault("state", Transaction.State.OPEN)
    key = open_key(link.pk, user=user, ident=ident) if state == "open" else None
    now = timezone.now()
    fields = {
        "path": link.path,
        "item_id": link.item_id,
        "network_id": NETWORK_ID,
        "query": {"transaction_id": NETWORK_ID},
        "clicked_on": now,
        "open_key": key,
        **fields,
    }
    return Transaction.objects.create(link=link, **fields)


def click(client: Any, link: Link | str, query: str | None = None, **extra: Any) -> Any:
    """Follow a link as a browser that comes through the network; return the answer."""
    query = f"transaction_id={NETWORK_ID}" if query is None else query
    target = f"/router/{link}" + (f"?{query}" if query else "")
    headers = {"user-agent": BROWSER, **extra.pop("headers", {})}
    return client.get(target, headers=headers, **extra)


SCOPES = ("links:read", "links:write", "links:transact")


def make_key(partner: Partner | None = None, scopes: Sequence[str] = SCOPES) -> str:
    """Return the token of a key that may do everything, of a partner or of the whole site."""
    _, token = ApiKey.objects.issue(name="a program", scopes=scopes, partner=partner)
    return token


class Program:
    """A program that calls the API with a key, in JSON or as a form."""

    def __init__(self, client: Any, token: str = "", form: bool = False) -> None:
        self.client, self.token, self.form = client, token, form

    def send(self, method: str, path: str, sent: Any = None, **headers: str) -> Any:
        """Return the answer to a call; `path` is below where the API is mounted."""
        if self.token:
            headers = {"authorization": f"Bearer {self.token}", **headers}
        call = getattr(self.client, method.lower())
        if sent is None:
            return call(f"/api/links/{path}", headers=headers)
        kind = "application/x-www-form-urlencoded" if self.form else "application/json"
        body = urlencode(sent, doseq=True) if self.form else json.dumps(sent)
        return call(f"/api/links/{path}", body, content_type=kind, headers=headers)

    def get(self, path: str, **headers: str) -> Any:
        """Ask for something."""
        return self.send("GET", path, **headers)

    def post(self, path: str, /, **sent: Any) -> Any:
        """Send fields."""
        return self.send("POST", path, sent)
