"""Talk to a server of Attribution.io's two APIs: this suite's, or any other.

    client = Client("public key", "secret", base_url="https://shop.example/attribution/")
    client.fetch_customer_info_full("42")
    client.trigger_event(cookie, "event key", client_id="42")

Needs no Django. Methods, parameters and results are those of `pyttributionio` 0.5, whose class is
here under its old name too; but what goes wrong is raised, and says what it was.
"""

from __future__ import annotations

import random
import secrets
import string
import time
from typing import Any, Final
from urllib.parse import quote

import requests

from ..exceptions import AffiliationsError

__all__ = ["Client", "ClientError", "PyttributionIo", "RefusedByServer", "Unreachable"]

#: Where the vendor's servers were, for whoever says no other.
PRIVATE_URL, PUBLIC_URL = "https://attribution.io/", "https://api.attribution.io/"
#: Seconds to connect, and to wait for the next bytes of an answer.
TIMEOUT = (3.05, 10.0)
#: How often something is tried, and the seconds before it is tried again: twice as many each time.
TRIES, PAUSE = 4, 0.5
#: The longest pause that a server may ask for.
LONGEST = 30.0
#: By which a server says that it has done nothing, and may be asked again.
LATER: Final = frozenset({429, 502, 503, 504})
#: What happens on the way, and may not happen the next time.
CUT_OFF = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
NOT_FOUND = 404
#: What an address loses, however it is escaped.
NO_SEGMENT: Final = frozenset({"", ".", ".."})
ALPHABET = string.ascii_lowercase + string.digits
WHAT_IT_MEANS: Final = {
    401: "the public key or the secret is wrong",
    403: "the account is disabled",
    429: "there were too many requests",
}


class ClientError(AffiliationsError):
    """The base of what goes wrong; never raised itself."""

    code = "client-error"


class Unreachable(ClientError, ConnectionError):
    """No server has answered, however often it was tried."""

    code = "unreachable"


