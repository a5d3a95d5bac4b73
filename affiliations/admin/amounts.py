"""Amounts, as people write and read them: in major units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from ..exceptions import InvalidMoney
from ..money import DECIMAL_PLACES, Money
from .lists import NOTHING

#: Of sums in pages; a file for a spreadsheet has a hyphen.
MINUS = "\N{MINUS SIGN}"


def amount(minor: int, currency: str, *, signed: bool = False) -> str:
    """Return an amount as people write it, also one that is larger than any Money.

    With `signed` also what is above zero has its sign.
    """
    sign = MINUS if minor < 0 else "+" if signed and minor > 0 else ""
    places = DECIMAL_PLACES.get(currency)
    if places is None:
        # Written by other software: shown as it is, so that it is noticed.
        return f"{sign}{abs(minor)} {currency} ({_('in minor units')})"
    major = Decimal(f"{abs(minor)}E-{places}")
    written = number_format(major, places, use_l10n=True, force_grouping=True)
    return f"{sign}{written}\N{NO-BREAK SPACE}{currency}"


def told(money: Money | None) -> str:
    """Return the same of Money; nothing of none."""
    return NOTHING if money is None else amount(money.minor, money.currency)


def worth(row: Any) -> str:
    """Return what a row with `amount_minor` and `currency` is worth."""
    return NOTHING if row.amount_minor is None else amount(row.amount_minor, row.currency)


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
