"""Amounts, as people write and read them: in major units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from ..exceptions import InvalidMoney
from ..money import DECIMAL_PLACES, Money
from .lists import NOTHING


def amount(minor: int, currency: str) -> str:
    """Return an amount as `Money` writes it, also one that is larger than any Money."""
    places = DECIMAL_PLACES.get(currency)
    if places is None:
        return f"{minor} {currency} ({_('in minor units')})"
    return f"{Decimal(f'{minor}E-{places}'):f} {currency}"


def amounts(totals: Mapping[str, int]) -> str:
    """Return the sums of several currencies in a line."""
    shown = [amount(minor, currency) for currency, minor in sorted(totals.items())]
    return ", ".join(shown) or NOTHING


def columns(values: Sequence[int], currency: str) -> list[int]:
    """Return amounts of minor units as whole major ones to be drawn, none as nothing."""
    return [math.ceil(Decimal(f"{each}E-{DECIMAL_PLACES.get(currency, 0)}")) for each in values]


def written(text: str, currency: str) -> Money:
    """Return what somebody wrote into a form; raises ValidationError where it is no amount."""
    try:
        return Money.of(text, currency)
    except InvalidMoney as error:
        raise ValidationError(str(error).partition(": ")[2], code=error.code) from error