class RefusedByServer(ClientError, RuntimeError):
    """The server has answered with something else; `status` is its HTTP status."""

    code = "refused-by-server"

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """A property's client: `api_key` is its public key, and `api_secret` is needed for reading.

    `base_url` is where the server has the paths `identities`, `events` and `api/v1/…`. The secret
    goes into the header `Authorization`, which no server logs; into the query, as before, only
    where `base_url` is left out and the vendor's own servers are asked.

    `timeout` is in seconds, one number or one to connect and one to read. What fails without having
    been answered, or is answered by 429, 502, 503 or 504, is tried up to `tries` times, with pauses
    that grow, or that the server asks for. That is safe: a reading changes nothing, a name told
    again is the same name, and an event has a transaction id, by which the server knows it.

    May be shared by threads.
    """

    def __init__(
        self,
        api_key: str,
        api_secret: str = "",
        *,
        base_url: str = "",
        timeout: float | tuple[float, float] = TIMEOUT,
        tries: int = TRIES,
    ) -> None:
        if base_url and not base_url.startswith(("https://", "http://")):
            raise ValueError("base_url: must begin with https:// or http://")
        if tries < 1:
            raise ValueError("tries: must be at least 1")
        self.api_key = api_key
        self._api_secret = api_secret
        self._private = f"{base_url or PRIVATE_URL}".rstrip("/")
        self._public = f"{base_url or PUBLIC_URL}".rstrip("/")
        self._is_vendors = not base_url
        self._timeout = timeout
        self._tries = tries

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.api_key} at {self._private}>"

    # What is known of a customer. Each returns None where there is nobody by this id.

    def fetch_customer_info_base(self, client_id: str | int) -> dict[str, Any] | None:
        """Return a customer's own fields; `client_id` is any name they were identified by.

        Raises Unreachable and RefusedByServer, and ValueError for no id, as all that fetch do.
        """
        return self._fetch(client_id)

    def fetch_customer_info_pageviews(self, client_id: str | int) -> dict[str, Any] | None:
        """Return a customer with the pages that they have seen, as `pageviews`."""
        return self._fetch(client_id, "show_pageviews")

    def fetch_customer_info_touchpoints(self, client_id: str | int) -> dict[str, Any] | None:
        """Return a customer with what brought them, as `touchpoints`."""
        return self._fetch(client_id, "show_touchpoints")

    def fetch_customer_info_events(self, client_id: str | int) -> dict[str, Any] | None:
        """Return a customer with what they did, as `events`."""
        return self._fetch(client_id, "show_events")

    def fetch_customer_info_identities(self, client_id: str | int) -> dict[str, Any] | None:
        """Return a customer with the names that they go by, as `identities`."""
        return self._fetch(client_id, "show_identities")

    def fetch_customer_info_full(self, client_id: str | int) -> dict[str, Any] | None:
        """Return a customer with all of these."""
        return self._fetch(client_id, "show_all")

    # What somebody did.

    def trigger_identity(
        self, attributionio_id: str, client_id: str | int = "", user_agent: str = ""
    ) -> int:
        """Say that the browser with this cookie is a customer; return the HTTP status.

        Without a `client_id` they get one that nobody else has. Raises Unreachable.
        """
        return self._told("identities", self._identity(attributionio_id, client_id, user_agent))

    def trigger_event(
        self,
        attributionio_id: str,
        event_key: str,
        client_id: str | int = "",
        user_agent: str = "",
        last_url: str = "",
        *,
        transaction_id: str = "",
    ) -> tuple[int, int]:
        """Tell of an event, and of whom it was; return the HTTP status of both.

        `transaction_id` names what happened, such as an order's number: the same one again is the
        same event. Without it each call is an event of its own. Raises Unreachable.
        """
        now = int(time.time())
        whose = client_id or _random_id()
        event = {
            "aliases": [attributionio_id],
            "client_id": whose,
            "event_public_key": event_key,
            "url": last_url or "URL unknown",
            "public_key": self.api_key,
            "transaction_id": transaction_id or f"{whose}@{now}.{_random_id(8)}",
            "is_informational": False,
            "created_at": now,
            "meta": {"agent": user_agent or "User-Agent unknown"},
        }
        identity = self._identity(attributionio_id, whose, user_agent)
        return self._told("events", {"event": event}), self._told("identities", identity)

    def _identity(
        self, attributionio_id: str, client_id: str | int, user_agent: str
    ) -> dict[str, Any]:
        return {
            "identity": {
                "aliases": [attributionio_id],
                "client_id": client_id or _random_id(),
                "public_key": self.api_key,
                "created_at": int(time.time()),
                "meta": {"agent": user_agent or "User-Agent unknown"},
            }
        }

    def _fetch(self, client_id: str | int, flag: str = "") -> dict[str, Any] | None:
        if str(client_id) in NO_SEGMENT:
            raise ValueError(f"client_id: no address can hold {str(client_id)!r}")
        # Escaped, also the slash and the question mark: an id is one segment, whatever is in it.
        path = f"api/v1/{quote(self.api_key, safe='')}/customers/{quote(str(client_id), safe='')}"
        params = {flag: "true"} if flag else {}
        headers = {"Accept": "application/json"}
        if self._is_vendors:
            params["secret"] = self._api_secret
        else:
            headers["Authorization"] = f"Bearer {self._api_secret}"
        url = f"{self._private}/{path}"
        answer = self._send("GET", url, params=params, headers=headers)
        if answer.status_code == NOT_FOUND:
            return None
        if not answer.ok or answer.is_redirect:
            raise _refused(url, answer)
        try:
            customer = answer.json()["customer"]
        except (ValueError, LookupError, TypeError):
            customer = None
        if not isinstance(customer, dict):
            text = f"GET {url}: the answer is no customer; is this where the API is?"
            raise RefusedByServer(text, answer.status_code)
        return customer

    def _told(self, path: str, body: dict[str, Any]) -> int:
        # The same bytes each time, so that it is known for the same.
        return self._send("POST", f"{self._public}/{path}", json=body).status_code

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:
        """Return the server's answer, of as many tries as it takes; raises Unreachable."""
        for left in range(self._tries - 1, -1, -1):
            try:
                # No redirect is followed: it would take the secret along, and make a GET of a POST.
                answer = requests.request(
                    method, url, timeout=self._timeout, allow_redirects=False, **options
                )
            except requests.RequestException as error:
                if not left or not isinstance(error, CUT_OFF):
                    # Without what caused it, which names the address with all that is secret in it.
                    text = f"{method} {url}: {_in_words(error)}, tried {self._tries - left} times"
                    raise Unreachable(text) from None
                asked = ""
            else:
                if not left or answer.status_code not in LATER:
                    return answer
                asked = answer.headers.get("Retry-After", "")
            time.sleep(_pause(self._tries - left - 1, asked))
        raise AssertionError("the last try returns or raises")


#: The name of the class in `pyttributionio`.
PyttributionIo = Client


def _random_id(length: int = 24) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _pause(tried: int, asked: str) -> float:
    """Return the seconds until the next try: what the server asks for, or more each time."""
    if asked.isascii() and asked.isdecimal() and len(asked) < 9:
        return min(float(asked), LONGEST)
    # Not all at the same moment.
    return float(PAUSE * 2**tried * random.uniform(0.5, 1))  # noqa: S311


def _in_words(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection"
    if isinstance(error, CUT_OFF):
        return "no connection"
    return f"could not be sent ({type(error).__name__})"


def _refused(url: str, answer: requests.Response) -> RefusedByServer:
    """Return an error that says what a status means, and what the server says of it."""
    try:
        told = answer.json()
        said = str(told.get("error") or told.get("detail") or "")[:200]
    except (ValueError, AttributeError):
        said = ""
    means = WHAT_IT_MEANS.get(answer.status_code) or answer.reason or "is no answer"
    text = f"GET {url}: {answer.status_code}, {means}{f' ({said})' if said else ''}"
    return RefusedByServer(text, answer.status_code)
