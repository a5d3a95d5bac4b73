"""What the API is told and answers, under the names of Affiliate Hopper's document.

Each field of the document's is taken in snake_case too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    create_model,
)

from ..models.partners import UID_LENGTH
from ..restfields import (
    Amount,
    AnyProblem,
    Currency,
    Moment,
    OptionalAmount,
    Told,
    example,
    text,
)
from . import landing, relay
from .models import Link
from .models.links import MAX_ADDS, MAX_ITEM, MAX_PASSES, MAX_WEIGHT
from .models.transactions import MAX_GIVEN, MAX_ORDER

#: What a field may be called: first the document's name, last the one that services have for it.
NAMES = {
    "amount": ("AmountPaid", "amount_paid", "amount"),
    "callback_url": ("CallbackURL", "callback_url"),
    "floor_price": ("FloorPrice", "floor_price"),
    "ident": ("anonymous_ident", "ident"),
    "landing_page": ("MarketingLandingPage", "marketing_landing_page", "landing_page"),
    "path": ("UniquePath", "unique_path", "path"),
}
MAX_PAGES = 20


def named(field: str, default: Any = ..., **more: Any) -> Any:
    """Declare a field that goes by several names."""
    others = " or ".join(f"`{name}`" for name in NAMES[field][1:])
    description = f"{more.pop('description', '')} Also called {others}.".strip()
    aliases = AliasChoices(*NAMES[field])
    return Field(default, validation_alias=aliases, description=description, **more)


def _as_list(value: Any) -> Any:
    # A form does not tell one from a list of one.
    return [value] if isinstance(value, str) else value


def _as_page(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


Item = Annotated[str, *text(least=1, most=MAX_ITEM, number="integer")]
UserId = Annotated[str, *text(least=1, most=200, number="integer")]
Order = Annotated[str, *text(least=0, most=MAX_ORDER, number="integer")]
Given = Annotated[str, *text(least=0, most=MAX_GIVEN, number="number")]


class OtherPage(Told):
    """Another landing page, and how often it is shown beside the others."""

    url: str = Field(max_length=landing.MAX_LENGTH)
    weight: int = Field(1, ge=1, le=MAX_WEIGHT)


class Generation(Told):
    """The link to be made."""

    model_config = example(
        item_id="course-7",
        MarketingLandingPage="https://shop.example/course",
        CallbackURL="https://example.go2cloud.org/aff_lsr?transaction_id={transaction_id}",
        FloorPrice="10.00",
        currency="EUR",
    )

    item_id: Item
    landing_page: str = named("landing_page", max_length=landing.MAX_LENGTH)
    callback_url: str = named("callback_url", "", max_length=landing.MAX_LENGTH)
    floor_price: OptionalAmount = named("floor_price", None, description="In major units.")
    currency: Currency = Field("", description="An ISO 4217 code; the site's own without one.")
    partner: str = Field(
        "",
        max_length=UID_LENGTH,
        description="Whose link it is, by their id in links. Of a partner's key it is theirs.",
    )
    path: str = named(
        "path", "", max_length=64, description="Chosen by you; unguessable without one."
    )
    expects: str = Field(
        Link._meta.get_field("expects").get_default(),
        max_length=200,
        description="What the network's answer holds only if it accepts.",
    )
    valid_from: Moment = None
    valid_until: Moment = None
    passes: str = Field(
        landing.EVERYTHING,
        max_length=MAX_PASSES,
        description="Names of parameters to pass on, or * for all.",
    )
    adds: str = Field(
        "", max_length=MAX_ADDS, description="Parameters that the landing page gets besides."
    )
    deep_path: str = Field(
        "",
        max_length=landing.MAX_LENGTH,
        description="A path on the landing page's host, to be answered as a signed address.",
    )
    weight: Annotated[int, Field(ge=1, le=MAX_WEIGHT)] = 1
    landing_pages: Annotated[
        list[Annotated[OtherPage, BeforeValidator(_as_page)]],
        BeforeValidator(_as_list),
        Field(max_length=MAX_PAGES, description="Others that some browsers see instead."),
    ] = []


class Deletion(Told):
    """The link to be deleted."""

    model_config = example(UniquePath="WTY76RkB")

    path: str = named("path")


class Acquisition(Told):
    """Which browser turned out to be which user."""

    model_config = example(anonymous_ident="nnKF2tGFpp9NDhBLY3XbzA", user_id=42)

    ident: Annotated[str, StringConstraints(min_length=1, max_length=500)] = named(
        "ident", description="As in the cookie, with its signature or without."
    )
    user_id: UserId


class ItemOfUser(Told):
    """An item and a user."""

    model_config = example(item_id="course-7", user_id=42)

    item_id: Item
    user_id: UserId


class Refund(ItemOfUser):
    """The purchase to be taken back."""

    model_config = example(item_id="course-7", user_id=42, order_id="A-17")

    order_id: Order = ""


if TYPE_CHECKING:
    _GivenFields = Refund
else:
    _GivenFields = create_model(
        "_GivenFields", __base__=Refund, **dict.fromkeys(relay.GIVEN, (Given, ""))
    )


class Completion(_GivenFields):
    """The purchase to be paid out; what else the network is told, by the names it has for it."""

    model_config = example(
        item_id="course-7", user_id=42, AmountPaid="49.90", currency="EUR", order_id="A-17"
    )

    amount: Amount = named("amount", description="In major units.")
    currency: Currency = Field("", description="An ISO 4217 code; the link's own without one.")

    @property
    def given(self) -> dict[str, str]:
        """Values for the network."""
        return {name: text for name in relay.GIVEN if (text := getattr(self, name))}


class Described(BaseModel):
    """A link in the words of the document."""

    model_config = example(
        mlp="https://shop.example/course", item_id="course-7", floor_price="10.00"
    )

    mlp: str
    item_id: str
    floor_price: str = Field(description="In major units, with all their decimal places.")


class Listed(Described):
    """A link among others."""

    UniquePath: str
    CallbackURL: str
    currency: str


class Listing(BaseModel):
    """Some of the links."""

    model_config = example(
        links=[
            {
                "mlp": "https://shop.example/course",
                "item_id": "course-7",
                "floor_price": "10.00",
                "UniquePath": "WTY76RkB",
                "CallbackURL": "",
                "currency": "EUR",
            }
        ],
        next=None,
    )

    links: list[Listed]
    next: int | None = Field(description="What to ask for `after`, where there are more.")


class Generated(Described):
    """A link that was made."""

    model_config = example(
        mlp="https://shop.example/course",
        item_id="course-7",
        floor_price="10.00",
        UniquePath="WTY76RkB",
        currency="EUR",
        url="https://shop.example/router/WTY76RkB",
        deep_link=None,
    )

    UniquePath: str
    currency: str
    url: str | None = Field(description="Where the router leads on from, if there is one here.")
    deep_link: str | None = Field(description="The same for `deep_path`.")


class Acquired(BaseModel):
    """How many transactions are the user's now, and of how many of these the item was bought."""

    model_config = example(acquired=2, fulfilled=1)

    acquired: int
    fulfilled: int


class Valid(BaseModel):
    """Whether there is an open transaction."""

    model_config = example(valid=True)

    valid: bool


class Fulfilled(BaseModel):
    """How many transactions were open."""

    model_config = example(fulfilled=1)

    fulfilled: int


class Completed(BaseModel):
    """Which transaction is paid out."""

    model_config = example(completed=True, transaction=7)

    completed: Literal[True]
    transaction: int


class Refunded(BaseModel):
    """Of which transaction the payout is held back."""

    model_config = example(refunded=True, transaction=7)

    refunded: Literal[True]
    transaction: int


class Problem(AnyProblem):
    """Why something was not done."""

    model_config = example(
        type="about:blank",
        title="Unprocessable Content",
        status=422,
        detail="AmountPaid: must be above zero",
        code="amount-not-positive",
        errors=[{"field": "AmountPaid", "message": "must be above zero"}],
    )
