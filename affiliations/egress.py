"""Make outgoing calls, with nothing of this machine's surroundings in them."""

from __future__ import annotations

from typing import NamedTuple

import requests

#: Seconds to connect, and between two reads.
TIMEOUT = 10.0
#: Bytes that are read of an answer, at most.
MAX_ANSWER = 16 * 1024


class Answer(NamedTuple):
    """What came back: a status, or None and why there is none."""

    status: int | None
    error: str
    retry_after: str = ""


def send(
    method: str, url: str, *, headers: dict[str, str], body: bytes, timeout: float = TIMEOUT
) -> Answer:
    """Make one call and return its answer; never raises for what the other side does.

    One connection a call, no redirects, and neither proxies, `.netrc` nor cookies from the
    environment.
    """
    with requests.Session() as session:
        session.trust_env = False
        # Without this, requests reads the whole body of a redirect that it was told not to follow.
        session.get_redirect_target = lambda resp: None  # type: ignore[method-assign]
        try:
            with session.request(
                method,
                url,
                data=body or None,
                headers={"Accept-Encoding": "identity", "Connection": "close", **headers},
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                response.raw.read(MAX_ANSWER, decode_content=False)
                return Answer(response.status_code, "", response.headers.get("Retry-After", ""))
        except (requests.RequestException, OSError, ValueError) as error:
            return Answer(None, type(error).__name__)
