"""Lay reports out for people: partners with their names, amounts in major units."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from ..models import Partner
from ..money import DECIMAL_PLACES, in_words

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Laid", "credits_of", "durations_of", "names_of", "paths_of"]

#: Of credits, which are sums of fractions: what a float still holds exactly enough.
DIGITS = 6
ARROW = " > "

Row = dict[str, Any]


class Laid(NamedTuple):
    """A heading, and rows of as many cells."""

    heading: list[str]
    rows: list[list[Any]]


def names_of(labels: Iterable[str | None]) -> dict[str, str]:
    """Return the names of the partners with these ids in links: one query."""
    uids = {each for each in labels if each is not None}
    found = Partner.objects.filter(uid__in=uids).order_by()
    return dict(found.values_list("uid", "name")) if uids else {}


def credits_of(found: pa.Table, by: str, *, spoken: bool = False) -> Laid:
    """Lay out what `attribute` has found; with `spoken` an amount is one cell, with its currency.

    Where it is by partner, their names are a column of their own.
    """
    rows = found.to_pylist()
    names = names_of(row["label"] for row in rows) if by == "partner" else None
    return Laid(
        [
            "model",
            by,
            *([] if names is None else ["name"]),
            "conversions",
            *_money(spoken),
            "paths",
            "touchpoints",
            "effect",
        ],
        [
            [
                row["model"],
                row["label"],
                *([] if names is None else [names.get(row["label"], "")]),
                round(row["conversions"], DIGITS),
                *_worth(row, spoken),
                row["paths"],
                row["touchpoints"],
                None if row["effect"] is None else round(row["effect"], DIGITS),
            ]
            for row in rows
        ],
    )


def paths_of(found: pa.Table, by: str, *, spoken: bool = False) -> Laid:
    """Lay out what `top_paths` has found, in the same way."""
    rows = found.to_pylist()
    names = {}
    if by == "partner":
        names = names_of(label for row in rows for label in row["path"])
    return Laid(
        ["path", "conversions", *_money(spoken)],
        [
            [
                ARROW.join(_called(label, names) for label in row["path"]),
                row["conversions"],
                *_worth(row, spoken),
            ]
            for row in rows
        ],
    )


def durations_of(found: pa.Table) -> Laid:
    """Lay out what `durations` has found."""
    heading = ["days", "conversions", "touchpoints"]
    return Laid(heading, [[row[name] for name in heading] for row in found.to_pylist()])


def _called(label: str | None, names: dict[str, str]) -> str:
    if label is None:
        return "none"
    return f"{names[label]} ({label})" if label in names else label


def _money(spoken: bool) -> list[str]:
    return ["amount"] if spoken else ["currency", "amount"]


def _worth(row: Row, spoken: bool) -> list[Any]:
    minor, currency = row["amount_minor"], row["currency"]
    if minor is None or currency is None:
        return [None] if spoken else [None, None]
    places = DECIMAL_PLACES.get(currency)
    if not spoken:
        return [currency, Decimal(f"{minor}E-{places or 0}")]
    # Of a currency that other software has written it is not known how many places it has.
    return [f"{minor} {currency} (in minor units)" if places is None else in_words(minor, currency)]
