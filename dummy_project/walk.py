"""Go a way through the demo as a browser does, step by step, and show the evidence of each."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from urllib.parse import urljoin

import requests
from django.contrib.auth.models import User
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError

#: Seconds that a page may take, and a callback.
PAGE = 10
PATIENCE = 15
#: As a browser: a click of a robot is not recorded.
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


class FlowError(Exception):
    """A step did not come out as it has to; says why."""


def require(holds: object, otherwise: str) -> None:
    """Go on if something holds; raises FlowError."""
    if not holds:
        broken(otherwise)


def broken(why: str) -> NoReturn:
    """Give up; raises FlowError."""
    raise FlowError(why)


class Walk:
    """One customer's way, step by step.

    A step yields its evidence, a line at a time, and raises FlowError where the flow is broken.
    """

    title = ""

    def __init__(self, url: str, deadline: float) -> None:
        self.url = url
        self.deadline = deadline
        self.browser = browser()
        self.name = f"customer-{secrets.token_hex(3)}"

    def steps(self) -> tuple[Callable[[], Iterator[str]], ...]:
        """Return the steps in their order; the docstring of each says what it shows."""
        raise NotImplementedError

    def run(self) -> bool:
        """Take the steps until one fails; tell whether all came out well."""
        print(f"\n{self.title}\n")
        with self.browser:
            return all(self.take(number, step) for number, step in enumerate(self.steps(), start=1))

    def take(self, number: int, step: Callable[[], Iterator[str]]) -> bool:
        """Take one step and print its evidence; tell whether it came out well."""
        print(f"{number} {step.__doc__}")
        try:
            for evidence in step():
                print(f"  ✓ {evidence}", flush=True)
        except FlowError as error:
            print(f"  ✗ {error}", flush=True)
            return False
        except (requests.RequestException, ObjectDoesNotExist, DatabaseError) as error:
            print(f"  ✗ {type(error).__name__}: {error}", flush=True)
            return False
        return True

    def ask(
        self,
        method: str,
        path: str,
        status: int = 200,
        *,
        browser: requests.Session | None = None,
        **options: Any,
    ) -> requests.Response:
        """Make one request, as a browser that follows no redirect; raises FlowError."""
        left = self.deadline - time.monotonic()
        require(left > 0, "the time is up")
        url = urljoin(self.url, path)
        answer = (browser or self.browser).request(
            method, url, timeout=min(left, PAGE), allow_redirects=False, **options
        )
        require(
            answer.status_code == status,
            f"{method} {url} answered {answer.status_code}, not {status}",
        )
        return answer

    def send(self, path: str, *, seen_on: str = "", **fields: str) -> requests.Response:
        """Fill in a form that is seen on a page and send it; it has to be accepted."""
        page = self.ask("GET", seen_on or path)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        if token is None:
            broken(f"{page.url} has no form to send")
        data = {"csrfmiddlewaretoken": token[1], **fields}
        return self.ask("POST", path, 302, data=data, headers={"Referer": page.url})

    def register(self) -> tuple[requests.Response, User]:
        """Sign up; return the answer, and the user that it made."""
        answer = self.send("/sign-up/", username=self.name, password=secrets.token_urlsafe())
        user = User.objects.filter(username=self.name).first()
        return answer, user or broken(f"no user {self.name} in the database")

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait for something, as long as there is time."""
        patience = min(self.deadline, time.monotonic() + PATIENCE)
        while not until() and time.monotonic() < patience:
            time.sleep(0.1)


def browser() -> requests.Session:
    """Return a browser that nobody has used before."""
    new = requests.Session()
    new.trust_env = False
    new.headers["User-Agent"] = BROWSER
    return new


def said(answer: requests.Response) -> str:
    """Return a request and its answer in a line."""
    return f"{answer.request.method} {answer.url} → {answer.status_code}"
