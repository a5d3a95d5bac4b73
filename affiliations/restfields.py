"""What the fields of the REST APIs are made of: exact amounts, moments, and text that can be kept.

It needs django-ninja, as the APIs do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from django.conf import settings
from django.utils import timezone
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

__all__ = [
    "Amount",
    "AnyProblem",
    "Currency",
    "FieldError",
    "Moment",
    "OptionalAmount",
    "ShownMoment",
    "Told",
    "example",
    "or_none",
    "printable",
    "text",
]


def _as_text(value: Any) -> Any:
    """Take a number for its digits: many shops count their items, orders and users."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return format(value, "f" if isinstance(value, Decimal) else "d")
    return value


def printable(value: str) -> str:
    """Refuse text with characters that cannot be seen."""
    if not value.isprintable():
        raise ValueError("must not contain control characters")
    return value


def text(*, least: int, most: int, number: str) -> Any:
    """Return what text of some characters is annotated with; a `number` may be in its place."""
    schema = {"type": "string", "minLength": least, "maxLength": most}
    return (
        BeforeValidator(_as_text),
        StringConstraints(strip_whitespace=True, min_length=least, max_length=most),
        AfterValidator(printable),
        WithJsonSchema({"anyOf": [schema, {"type": number}]}),
    )


def _amount(value: Any) -> Decimal | int | str | None:
    if value is None or value == "":  # a field of a form that was left empty
        return None
    # Money itself says what is wrong with the rest, and no float ever comes here.
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        raise ValueError("must be a number such as 12.50")
    return value


def _needed(value: Decimal | int | str | None) -> Decimal | int | str:
    if value is None:
        raise ValueError("must be a number such as 12.50")
    return value


def or_none(value: Any) -> Any:
    """Take a field of a form that was left empty for none."""
    return None if value == "" else value


def _within_reason(moment: datetime) -> datetime:
    # Outside of these no time zone's clock, or no database, could show it.
    if not 2000 <= moment.year < 9999:
        raise ValueError("must be between the years 2000 and 9998")
    return moment.astimezone(UTC) if settings.USE_TZ else timezone.make_naive(moment)


def _in_utc(moment: datetime) -> datetime:
    return (timezone.make_aware(moment) if timezone.is_naive(moment) else moment).astimezone(UTC)


NUMBER: list[dict[str, Any]] = [
    {"type": "number"},
    {"type": "string", "pattern": r"^[+-]?[0-9]+(\.[0-9]+)?$", "maxLength": 40},
]
OptionalAmount = Annotated[
    Decimal | int | str | None,
    PlainValidator(_amount),
    WithJsonSchema({"anyOf": [*NUMBER, {"type": "null"}]}),
]
Amount = Annotated[
    Decimal | int | str,
    PlainValidator(_amount),
    AfterValidator(_needed),
    WithJsonSchema({"anyOf": NUMBER}),
]
Moment = Annotated[
    AwareDatetime | None,
    BeforeValidator(or_none),
    AfterValidator(lambda moment: moment and _within_reason(moment)),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),
]
#: A moment in an answer: with a zone, also where the site has local time.
ShownMoment = Annotated[datetime, AfterValidator(_in_utc)]
Currency = Annotated[str, StringConstraints(pattern="^([A-Za-z]{3})?$")]


class Told(BaseModel):
    """The base of what the API is told: a field that nobody knows may be a misspelt floor price."""

    model_config = ConfigDict(extra="forbid")


def example(**fields: Any) -> ConfigDict:
    """Show one in the document."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class FieldError(BaseModel):
    """What is wrong with a field."""

    field: str
    message: str


class AnyProblem(BaseModel):
    """The base of each API's problems."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] = []
