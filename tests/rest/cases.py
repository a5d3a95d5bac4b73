"""Cases that schemathesis makes of an API's own document, and judges the answers by.

As raw WSGI, on the database that runs; half of the cases are about what is there.
"""

import random
import time
from collections import Counter
from itertools import count, product
from typing import Any

import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.openapi.checks import UseAfterFree
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
)

BATCH = 40


class Run:
    """Cases of every operation, by turns such as the document allows and such as it does not."""

    #: Where the API is.
    mount: str
    #: Values of the last parameter of an address that make it another one, with its own answers.
    elsewhere: frozenset[str] = frozenset()
    #: Members of bodies in which their fields are, or lists of such.
    wrapped: tuple[str, ...] = ()
    #: Whether anything can be deleted.
    deletes = True

    def __init__(self, token: str) -> None:
        self.schema = schemathesis.openapi.from_wsgi(f"{self.mount}/openapi.json", WSGIHandler())
        self.headers = {"Authorization": f"Bearer {token}"}
        self.operations = {each.ok().label: each.ok() for each in self.schema.get_all_operations()}
        self.random = random.Random(11)
        #: Each batch has other cases, and each run the same.
        self.turns = count(1)
        self.deleted: set[str] = set()
        self.seen: Counter[tuple[str, int]] = Counter()
        self.checks = [
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
            ignored_auth,
            self.use_after_free,
        ]

    def whose(self, case: Any) -> str:
        """Return what a case is about that can be deleted, "" where nothing is."""
        raise NotImplementedError

    def made(self, case: Any, answer: Any) -> None:
        """Remember what was made."""
        raise NotImplementedError

    def planted(self) -> dict[str, Any]:
        """Return a value of what is there for some fields and parameters, by their names."""
        raise NotImplementedError

    def skips(self, case: Any) -> bool:
        """Tell whether a case is none of the operation's, for its address is another's."""
        return bool(
            case.method == "GET" and {*(case.path_parameters or {}).values()} & self.elsewhere
        )

    def refuses(self, label: str) -> bool:
        """Tell whether there is anything about an operation that may be wrong."""
        raw = self.operations[label].definition.raw
        return bool(raw.get("security")) and ("{" in label or "requestBody" in raw)

    def use_after_free(self, ctx: Any, response: Any, case: Any) -> None:
        """Know what was deleted again; schemathesis looks at the address of the DELETE only."""
        whose = self.whose(case)
        label = case.operation.label
        reads = label.startswith("GET") and "{" in label
        if reads and response.status_code == 200 and whose in self.deleted:
            raise UseAfterFree(
                operation=label,
                message=f"{whose} was deleted",
                free=whose,
                usage=whose,
                deleted_case_id=case.id,
            )
        if case.method == "DELETE" and response.status_code == 204:
            self.deleted.add(whose)
        if response.status_code == 201:
            self.made(case, response.json())

    def plant(self, case: Any) -> None:
        """Let a case be about what is there, half of the time."""
        planted = self.planted()
        body = case.body if isinstance(case.body, dict) else {}
        inside = [body[name] for name in self.wrapped if name in body]
        listed = [each for found in inside if isinstance(found, list) for each in found]
        for holder in (body, *inside, *listed, case.query, case.path_parameters):
            for name in list(holder) if isinstance(holder, dict) else ():
                value = planted.get(name)
                if value is not None and self.random.random() < 0.5:
                    holder[name] = value

    def batch(self, operation: Any, mode: GenerationMode) -> None:
        """Send some cases of an operation; raises FailureGroup where an answer is not as said."""

        @seed(next(self.turns))
        @settings(
            max_examples=BATCH,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            self.plant(case)
            if self.skips(case):
                return
            # Of another host Django itself says, before the API is asked, that it is none of ours.
            headers = case.headers or {}
            case.headers = {name: headers[name] for name in headers if name.lower() != "host"}
            response = case.call_and_validate(headers=self.headers, checks=self.checks)
            self.seen[operation.label, response.status_code] += 1

        try:
            send()
        except Unsatisfiable:
            # The document leaves nothing that it does not allow, or nearly.
            assert mode is GenerationMode.NEGATIVE, operation.label

    def has_done(self, label: str) -> bool:
        """Tell whether an operation did what it is there for."""
        return any((label, status) in self.seen for status in (200, 201, 204))

    def send(self, number: int, seconds: float = float("inf")) -> None:
        """Send so many cases, or as many as there is time for once each operation did its work."""
        end = time.monotonic() + seconds
        turns = list(product(self.operations.values(), GenerationMode))
        while self.seen.total() < number:
            for operation, mode in turns:
                self.batch(operation, mode)
            if time.monotonic() > end and all(map(self.has_done, self.operations)):
                return
