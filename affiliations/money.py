"""Exact amounts of money: integers of minor units in one ISO 4217 currency."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import total_ordering
from types import MappingProxyType
from typing import Any

from .exceptions import InvalidMoney, InvalidShares

__all__ = ["DECIMAL_PLACES", "MAX_MINOR", "Money", "apportion", "in_words", "major", "number"]

# ISO 4217 list one, amendments to the end of 2025, without the codes that have no minor unit
# (metals, SDR, test codes). A code that ISO withdraws later stays: rows may hold it.
_CODES_BY_PLACES = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD
    CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS
    GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD
    LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB
    PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP
    SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW
    ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

#: How many decimal places the major unit of each currency has.
DECIMAL_PLACES: Mapping[str, int] = MappingProxyType(
    {code: places for places, codes in _CODES_BY_PLACES.items() for code in codes.split()}
)

#: The largest amount in minor units: what every database's bigint holds on both sides of zero.
MAX_MINOR = 2**63 - 1
_DIGITS = len(str(MAX_MINOR))
_PLAIN = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)


def _places(currency: Any) -> int:
    if not isinstance(currency, str) or currency not in DECIMAL_PLACES:
        raise InvalidMoney(f"currency: {currency!r:.40} is not an ISO 4217 code in capitals")
    places: int = DECIMAL_PLACES[currency]
    return places


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@total_ordering
@dataclass(frozen=True, slots=True)
class Money:
    """An amount of `minor` units (cents, yen, fils) of a currency.

    Raises InvalidMoney, naming the field. Zero is as true as any other amount, so that
    `if money:` asks whether there is one.
    """

    minor: int
    currency: str

    def __post_init__(self) -> None:
        if not _is_int(self.minor):
            raise InvalidMoney(f"minor: must be an int, not {type(self.minor).__name__}")
        if abs(self.minor) > MAX_MINOR:
            raise InvalidMoney("minor: must be between -2**63 and 2**63, both excluded")
        _places(self.currency)

    @classmethod
    def of(cls, amount: Decimal | int | str, currency: str) -> Money:
        """Return `amount` major units ("12.50") of `currency`, in capitals or not.

        Nothing is rounded: decimal places beyond the currency's may only be zeros. Raises
        InvalidMoney, for a float too, whose cents are not exact.
        """
        if isinstance(currency, str):
            currency = currency.upper()
        places = _places(currency)
        sign, digits, _ = figures = number(amount).as_tuple()
        power = int(figures.exponent)
        if any(digits) and len(digits) + power > _DIGITS:
            raise InvalidMoney("amount: is too large")
        shift = power + places
        cut = shift if shift < 0 else len(digits)
        if any(digits[cut:]):
            raise InvalidMoney(f"amount: {currency} has {places} decimal places, not more")
        whole = int("".join(map(str, digits[:cut])) or "0")
        minor = whole * 10**shift if whole and shift > 0 else whole
        return cls(-minor if sign else minor, currency)

    @property
    def amount(self) -> Decimal:
        """The amount in major units, with all the decimal places of the currency."""
        return major(self.minor, self.currency)

    def __str__(self) -> str:
        return in_words(self.minor, self.currency)

    def __add__(self, other: Money) -> Money:
        if not isinstance(other, Money):
            return NotImplemented
        return Money(self.minor + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        if not isinstance(other, Money):
            return NotImplemented
        return Money(self.minor - self._same(other), self.currency)

    def __neg__(self) -> Money:
        return Money(-self.minor, self.currency)

    def __lt__(self, other: Money) -> bool:
        if not isinstance(other, Money):
            return NotImplemented
        return self.minor < self._same(other)

    def _same(self, other: Money) -> int:
        if other.currency != self.currency:
            raise InvalidMoney(f"currency: {self.currency} and {other.currency} do not mix")
        return other.minor


def major(minor: int, currency: str) -> Decimal:
    """Return minor units of a currency in major ones, also a sum that is larger than any Money."""
    # From text, because arithmetic would round to the precision of the caller's context.
    return Decimal(f"{minor}E-{DECIMAL_PLACES[currency]}")


def in_words(minor: int, currency: str) -> str:
    """Return minor units as "12.50 EUR", also a sum that is larger than any Money."""
    return f"{major(minor, currency):f} {currency}"


def number(amount: Any) -> Decimal:
    """Return what an amount is as a number, of whatever currency; raises InvalidMoney."""
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int | str):
        raise InvalidMoney(
            f"amount: must be a Decimal, an int or a str, not {type(amount).__name__}"
        )
    # Decimal itself would also take "1_000", "１２", "1e9" and blanks.
    if isinstance(amount, str) and not _PLAIN.fullmatch(amount):
        raise InvalidMoney(f"amount: {amount!r:.40} is not a number such as 12.50")
    found = Decimal(amount)
    if not found.is_finite():
        raise InvalidMoney(f"amount: {found} is not an amount")
    return found


def apportion(total: int, weights: Sequence[int | Fraction | Decimal]) -> list[int]:
    """Divide `total` (minor units) by `weights`; the parts sum to `total` exactly.

    Largest remainder (Hamilton's method): each part is its quota rounded towards zero, and
    what is left goes, a unit each, to the largest remainders, the earlier of two equal ones
    first. A part so differs from its quota by less than one unit. Raises InvalidShares.
    """
    if not _is_int(total):
        raise InvalidShares(f"total: must be an int, not {type(total).__name__}")
    parts = [_weight(weight) for weight in weights]
    whole = sum(parts)
    if not whole:
        raise InvalidShares("weights: at least one must be above zero")
    quotas = [abs(total) * part / whole for part in parts]
    floors = [int(quota) for quota in quotas]
    left = abs(total) - sum(floors)
    by_remainder = sorted(range(len(parts)), key=lambda i: floors[i] - quotas[i])
    for i in by_remainder[:left]:
        floors[i] += 1
    return [-part for part in floors] if total < 0 else floors


def _weight(weight: Any) -> Fraction:
    if isinstance(weight, bool) or not isinstance(weight, int | Fraction | Decimal):
        raise InvalidShares(
            f"weights: must be int, Fraction or Decimal, not {type(weight).__name__}"
        )
    if isinstance(weight, Decimal) and not weight.is_finite():
        raise InvalidShares(f"weights: {weight} is not a weight")
    if weight < 0:
        raise InvalidShares("weights: must not be negative")
    return Fraction(weight)
