"""What the promises of every REST API need to know of the links'."""

from typing import Any

from affiliations.links import routing
from affiliations.links.api import api
from affiliations.links.models import LandingPage, Link, Transaction
from affiliations.links.models.links import RESERVED
from affiliations.models import Callback, Conversion
from tests.core.factories import make_user
from tests.links.factories import make_key, make_link, make_transaction
from tests.rest.cases import Run
from tests.rest.hostile import Sender


class LinksSender(Sender):
    """Everything that valid bodies are about, and a program that sends others."""

    api = api
    mount = "/api/links"
    models = (Link, LandingPage, Transaction, Conversion, Callback)
    # A switch is no number, but Python has it as one.
    fitting = {"landing_pages": (b"[]",), "weight": (b"true",)}

    def __init__(self) -> None:
        super().__init__()
        routing.forget_all()
        self.headers = {"authorization": f"Bearer {make_key()}"}
        user = make_user()
        link = make_link(path="Abc-12345")
        make_transaction(link, user=user)
        make_transaction(link, ident="i" * 22)
        of_user = {"item_id": "course-7", "user_id": user.pk}
        sold = {"order_id": "A-17", "currency": "USD", "adv_sub": "x"}
        self.valid = {
            "POST /generate": {
                "item_id": "c-8",
                "MarketingLandingPage": "https://shop.example/",
                "CallbackURL": "https://network.example/",
                "FloorPrice": 1,
                "currency": "EUR",
                "path": "Abc-6789",
                "expects": "ok",
                "valid_from": "2030-01-01T00:00:00Z",
                "passes": "*",
                "adds": "a=b",
                "deep_path": "/x",
                "weight": 1,
                "landing_pages": ["https://shop.example/b"],
            },
            "DELETE /delete": {"UniquePath": "Abc-12345"},
            "POST /acquire": {"anonymous_ident": "i" * 22, "user_id": user.pk},
            "POST /validate-item-id": of_user,
            "POST /fulfill": of_user,
            "POST /complete": {**of_user, **sold, "AmountPaid": 5},
            "POST /refund": {**of_user, "order_id": "A-17"},
        }
        self.before = {"POST /refund": ("POST /complete",)}


class LinksRun(Run):
    """Cases about links and transactions, half of which are there."""

    mount = "/api/links"
    #: Paths that no link has: other operations' addresses, with answers of their own.
    elsewhere = frozenset({*RESERVED, "openapi.json"})

    def __init__(self) -> None:
        super().__init__(make_key())
        routing.forget_all()
        self.users = [make_user().pk for _ in range(3)]
        self.paths = ["nothing-1"]

    def made(self, case: Any, answer: Any) -> None:
        self.paths.append(answer["UniquePath"])

    def whose(self, case: Any) -> str:
        """Return the path that a call is about: a DELETE names it in its query or its body too."""
        body = case.body if isinstance(case.body, dict) else {}
        path = (case.path_parameters or {}).get("path")
        return str(path or (case.query or {}).get("UniquePath") or body.get("UniquePath", ""))

    def planted(self) -> dict[str, Any]:
        some = self.random.choice
        if self.random.random() < 0.1:
            link = make_link(item_id=some(["course-7", "course-8"]), floor_minor=some([0, 1000]))
            self.paths.append(link.path)
            for user in self.users:
                make_transaction(link, user_id=user, open_key=None, state="fulfilled")
            make_transaction(link, user_id=some(self.users), open_key=f"{link.pk}:planted")
        path = some(self.paths)
        return {
            "item_id": some(["course-7", "course-8"]),
            "user_id": some(self.users),
            "UniquePath": path,
            "path": path,
            "MarketingLandingPage": "https://shop.example/",
            "CallbackURL": "https://network.example/?a={amount}",
            "currency": "USD",
        }
