"""What the API is told and answers, under the names of GetupCloud's document."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from ..restfields import (
    Amount,
    AnyProblem,
    Currency,
    Moment,
    OptionalAmount,
    ShownMoment,
    Told,
    example,
    or_none,
    printable,
    text,
)
from .indications import AT_ONCE
from .models import Operation
from .models.members import MAX_HASH
from .models.programs import MAX_DEPTH, MAX_NAME

#: What fields of the services are called.
NAMES = {
    "amount": ("total_amount_paid",),
    "indicator": ("user_indicator",),
    "program": ("referral_program_id",),
    "user_hash": ("user_indicated",),
}
MAX_COUNT = 2**31 - 1
#: Characters of what may be an address, and of what is answered of it.
MAX_TEXT = 1000
CREDIT = "What the indicated user receives at sign-up."
TARGET = "What they must have paid before the indicator is credited."


def _or_nothing(value: Any) -> Any:
    return "" if value is None else value


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME),
    AfterValidator(printable),
]
Hash = Annotated[str, *text(least=0, most=MAX_HASH, number="integer"), BeforeValidator(_or_nothing)]
Count = Annotated[
    Annotated[int, Field(ge=0, le=MAX_COUNT)] | None,
    BeforeValidator(or_none),
]
#: An amount in an answer: exact, see `ExactRenderer`.
Number = Annotated[Decimal, WithJsonSchema({"type": "number"})]


def _separated(value: Any) -> Any:
    """Take text for a list of what stands between its commas, as the document has it."""
    return [each for each in value.split(",") if each.strip()] if isinstance(value, str) else value


LIST = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": AT_ONCE}
#: Whether each is an address is said one by one, in the answer.
Emails = Annotated[
    list[Annotated[str, StringConstraints(max_length=MAX_TEXT)]],
    BeforeValidator(_separated),
    Field(min_length=1, max_length=AT_ONCE),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, LIST]}),
]

SHOWN = {
    "name": "Friends",
    "credit_value": 12.5,
    "target_value": 100,
    "reward_value": 100,
    "currency": "EUR",
    "active": True,
    "depth": 1,
    "max_per_indicator": None,
    "max_referrals": None,
    "valid_from": None,
    "valid_until": None,
}
ANSWERED = {"id": 1, **SHOWN, "link": "https://shop.example/api/referrals/program/1/"}
MEMBER = {"id": 7, "hash": "anna-7", "is_generates_even": False}


class _Rest(Told):
    """What may be said of any program besides its name and amounts."""

    reward_value: OptionalAmount = Field(
        None, description="What the indicator receives then; as much as the target without it."
    )
    currency: Currency = Field("", description="An ISO 4217 code; the site's own without one.")
    active: bool = Field(True, description="Whether somebody can register in it.")
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = Field(
        1, description="2 also credits who had brought the indicator, and so on."
    )
    max_per_indicator: Count = Field(
        None, description="How many each indicator is credited for, at most."
    )
    max_referrals: Count = Field(None, description="How many referrals are credited, at most.")
    valid_from: Moment = None
    valid_until: Moment = None


class Creation(_Rest):
    """The program to be made."""

    model_config = example(name="Friends", credit_value=12.5, target_value=100, currency="EUR")

    name: Name
    credit_value: OptionalAmount = Field(None, description=CREDIT)
    target_value: OptionalAmount = Field(None, description=TARGET)


class Change(_Rest):
    """What is to be another of a program; what is not sent stays."""

    model_config = example(credit_value=0, active=False)

    name: Name = ""
    credit_value: Amount = Field(0, description=CREDIT)
    target_value: Amount = Field(0, description=TARGET)


class Registration(Told):
    """Who is new, and who brought them."""

    model_config = example(user_indicator="anna-7", user_indicated="bert-8")

    user_indicator: Hash = Field("", description="Who brings somebody. Needed.")
    user_indicated: Hash = Field("", description="Who is new. Needed.")
    referral_program_id: Hash = Field("", description="The indicator's own program without it.")


class Report(Told):
    """What somebody has paid until now."""

    model_config = example(total_amount_paid=100, reported_on="2026-11-28T12:00:00Z")

    total_amount_paid: Amount = Field(
        description="All in all, in the currency of their program: a running total."
    )
    reported_on: Moment = Field(
        None, description="When that was so; an earlier total than the last one changes nothing."
    )
    user_hash: Hash = Field("", description="As in the address, if at all.")


class Indication(Told):
    """Whom a member would bring."""

    model_config = example(user_indicator="anna-7", emails="bert@example.com, carla@example.com")

    user_indicator: Hash = Field("", description="Who would bring them. Needed.")
    emails: Emails = Field(description="Addresses, separated by commas, or a list of them.")


class Verification(Told):
    """About whom is asked who has indicated them."""

    model_config = example(emails="bert@example.com, carla@example.com")

    emails: Emails = Field(description="Addresses, separated by commas, or a list of them.")


class Program(BaseModel):
    """What is promised; amounts are in major units."""

    model_config = example(**ANSWERED)

    id: int
    name: str
    credit_value: Number
    target_value: Number
    reward_value: Number
    currency: str
    active: bool
    depth: int
    max_per_indicator: int | None
    max_referrals: int | None
    valid_from: ShownMoment | None
    valid_until: ShownMoment | None
    link: str


class Indicator(BaseModel):
    """A member, and whether who brought them may still be credited for it."""

    model_config = example(**MEMBER)

    id: int
    hash: str
    is_generates_even: bool


class Registered(Indicator):
    """A new member."""

    model_config = example(
        id=8,
        hash="bert-8",
        is_generates_even=True,
        referral_program=ANSWERED,
        user_indicator=MEMBER,
    )

    referral_program: Program
    user_indicator: Indicator


class Acquired(BaseModel):
    """What the indicator has gained by this report; below zero where it was taken back."""

    model_config = example(acquired_credit=100)

    acquired_credit: Number


class Entry(BaseModel):
    """Something that has happened to a member, about whom they brought or themselves."""

    model_config = example(
        operation="acquired_credit",
        amount=100,
        currency="EUR",
        about="bert-8",
        date="2026-11-28T12:00:00Z",
    )

    operation: str = Field(json_schema_extra={"enum": [*Operation.Kind.values]})
    amount: Number
    currency: str
    about: str
    date: ShownMoment


class Statement(BaseModel):
    """What there is of each kind of credit, and some of what has happened, the newest first."""

    model_config = example(
        potencial_credit=0,
        acquired_credit=100,
        signup_credit=12.5,
        referral_program=ANSWERED,
        entries=[],
        next=None,
    )

    potencial_credit: Number = Field(description="What is still open.")
    acquired_credit: Number
    signup_credit: Number
    referral_program: Program
    entries: list[Entry]
    next: int | None = Field(description="What to ask for `before`, where there are more.")


class RefusedEmail(BaseModel):
    """An address that was not noted, and why."""

    model_config = example(email="carla@example.com", reason="indicated")

    email: str
    reason: Literal["invalid", "own", "indicated"]


class Indicated(BaseModel):
    """Which addresses are noted as this member's, and which are not."""

    model_config = example(saved_emails=["bert@example.com"], refused=[])

    saved_emails: list[str]
    refused: list[RefusedEmail]


class Verified(BaseModel):
    """The hash of who has indicated each address first, or false."""

    model_config = example(emails={"bert@example.com": "anna-7", "carla@example.com": False})

    emails: dict[str, str | Literal[False]]


class Endpoint(BaseModel):
    """An address, and what it may be called with."""

    model_config = example(
        name="program", methods=["GET", "POST"], url="https://shop.example/api/referrals/program/"
    )

    name: str
    methods: list[str]
    url: str


class Index(BaseModel):
    """What there is."""

    model_config = example(version="1", endpoints=[])

    version: str
    endpoints: list[Endpoint]


class Health(BaseModel):
    """The service and its database answer."""

    model_config = example(status="ok")

    status: Literal["ok"]


class Problem(AnyProblem):
    """Why something was not done."""

    model_config = example(
        type="about:blank",
        title="Bad Request",
        status=400,
        detail="credit_value: must not be below zero",
        code="invalid-program",
        error="credit_value: must not be below zero",
        errors=[{"field": "credit_value", "message": "must not be below zero"}],
    )

    error: str = Field(description="The same as `detail`, where the predecessor had it.")
