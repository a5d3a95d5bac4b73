"""What the promises of every REST API need to know of the referrals'."""

from typing import Any

from affiliations.models import Callback
from affiliations.referrals.api import api
from affiliations.referrals.models import EmailIndication, Member, Operation, Program
from affiliations.rewards.models import Entry
from tests.referrals.factories import make_key, make_member, make_program
from tests.rest.cases import Run
from tests.rest.hostile import Sender

MOUNT = "/api/referrals"


class ReferralsSender(Sender):
    """Everything that valid bodies are about, and a program that sends others."""

    api = api
    mount = MOUNT
    models = (Program, Member, Operation, Entry, EmailIndication, Callback)
    take_nothing = frozenset({"PUT /program/{id}/"})
    # A switch is no number, but Python has it as one.
    fitting = {
        "active": (b"true", b"false"),
        "depth": (b"true",),
        "max_per_indicator": (b"true", b"false"),
        "max_referrals": (b"true", b"false"),
        # Refused is what is in it, not all of it.
        "emails": (b'["a"]',),
    }

    def __init__(self) -> None:
        super().__init__()
        self.headers = {"authorization": f"Bearer {make_key()}"}
        program = make_program()
        anna = make_member(program=program)
        bert = make_member(anna)
        self.places = {"id": program.pk, "user_hash": bert.user_hash}
        told = {
            "name": "Friends",
            "credit_value": 12.5,
            "target_value": "100.00",
            "reward_value": 20,
            "currency": "EUR",
            "active": True,
            "depth": 2,
            "max_per_indicator": 10,
            "max_referrals": 100,
            "valid_from": "2020-01-01T00:00:00Z",
            "valid_until": "2090-01-01T00:00:00Z",
        }
        self.valid = {
            "POST /program/": told,
            "PUT /program/{id}/": told,
            "POST /register/": {
                "user_indicator": anna.user_hash,
                "user_indicated": "carla-9",
                "referral_program_id": program.pk,
            },
            "POST /emailindication/": {
                "user_indicator": anna.user_hash,
                "emails": "bert@example.com, carla@example.com",
            },
            "POST /emailverification/": {"emails": "bert@example.com, carla@example.com"},
            "PUT /invoice/user/{user_hash}/": {
                "total_amount_paid": 120,
                "reported_on": "2026-01-01T12:00:00+01:00",
                "user_hash": bert.user_hash,
            },
        }


class ReferralsRun(Run):
    """Cases about programs and members, half of which are there."""

    mount = MOUNT

    def __init__(self) -> None:
        super().__init__(make_key())
        self.programs = [make_program().pk]
        self.hashes = [make_member().user_hash]

    def whose(self, case: Any) -> str:
        """Return the program that an address names."""
        return str((case.path_parameters or {}).get("id", ""))

    def made(self, case: Any, answer: Any) -> None:
        if "hash" in answer:
            self.hashes.append(answer["hash"])
        elif "id" in answer:
            self.programs.append(answer["id"])

    def planted(self) -> dict[str, Any]:
        some = self.random.choice
        program = some(self.programs)
        return {
            "id": program,
            "referral_program_id": program,
            "user_indicator": some(self.hashes),
            "user_hash": some(self.hashes),
            "user_indicated": f"new-{self.random.random()}",
            "name": "Friends",
            "credit_value": some([0, "1.5", 12]),
            "target_value": some([0, "100", 12.5]),
            "currency": "USD",
            "total_amount_paid": some([0, 50, "1000"]),
        }
